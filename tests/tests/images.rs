//! Images as `make images` builds them: static, nobody's, small, the same twice, and with their materials listed.

#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};
use vedette_tests::{checkout, prerequisite};

/// Bytes of the agent's image, unpacked.
const MOST_AGENT_BYTES: u64 = 20_000_000;

/// Static programs, which the virtual machine's image is made of; `None`: the test has been skipped and must return.
fn programs() -> Option<PathBuf> {
    let folder = checkout::cache().join("target-static/x86_64-unknown-linux-gnu/release");
    let built = ["vedette-agent", "vedette-range"].iter().all(|name| prerequisite::file(&folder.join(name), "make vm-image"));
    built.then_some(folder)
}

fn build(programs: &Path, out: &Path, names: &[&str]) -> Output {
    let mut command = Command::new("python3");
    command.arg(checkout::root().join("scripts/build-images")).args(names).arg("--programs").arg(programs).arg("--out").arg(out);
    command.env("SOURCE_DATE_EPOCH", "1790000000").output().unwrap()
}

/// The same, which must succeed.
fn built(programs: &Path, out: &Path, names: &[&str]) {
    let output = build(programs, out, names);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// `vedette-NAME-VERSION` with an ending, in a folder.
fn file(out: &Path, name: &str, ending: &str) -> PathBuf {
    out.join(format!("vedette-{name}-{}.{ending}", env!("CARGO_PKG_VERSION")))
}

fn unpack(archive: &Path, into: &Path) {
    fs::create_dir(into).unwrap();
    let status = Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(into).status().unwrap();
    assert!(status.success(), "{}", archive.display());
}

fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let path = layout.join("blobs").join(descriptor["digest"].as_str().unwrap().replace(':', "/"));
    assert_eq!(fs::metadata(&path).unwrap().len(), descriptor["size"].as_u64().unwrap());
    path
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn an_image_is_one_static_program_that_nobody_runs() {
    let Some(programs) = programs() else { return };
    let folder = tempfile::tempdir().unwrap();

    built(&programs, folder.path(), &["agent"]);

    let layout = folder.path().join("layout");
    unpack(&file(folder.path(), "agent", "oci.tar"), &layout);
    let index = read(&layout.join("index.json"));
    let manifest = read(&blob(&layout, &index["manifests"][0]));
    let config = read(&blob(&layout, &manifest["config"]));
    assert_eq!(
        index["manifests"][0]["annotations"]["io.containerd.image.name"],
        concat!("docker.io/library/vedette-agent:", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!((&config["config"]["User"], &config["config"]["Entrypoint"]), (&json!("65532:65532"), &json!(["/vedette-agent"])));
    let root = folder.path().join("root");
    unpack(&blob(&layout, &manifest["layers"][0]), &root);
    let top: BTreeSet<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(top, ["tmp", "var", "vedette-agent"].map(str::to_owned).into());
    let program = root.join("vedette-agent");
    assert!(fs::metadata(&program).unwrap().len() < MOST_AGENT_BYTES, "{} bytes", fs::metadata(&program).unwrap().len());
    // In an empty root it has nothing else to run with.
    let said = Command::new(&program).arg("--version").output().unwrap();
    assert_eq!(String::from_utf8(said.stdout).unwrap(), concat!("vedette-agent ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn docker_finds_the_same_blobs_in_an_archive_as_containerd() {
    let Some(programs) = programs() else { return };
    let folder = tempfile::tempdir().unwrap();

    built(&programs, folder.path(), &["agent"]);

    let archive = file(folder.path(), "agent", "oci.tar");
    let listed = Command::new("tar").arg("-tf").arg(&archive).output().unwrap();
    let names = String::from_utf8(listed.stdout).unwrap();
    let names: Vec<_> = names.lines().collect();
    // containerd decides by the first, docker by the third.
    assert_eq!(names[..4], ["oci-layout", "index.json", "manifest.json", "repositories"], "{names:?}");
    let layout = folder.path().join("layout");
    unpack(&archive, &layout);
    let index = read(&layout.join("index.json"));
    let manifest = read(&blob(&layout, &index["manifests"][0]));
    let within = |descriptor: &Value| blob(&layout, descriptor).strip_prefix(&layout).unwrap().to_str().unwrap().to_owned();
    let layers: Vec<_> = manifest["layers"].as_array().unwrap().iter().map(within).collect();
    let tag = concat!("vedette-agent:", env!("CARGO_PKG_VERSION"));
    assert_eq!(read(&layout.join("manifest.json")), json!([{"Config": within(&manifest["config"]), "RepoTags": [tag], "Layers": layers}]));
    let top = layers.last().unwrap().rsplit('/').next().unwrap();
    assert_eq!(read(&layout.join("repositories")), json!({"vedette-agent": {env!("CARGO_PKG_VERSION"): top}}));
    // What docker unpacks must be what the configuration says it is.
    let config = read(&blob(&layout, &manifest["config"]));
    let root = Command::new("sh").arg("-c").arg("gzip -dc \"$0\" | sha256sum").arg(layout.join(&layers[0])).output().unwrap();
    let sum = String::from_utf8(root.stdout).unwrap().split_whitespace().next().unwrap().to_owned();
    assert_eq!(config["rootfs"]["diff_ids"], json!([format!("sha256:{sum}")]));
    // Nothing lies in it that neither speaks of.
    assert_eq!(names.len(), 4 + 2 + layers.len(), "{names:?}");
}

#[test]
fn the_same_sources_give_the_same_bytes() {
    let Some(programs) = programs() else { return };
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());

    for folder in [&first, &second] {
        built(&programs, folder.path(), &["agent", "range"]);
    }

    for (name, ending) in [("agent", "oci.tar"), ("agent", "cdx.json"), ("range", "oci.tar"), ("range", "cdx.json")] {
        let of = |folder: &tempfile::TempDir| fs::read(file(folder.path(), name, ending)).unwrap();
        assert!(of(&first) == of(&second), "{name}.{ending}");
    }
}

#[test]
fn the_bill_lists_what_is_linked_and_nothing_else() {
    let Some(programs) = programs() else { return };
    let folder = tempfile::tempdir().unwrap();

    built(&programs, folder.path(), &["agent"]);

    let bill = read(&file(folder.path(), "agent", "cdx.json"));
    let components = bill["components"].as_array().unwrap();
    let names: BTreeSet<_> = components.iter().map(|component| component["name"].as_str().unwrap()).collect();
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&json!("CycloneDX"), &json!("1.5")));
    assert_eq!(bill["metadata"]["component"]["name"], "vedette-agent");
    for linked in ["tokio", "tonic", "rustls", "ring", "hickory-resolver", "vedette-proto"] {
        assert!(names.contains(linked), "{linked} is missing");
    }
    for not in ["proptest", "tempfile", "rcgen", "datafusion", "windows-sys", "vedette-agent"] {
        assert!(!names.contains(not), "{not} is not in an agent");
    }
    for component in components {
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
        let ours = component["name"].as_str().unwrap().starts_with("vedette-");
        assert_eq!(component["hashes"].is_null(), ours, "{component}");
    }
}

#[test]
fn a_program_that_needs_libraries_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dynamic = checkout::binary("vedette-agent");

    let output = build(dynamic.parent().unwrap(), folder.path(), &["agent"]);

    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("is not a static program"), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn the_builder_of_others_makes_the_same_images() {
    let text = fs::read_to_string(checkout::root().join("Dockerfile")).unwrap();
    let toolchain: toml::Table = fs::read_to_string(checkout::root().join("rust-toolchain.toml")).unwrap().parse().unwrap();

    for name in ["agent", "aggregator", "range"] {
        let stage =
            format!("FROM scratch AS {name}\nCOPY --from=build /root-of/{name} /\nUSER 65532:65532\nENTRYPOINT [\"/vedette-{name}\"]\n");
        assert!(text.contains(&stage), "{name}");
    }
    let channel = toolchain["toolchain"]["channel"].as_str().unwrap();
    assert!(text.contains(&format!("FROM rust:{channel}-bookworm AS build\n")), "another compiler would be fetched");
    assert!(text.contains(&format!("ENV RUSTUP_TOOLCHAIN={channel}\n")), "its components would be fetched");
    assert!(text.contains("--profile image --locked --target x86_64-unknown-linux-gnu"));
}

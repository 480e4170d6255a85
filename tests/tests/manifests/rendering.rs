//! `install.yaml` is what `base/` says, and kustomize says the same of every folder.

use std::{collections::BTreeMap, path::PathBuf, process::Command};

use serde_json::Value;
use vedette_tests::{checkout, prerequisite};

use super::objects;

/// Every folder that is applied.
pub const FOLDERS: [&str; 6] = ["base", "overlays/openshift", "overlays/monitoring", "lab", "lab/attacks", "lab/seed"];

/// Python with what `make prepare` installs; `None`: the test has been skipped and must return.
pub fn python() -> Option<PathBuf> {
    let python = checkout::cache().join("python/bin/python");
    prerequisite::file(&python, "make prepare").then_some(python)
}

/// What a folder below `manifests/` renders to.
pub fn render(python: &PathBuf, folder: &str) -> String {
    let mut command = Command::new(python);
    command.arg(checkout::root().join("scripts/render-manifests")).arg(checkout::root().join("manifests").join(folder));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{folder}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What kustomize makes of a folder. `None`: this machine has none that is recent enough (fields of the folders here need 4.1).
fn kustomize(folder: &str) -> Option<String> {
    let version = Command::new("kubectl").args(["version", "--client", "-o", "json"]).output().ok()?;
    let version: Value = serde_json::from_slice(&version.stdout).ok()?;
    let major: u32 = version["kustomizeVersion"].as_str()?.trim_start_matches('v').split('.').next()?.parse().ok()?;
    if major < 5 {
        return None;
    }
    let output = Command::new("kubectl").arg("kustomize").arg(checkout::root().join("manifests").join(folder)).output().ok()?;
    assert!(output.status.success(), "{folder}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

fn by_title(text: &str) -> BTreeMap<String, Value> {
    let objects = objects::parse(text);
    let count = objects.len();
    let named: BTreeMap<_, _> = objects.into_iter().map(|object| (objects::title(&object), object)).collect();
    assert_eq!(named.len(), count, "two objects have the same name");
    named
}

#[test]
fn the_file_to_install_is_a_fresh_rendering_of_the_base() {
    let Some(python) = python() else { return };

    let fresh = render(&python, "base");

    let shipped = objects::text("manifests/install.yaml");
    let (header, rest) = shipped.split_once('\n').unwrap();
    assert!(header.starts_with("# Rendered from manifests/base"), "{header}");
    assert!(rest == fresh, "manifests/install.yaml is not what manifests/base says: run make manifests");
}

#[test]
fn kustomize_renders_the_same_objects() {
    let Some(python) = python() else { return };
    for folder in FOLDERS {
        let Some(theirs) = kustomize(folder) else {
            // No registry has kustomize, so its absence is not a fault of the machine.
            eprintln!("not compared: no kubectl with kustomize 5 here");
            return;
        };

        let (ours, theirs) = (by_title(&render(&python, folder)), by_title(&theirs));

        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{folder}");
        for (title, object) in &ours {
            assert_eq!(object, &theirs[title], "{folder}: {title}");
        }
    }
}

#[test]
fn the_renderer_refuses_what_it_does_not_know() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("kustomization.yaml"), "resources: []\nnamePrefix: my-\n").unwrap();

    let output = Command::new(python).arg(checkout::root().join("scripts/render-manifests")).arg(folder.path()).output().unwrap();

    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.ends_with("kustomization.yaml: namePrefix is not known to this renderer\n"), "{said}");
}

//! `install.yaml` is what `base/` says, and kustomize says the same of every folder.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use vedette_tests::{checkout, prerequisite};

use super::objects;

/// Every folder that is applied.
pub const FOLDERS: [&str; 10] = [
    "base",
    "overlays/openshift",
    "overlays/monitoring",
    "overlays/minikube",
    "overlays/selinux",
    "overlays/lab",
    "overlays/example",
    "lab",
    "lab/attacks",
    "lab/seed",
];

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

/// A kubectl with kustomize 5 or later; `None`: neither `make prepare` nor anybody else has installed one.
fn kubectl() -> Option<PathBuf> {
    [checkout::cache().join("kubectl/kubectl"), PathBuf::from("kubectl")].into_iter().find(|kubectl| {
        let version = Command::new(kubectl).args(["version", "--client", "-o", "json"]).output();
        let version = version.ok().and_then(|output| serde_json::from_slice::<Value>(&output.stdout).ok()).unwrap_or_default();
        let version = version["kustomizeVersion"].as_str().unwrap_or_default().trim_start_matches('v').to_owned();
        version.split('.').next().and_then(|major| major.parse().ok()).is_some_and(|major: u32| major >= 5)
    })
}

/// What kustomize makes of a folder.
fn kustomize(kubectl: &Path, folder: &str) -> String {
    let output = Command::new(kubectl).arg("kustomize").arg(checkout::root().join("manifests").join(folder)).output().unwrap();
    assert!(output.status.success(), "{folder}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
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
    let Some(kubectl) = kubectl() else {
        prerequisite::skip("there is no kubectl with kustomize 5 (make prepare)");
        return;
    };
    for folder in FOLDERS {
        let (ours, theirs) = (by_title(&render(&python, folder)), by_title(&kustomize(&kubectl, folder)));

        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{folder}");
        for (title, object) in &ours {
            assert_eq!(object, &theirs[title], "{folder}: {title}");
        }
    }
}

/// What the renderer says of a folder with this kustomization, which it must refuse.
fn refusal(python: &PathBuf, kustomization: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("kustomization.yaml"), kustomization).unwrap();
    let output = Command::new(python).arg(checkout::root().join("scripts/render-manifests")).arg(folder.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{kustomization}");
    said.split_once("kustomization.yaml: ").unwrap_or_else(|| panic!("{said}")).1.to_owned()
}

#[test]
fn the_renderer_refuses_what_it_does_not_know() {
    let Some(python) = python() else { return };
    let plain = "kind: Kustomization\n";
    let generator = "configMapGenerator:\n- {name: x, namespace: y, files: [], behavior: replace}\n";

    assert_eq!(refusal(&python, &format!("{plain}namePrefix: my-\n")), "namePrefix is not known to this renderer\n");
    assert_eq!(refusal(&python, &format!("{plain}{generator}")), "ConfigMap x is not there (behavior replace)\n");
    assert_eq!(refusal(&python, "kind: Component\n"), "a Component does not belong here\n");
}

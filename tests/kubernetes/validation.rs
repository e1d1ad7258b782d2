//! The API server takes every manifest, and so do the schemas of recent releases.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::harness::*;

/// The base alone, the base with each component and with some together, the drop-in with its certificates, and Bitnami's
/// shape under its patch.
fn everything() -> Vec<Overlay> {
    let mut overlays = vec![Overlay::base(), bitnami()];
    let drop_in = ["", "/issuer.yaml", "/certificates.yaml"];
    overlays.extend(drop_in.map(|file| Overlay::of(&format!("manifests/drop-in{file}"))));
    overlays.extend(TOGETHER.iter().map(|components| together(components)));
    let components = std::fs::read_dir("manifests/components").unwrap();
    overlays.extend(components.map(|entry| Overlay::base().component(&entry.unwrap().file_name().to_string_lossy())));
    overlays
}

fn bitnami() -> Overlay {
    let patch = std::fs::read_to_string("manifests/drop-in/bitnami.yaml").unwrap();
    // kubectl is told what to patch; kustomize wants it in the patch.
    let head = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata:\n  name: etcd\n";
    Overlay::of("tests/kubernetes/bitnami.yaml").patch(&format!("{head}{patch}"))
}

/// Components that go together, in an order that works.
const TOGETHER: [&[&str]; 6] = [
    &["cert-manager", "wal-volume", "sidecar"],
    &["cert-manager", "wal-volume", "render"],
    &["metrics", "network-policy", "zones", "sidecar"],
    &["cert-manager", "wal-volume", "ordered-ready", "install"],
    &["install", "ordered-ready", "wal-volume", "cert-manager"],
    &["cert-manager", "wal-volume", "ordered-ready"],
];

/// Components of which one would break the other without a word.
const REFUSED: [&[&str]; 11] = [
    &["sidecar", "cert-manager"],
    &["render", "cert-manager"],
    &["sidecar", "wal-volume"],
    &["render", "wal-volume"],
    &["sidecar", "ordered-ready"],
    &["render", "ordered-ready"],
    &["ordered-ready", "sidecar"],
    &["ordered-ready", "render"],
    &["sidecar", "render"],
    &["render", "sidecar"],
    &["sidecar", "install"],
];

fn together(components: &[&str]) -> Overlay {
    components.iter().fold(Overlay::base(), |overlay, component| overlay.component(component))
}

fn has_kubectl() -> bool {
    let has = kubectl(&["version", "--client"], "").is_ok();
    if !has {
        println!("SKIPPED: kubectl is not on the PATH; it puts manifests and components together");
    }
    has
}

/// A container of the StatefulSet that kustomize has made of these components.
fn container(components: &[&str], list: &str, name: &str) -> Value {
    let built = together(components).build("validation-together");
    let stateful_set = built.split("\n---\n").find(|text| text.contains("kind: StatefulSet\n")).unwrap();
    let stateful_set: Value = serde_yaml_ng::from_str(stateful_set).unwrap();
    let containers = stateful_set["spec"]["template"]["spec"][list].as_array().unwrap();
    containers.iter().find(|container| container["name"] == name).unwrap().clone()
}

/// Name and value of each variable, or path of each mount.
fn names(container: &Value, list: &str, key: &str) -> BTreeSet<String> {
    let items = container[list].as_array().into_iter().flatten();
    items.filter_map(|item| item[key].as_str().map(str::to_owned)).collect()
}

#[test]
fn what_decides_gets_all_that_other_components_set() {
    if !has_kubectl() {
        return;
    }
    for (component, decider) in [("sidecar", "etcd-bootstrap"), ("render", "render")] {
        let plain = ["cert-manager", "wal-volume"];
        let with = ["cert-manager", "wal-volume", component];
        let entrypoint = container(&plain, "containers", "etcd");
        let decider = container(&with, "initContainers", decider);
        assert_eq!(decider["env"], entrypoint["env"], "{component}: the settings are the entrypoint's");
        let mut mounts = names(&entrypoint, "volumeMounts", "mountPath");
        mounts.insert("/config".to_owned());
        assert_eq!(names(&decider, "volumeMounts", "mountPath"), mounts, "{component}");
        let etcd = container(&with, "containers", "etcd");
        assert_eq!(names(&etcd, "volumeMounts", "mountPath"), mounts, "{component}");
        assert_eq!(etcd["command"][0], "/usr/local/bin/etcd");
        assert!(decider["image"].as_str().unwrap().starts_with("etcd-bootstrap-binary"), "{component}: no etcd in it");
    }
    for order in [["install", "ordered-ready"], ["ordered-ready", "install"]] {
        let etcd = container(&order, "containers", "etcd");
        let path = etcd["env"].as_array().unwrap().iter().find(|variable| variable["name"] == "PATH").unwrap();
        assert!(path["value"].as_str().unwrap().ends_with(":/program"), "the probe finds its program");
        assert_eq!(etcd["readinessProbe"]["exec"]["command"][0], "etcd-bootstrap");
        assert_eq!(etcd["command"][0], "/program/etcd-bootstrap");
    }
}

#[test]
fn components_that_would_break_each_other_silently_are_refused() {
    if !has_kubectl() {
        return;
    }
    for components in REFUSED {
        let error = together(components).try_build("validation-refused").unwrap_err();
        assert!(error.contains("test failed"), "{components:?}: {error}");
    }
}

#[test]
fn the_api_server_accepts_every_manifest() {
    let Some(_cluster) = cluster() else { return };
    let space = Space::new("validation");
    for overlay in everything() {
        let manifests = overlay.build(&space.namespace);
        let args = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"];
        kubectl(&args, &manifests).unwrap_or_else(|error| panic!("{overlay:?}: {error}"));
    }
}

/// Without a cluster: the schemas of Kubernetes' recent releases come with a package of PyPI.
#[test]
fn the_schemas_of_recent_releases_accept_every_manifest() {
    if !has_kubectl() {
        return;
    }
    let python = validator();
    let list = "import kubernetes_validate as k, os; \
                print(os.path.join(os.path.dirname(k.__file__), 'kubernetes-json-schema'))";
    let schemas = python3(&python, &["-c", list]);
    let mut releases: Vec<(u32, u32)> = std::fs::read_dir(schemas.trim())
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().ok()?;
            let mut parts = name.strip_prefix('v')?.split('.');
            Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
        })
        .collect();
    releases.sort_unstable();
    releases.dedup();
    // What the base has is there once for each component: once is enough.
    let built: Vec<String> = everything().iter().map(|overlay| overlay.build("validation-offline")).collect();
    let manifests: BTreeSet<&str> = built.iter().flat_map(|text| text.split("\n---\n")).map(str::trim).collect();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kubernetes/manifests.yaml");
    std::fs::write(&file, manifests.iter().copied().collect::<Vec<_>>().join("\n---\n")).unwrap();
    assert!(releases.len() >= 4, "{releases:?}");
    for (major, minor) in releases.iter().rev().take(4) {
        let release = format!("{major}.{minor}");
        let file = file.to_string_lossy();
        python3(&python, &["-m", "kubernetes_validate", "--strict", "--quiet", "--no-warn", "-k", &release, &file]);
        println!("{} manifests pass the schemas of Kubernetes {release}, which has none for CRDs", manifests.len());
    }
}

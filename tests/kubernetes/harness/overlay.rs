//! A kustomization as a user would write one: manifests/, components, and the images under test.

use std::fs;
use std::path::PathBuf;

use super::kubectl::kubectl;

/// The stock etcd image of this number in ETCD_IMAGES.
pub fn stock_image(number: usize) -> String {
    let images = std::env::var("ETCD_IMAGES").unwrap_or_else(|_| "etcd:v3.6.16 etcd:v3.7.3".to_owned());
    let image = images.split_whitespace().nth(number);
    image.unwrap_or_else(|| panic!("ETCD_IMAGES has no image {number}: {images}")).to_owned()
}

#[derive(Clone, Debug)]
pub struct Overlay {
    resource: String,
    components: Vec<String>,
    patches: Vec<String>,
    etcd: usize,
}

impl Overlay {
    /// A folder or file below the repository.
    pub fn of(resource: &str) -> Self {
        Self { resource: resource.to_owned(), components: Vec::new(), patches: Vec::new(), etcd: 0 }
    }

    pub fn base() -> Self {
        Self::of("manifests/base")
    }

    pub fn component(mut self, name: &str) -> Self {
        self.components.push(name.to_owned());
        self
    }

    /// With the etcd of this number in ETCD_IMAGES.
    pub fn etcd(mut self, number: usize) -> Self {
        self.etcd = number;
        self
    }

    /// A strategic merge patch or a JSON patch of the StatefulSet.
    pub fn patch(mut self, patch: &str) -> Self {
        self.patches.push(patch.to_owned());
        self
    }

    /// A variable of the container `etcd`.
    pub fn env(self, name: &str, value: &str) -> Self {
        let variable = format!(r#"{{"name": "{name}", "value": "{value}"}}"#);
        self.container(&format!(r#""env": [{variable}]"#))
    }

    /// Fields of the container `etcd`, as JSON.
    pub fn container(self, fields: &str) -> Self {
        self.spec(&format!(r#""template": {{"spec": {{"containers": [{{"name": "etcd", {fields}}}]}}}}"#))
    }

    /// Fields of the StatefulSet's spec, as JSON.
    pub fn spec(self, fields: &str) -> Self {
        let head = r#""apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "etcd"}"#;
        self.patch(&format!(r#"{{{head}, "spec": {{{fields}}}}}"#))
    }

    /// What kustomize makes of it in this namespace.
    pub fn build(&self, namespace: &str) -> String {
        self.try_build(namespace).unwrap_or_else(|error| panic!("{self:?}: {error}"))
    }

    /// The same, or why kustomize refuses it.
    pub fn try_build(&self, namespace: &str) -> Result<String, String> {
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/kubernetes").join(namespace);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("kustomization.yaml"), self.kustomization(namespace)).unwrap();
        kubectl(&["kustomize", "--load-restrictor=LoadRestrictionsNone", &directory.to_string_lossy()], "")
    }

    fn kustomization(&self, namespace: &str) -> String {
        let stock = stock_image(self.etcd);
        let (stock_name, stock_tag) = stock.rsplit_once(':').expect("an image with a tag");
        let mut text = format!("namespace: {namespace}\nresources: [../../../{}]\n", self.resource);
        text += "components:\n";
        for component in &self.components {
            text += &format!("- ../../../manifests/components/{component}\n");
        }
        text += &format!(
            "images:\n- {{name: etcd-bootstrap, newName: etcd-bootstrap-test, newTag: '{}'}}\n\
             - {{name: etcd-bootstrap-binary, newName: etcd-bootstrap-binary, newTag: test}}\n\
             - {{name: etcd, newName: {stock_name}, newTag: {stock_tag}}}\npatches:\n",
            self.etcd
        );
        for patch in &self.patches {
            text +=
                &format!("- {{target: {{kind: StatefulSet}}, patch: {}}}\n", serde_json::Value::from(patch.as_str()));
        }
        text
    }
}

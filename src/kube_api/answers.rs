//! What is read of the API's objects; everything else in them is passed over.

use serde::Deserialize;

/// `autoscaling/v1` Scale.
#[derive(Deserialize)]
pub(super) struct Scale {
    pub(super) spec: ScaleSpec,
}

#[derive(Deserialize)]
pub(super) struct ScaleSpec {
    /// Left out where it is 0.
    #[serde(default)]
    pub(super) replicas: u32,
}

/// `apps/v1` StatefulSet.
#[derive(Deserialize)]
pub(super) struct StatefulSet {
    spec: StatefulSetSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatefulSetSpec {
    replicas: Option<u32>,
    pod_management_policy: Option<String>,
    ordinals: Option<Ordinals>,
    #[serde(default)]
    volume_claim_templates: Vec<Object>,
}

#[derive(Deserialize)]
struct Ordinals {
    #[serde(default)]
    start: u32,
}

impl StatefulSet {
    pub(super) fn is_parallel(&self) -> bool {
        self.spec.pod_management_policy.as_deref() == Some("Parallel")
    }

    pub(super) fn replicas(&self) -> u32 {
        self.spec.replicas.unwrap_or(1)
    }

    pub(super) fn ordinal_start(&self) -> u32 {
        self.spec.ordinals.as_ref().map(|ordinals| ordinals.start).unwrap_or_default()
    }

    pub(super) fn claim_templates(&self) -> Vec<&str> {
        self.spec.volume_claim_templates.iter().map(|template| template.metadata.name.as_str()).collect()
    }
}

/// A list of `v1` PersistentVolumeClaims, whole or names only.
#[derive(Deserialize)]
pub(super) struct ClaimList {
    #[serde(default)]
    metadata: ListMetadata,
    items: Vec<Object>,
}

#[derive(Default, Deserialize)]
struct ListMetadata {
    #[serde(default, rename = "continue")]
    next: String,
}

#[derive(Deserialize)]
struct Object {
    metadata: ObjectMetadata,
}

#[derive(Deserialize)]
struct ObjectMetadata {
    name: String,
}

impl ClaimList {
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.items.iter().map(|claim| claim.metadata.name.as_str())
    }

    /// Where the next page begins; letters, digits, `-` and `_` as the API makes it.
    pub(super) fn next(&self) -> Option<&str> {
        Some(self.metadata.next.as_str()).filter(|next| !next.is_empty())
    }
}

/// `v1` Status: why something was refused.
#[derive(Deserialize)]
pub(super) struct Status {
    #[serde(default)]
    pub(super) message: String,
}

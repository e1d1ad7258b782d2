//! Zones for nodes that have none: kind gives them none, and pods that are spread over zones go nowhere else.

use std::collections::BTreeSet;

use serde_json::Value;

use super::kubectl::{kubectl, kubectl_json};
use super::pods::Pod;

const ZONE: &str = "topology.kubernetes.io/zone";

/// Takes the labels that were given away again.
pub struct Zones {
    given: Vec<String>,
    /// How many there are.
    pub count: usize,
}

impl Zones {
    /// Each node that is in none becomes one.
    pub fn ensure() -> Self {
        let nodes = kubectl_json(&["get", "nodes"]).unwrap();
        let nodes: Vec<&Value> = nodes["items"].as_array().into_iter().flatten().collect();
        let mut zones = Self { given: Vec::new(), count: 0 };
        let mut names = BTreeSet::new();
        for node in nodes {
            let name = node["metadata"]["name"].as_str().unwrap();
            let zone = node["metadata"]["labels"][ZONE].as_str();
            names.insert(zone.unwrap_or(name).to_owned());
            if zone.is_none() {
                kubectl(&["label", "node", name, &format!("{ZONE}={name}")], "").unwrap();
                zones.given.push(name.to_owned());
            }
        }
        zones.count = names.len();
        zones
    }

    /// The zones that these pods are in.
    pub fn of(pods: &[Pod]) -> BTreeSet<String> {
        let zone = |pod: &Pod| {
            let node = kubectl_json(&["get", "node", &pod.node().unwrap()]).unwrap();
            node["metadata"]["labels"][ZONE].as_str().unwrap_or_default().to_owned()
        };
        pods.iter().map(zone).collect()
    }
}

impl Drop for Zones {
    fn drop(&mut self) {
        for node in &self.given {
            if let Err(error) = kubectl(&["label", "node", node, &format!("{ZONE}-")], "") {
                println!("{error}");
            }
        }
    }
}

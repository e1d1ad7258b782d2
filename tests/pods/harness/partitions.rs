//! Which pods cannot reach each other, kept as routing rules of the node that drop silently.
//!
//! A partition is between pods, so it holds over their restarts with new addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::netns::Netns;
use super::network::ip_rule_batch;

const PREFERENCE: u32 = 100;

/// A pod for good, whatever its address.
pub type PodId = u32;

#[derive(Default)]
pub struct Partitions {
    addresses: BTreeMap<PodId, Vec<IpAddr>>,
    cut_from_all: BTreeSet<PodId>,
    cut_pairs: BTreeSet<(PodId, PodId)>,
    installed: BTreeSet<String>,
}

impl Partitions {
    /// The pod's present addresses (none once it is gone).
    pub fn set_addresses(&mut self, pod: PodId, addresses: Vec<IpAddr>) {
        self.addresses.insert(pod, addresses);
    }

    pub fn cut_from_all(&mut self, pod: PodId) {
        self.cut_from_all.insert(pod);
    }

    pub fn cut(&mut self, a: PodId, b: PodId) {
        self.cut_pairs.insert((a.min(b), a.max(b)));
    }

    pub fn join(&mut self, a: PodId, b: PodId) {
        self.cut_pairs.remove(&(a.min(b), a.max(b)));
    }

    /// The pod reaches everybody again.
    pub fn join_all(&mut self, pod: PodId) {
        self.cut_from_all.remove(&pod);
        self.cut_pairs.retain(|&(a, b)| a != pod && b != pod);
    }

    pub fn clear(&mut self) {
        self.cut_from_all.clear();
        self.cut_pairs.clear();
    }

    fn of(&self, pod: PodId) -> &[IpAddr] {
        self.addresses.get(&pod).map_or(&[], Vec::as_slice)
    }

    fn wanted(&self) -> BTreeSet<String> {
        let mut rules = BTreeSet::new();
        for &pod in &self.cut_from_all {
            for address in self.of(pod) {
                rules.insert(format!("from {address}"));
                rules.insert(format!("to {address}"));
            }
        }
        for &(a, b) in &self.cut_pairs {
            for from in self.of(a) {
                for to in self.of(b).iter().filter(|to| to.is_ipv4() == from.is_ipv4()) {
                    rules.insert(format!("from {from} to {to}"));
                    rules.insert(format!("from {to} to {from}"));
                }
            }
        }
        rules
    }

    /// Makes the node's rules what is wanted now.
    pub fn apply(&mut self, node: &Netns) {
        let wanted = self.wanted();
        let line = |verb: &str, rule: &String| format!("rule {verb} pref {PREFERENCE} {rule} blackhole");
        let lines: Vec<String> = wanted
            .difference(&self.installed)
            .map(|rule| line("add", rule))
            .chain(self.installed.difference(&wanted).map(|rule| line("del", rule)))
            .collect();
        node.run(|| ip_rule_batch(&lines)).expect("failed to change the partitions");
        self.installed = wanted;
    }
}

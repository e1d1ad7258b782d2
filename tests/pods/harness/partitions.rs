//! Which pods cannot reach each other, kept as routing rules of the node that drop silently.
//!
//! A partition is between pods, so it holds over their restarts with new addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::netns::Netns;
use super::network::ip_rule_batch;

/// Two preferences, for to the kernel `from A` is there already where `from A to B` is, of the same preference.
const PREFERENCE_ALL: u32 = 100;
const PREFERENCE_PAIR: u32 = 101;

/// A pod for good, whatever its address.
pub type PodId = u32;

#[derive(Default)]
pub struct Partitions {
    addresses: BTreeMap<PodId, Vec<IpAddr>>,
    cut_from_all: BTreeSet<PodId>,
    cut_pairs: BTreeSet<(PodId, PodId)>,
    cut_one_way: BTreeSet<(PodId, PodId)>,
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

    /// What `from` sends does not arrive at `to`; the other way all goes through.
    pub fn cut_one_way(&mut self, from: PodId, to: PodId) {
        self.cut_one_way.insert((from, to));
    }

    pub fn join(&mut self, a: PodId, b: PodId) {
        self.cut_pairs.remove(&(a.min(b), a.max(b)));
        self.cut_one_way.retain(|&pair| pair != (a, b) && pair != (b, a));
    }

    /// The pod reaches everybody again.
    pub fn join_all(&mut self, pod: PodId) {
        self.cut_from_all.remove(&pod);
        self.cut_pairs.retain(|&(a, b)| a != pod && b != pod);
        self.cut_one_way.retain(|&(a, b)| a != pod && b != pod);
    }

    pub fn clear(&mut self) {
        self.cut_from_all.clear();
        self.cut_pairs.clear();
        self.cut_one_way.clear();
    }

    fn of(&self, pod: PodId) -> &[IpAddr] {
        self.addresses.get(&pod).map_or(&[], Vec::as_slice)
    }

    fn wanted(&self) -> BTreeSet<String> {
        let mut rules = BTreeSet::new();
        for &pod in &self.cut_from_all {
            for address in self.of(pod) {
                rules.insert(format!("pref {PREFERENCE_ALL} from {address}"));
                rules.insert(format!("pref {PREFERENCE_ALL} to {address}"));
            }
        }
        let both_ways = self.cut_pairs.iter().flat_map(|&(a, b)| [(a, b), (b, a)]);
        for (a, b) in both_ways.chain(self.cut_one_way.iter().copied()) {
            for from in self.of(a) {
                for to in self.of(b).iter().filter(|to| to.is_ipv4() == from.is_ipv4()) {
                    rules.insert(format!("pref {PREFERENCE_PAIR} from {from} to {to}"));
                }
            }
        }
        rules
    }

    /// Makes the node's rules what is wanted now.
    pub fn apply(&mut self, node: &Netns) {
        let wanted = self.wanted();
        let line = |verb: &str, rule: &String| format!("rule {verb} {rule} blackhole");
        let lines: Vec<String> = wanted
            .difference(&self.installed)
            .map(|rule| line("add", rule))
            .chain(self.installed.difference(&wanted).map(|rule| line("del", rule)))
            .collect();
        node.run(|| ip_rule_batch(&lines)).expect("failed to change the partitions");
        self.installed = wanted;
    }
}

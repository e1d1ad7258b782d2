//! Who is asked: every pod that may have been a member, whether or not it founds the cluster.

use std::collections::{BTreeMap, BTreeSet};

use crate::intent::{Discovery, Intent};
use crate::names::PodName;
use crate::observation::{Dns, PodsWanted, ServiceRecords};

/// No StatefulSet of etcd is larger: a record that says so brings in no more than itself.
const ORDINALS_MAX: u32 = 256;

/// Every ordinal from the start up to the largest of the initial size, the highest in the service's records, and what
/// the Kubernetes API knows of; this pod included.
///
/// The initial members alone would not do: a cluster of one that was grown to three would be founded a second time
/// when pod 0 loses its disk.
pub fn span(intent: &Intent, dns: &Dns, wanted: Option<&PodsWanted>) -> BTreeSet<PodName> {
    let mut pods = intent.plan.pods();
    pods.insert(intent.pod.clone());
    if let ServiceRecords::Pods(named) = &dns.service {
        pods.extend(named.iter().cloned());
    }
    if let Some(wanted) = wanted {
        let count = wanted.replicas.unwrap_or_default().min(ORDINALS_MAX);
        let replicas = intent.ordinal_start..intent.ordinal_start.saturating_add(count);
        let ordinals = wanted.claimed.iter().copied().chain(replicas);
        pods.extend(ordinals.filter_map(|ordinal| intent.pod.sibling(ordinal)));
    }
    if intent.discovery != Discovery::Static {
        fill_gaps(&mut pods, intent);
    }
    pods
}

/// A pod that has no record just now may still have a disk. Where the peers are given, the numbers in their names
/// mean nothing.
fn fill_gaps(pods: &mut BTreeSet<PodName>, intent: &Intent) {
    let mut highest: BTreeMap<String, u32> = BTreeMap::new();
    for (set, ordinal) in pods.iter().filter_map(PodName::split) {
        let entry = highest.entry(set.to_owned()).or_default();
        *entry = ordinal.max(*entry);
    }
    for (set, ordinal) in highest {
        let first = if intent.pod.split().is_some_and(|(own, _)| own == set) { intent.ordinal_start } else { ordinal };
        let last = ordinal.min(first.saturating_add(ORDINALS_MAX));
        pods.extend((first..=last).map(|ordinal| PodName::new(format!("{set}-{ordinal}"))));
    }
}

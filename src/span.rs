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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intent::tests::intent;
    use crate::observation::DnsFailure;

    fn named(pods: &[&str]) -> Dns {
        let pods = pods.iter().map(|pod| PodName::from(*pod)).collect();
        Dns { service: ServiceRecords::Pods(pods), ..Dns::default() }
    }

    fn is(intent: &Intent, dns: &Dns, wanted: Option<&PodsWanted>, expected: &[&str]) {
        let span: Vec<String> = span(intent, dns, wanted).iter().map(PodName::to_string).collect();
        assert_eq!(span, expected);
    }

    fn wanted(replicas: Option<u32>, claimed: &[u32]) -> PodsWanted {
        PodsWanted { replicas, claimed: claimed.iter().copied().collect() }
    }

    #[test]
    fn the_founders_and_this_pod_at_least() {
        is(&intent(1), &Dns::default(), None, &["etcd-0", "etcd-1", "etcd-2"]);
        is(&intent(4), &named(&[]), None, &["etcd-0", "etcd-1", "etcd-2", "etcd-3", "etcd-4"]);
        let failed = Dns { service: ServiceRecords::Failed(DnsFailure::NxDomain), ..Dns::default() };
        is(&intent(1), &failed, None, &["etcd-0", "etcd-1", "etcd-2"]);
    }

    #[test]
    fn up_to_the_highest_record() {
        is(&intent(0), &named(&["etcd-4"]), None, &["etcd-0", "etcd-1", "etcd-2", "etcd-3", "etcd-4"]);
    }

    #[test]
    fn up_to_what_the_api_knows() {
        let all = ["etcd-0", "etcd-1", "etcd-2", "etcd-3"];
        is(&intent(0), &named(&[]), Some(&wanted(Some(4), &[])), &all);
        is(&intent(0), &named(&[]), Some(&wanted(None, &[0, 3])), &all);
        is(&intent(0), &named(&[]), Some(&wanted(Some(1), &[])), &all[..3]);
    }

    #[test]
    fn from_the_first_ordinal() {
        let mut from_five = intent(0);
        from_five.ordinal_start = 5;
        from_five.pod = PodName::from("etcd-6");
        from_five.plan.founders.truncate(1);
        from_five.plan.founders[0].peer_urls = vec!["http://etcd-5.etcd.ns.svc:2380".parse().unwrap()];
        is(&from_five, &named(&["etcd-7"]), None, &["etcd-5", "etcd-6", "etcd-7"]);
        is(&from_five, &named(&[]), Some(&wanted(Some(4), &[])), &["etcd-5", "etcd-6", "etcd-7", "etcd-8"]);
    }

    #[test]
    fn other_sets_as_they_are_named() {
        is(&intent(0), &named(&["etcd-b-2"]), None, &["etcd-0", "etcd-1", "etcd-2", "etcd-b-2"]);
    }

    #[test]
    fn numbers_in_given_names_mean_nothing() {
        let mut given = intent(1);
        given.discovery = Discovery::Static;
        given.plan.founders.remove(0);
        is(&given, &Dns { service: ServiceRecords::Static, ..Dns::default() }, None, &["etcd-1", "etcd-2"]);
    }

    #[test]
    fn absurd_numbers_are_not_followed() {
        assert_eq!(span(&intent(0), &named(&["etcd-4000000000"]), None).len(), 258);
        let mut late = intent(0);
        late.ordinal_start = u32::MAX;
        assert!(span(&late, &named(&[]), Some(&wanted(Some(u32::MAX), &[]))).len() <= 260);
    }
}

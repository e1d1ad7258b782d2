use std::collections::BTreeSet;

use super::*;
use crate::intent::tests::{intent, member};
use crate::names::{ClusterId, MemberId, ProcessId};
use crate::observation::{Answer, Disk, DnsFailure, EtcdView, MemberList, PodsWanted, Silence, Since};

/// Pod `own`, with a record for each of these pods, whose own peer port gives this.
fn seen(own: u32, published: &[u32], view: Option<PeerView>) -> Observation {
    let name = |ordinal: &u32| PodName::new(format!("etcd-{ordinal}"));
    let url = intent(own).peer_urls[0].clone();
    let answer = |view| (name(&own), Answer { asked: 1, answered: 2, url, view });
    Observation {
        process_id: ProcessId("me".to_owned()),
        disk: Disk::blank(),
        dns: Dns { service: ServiceRecords::Pods(published.iter().map(name).collect()), ..Dns::default() },
        peers: view.map(answer).into_iter().collect(),
        hearing: Default::default(),
        pods_wanted: None,
        image: Default::default(),
        since: Since::default(),
    }
}

fn listed(ordinal: u32) -> Member {
    member(u64::from(ordinal), &format!("etcd-{ordinal}"), &[&format!("http://etcd-{ordinal}.etcd.ns.svc:2380")])
}

fn etcd(list: Result<MemberList, ListFailure>) -> Option<PeerView> {
    let members = Some((0..3).map(listed).collect());
    Some(PeerView::Etcd(EtcdView { cluster_id: ClusterId(1), members, version: None, list }))
}

fn list(is_learner: bool) -> MemberList {
    let members = vec![Member { is_learner, ..listed(0) }];
    let (answered_by, leader) = (MemberId(0), MemberId(1));
    MemberList { cluster_id: ClusterId(1), answered_by, leader, term: 2, index: 9, members, db_size_bytes: 0 }
}

fn needs(pods: &[u32]) -> Readiness {
    Readiness::Needs(pods.iter().map(|ordinal| PodName::new(format!("etcd-{ordinal}"))).collect())
}

fn is_not_yet(readiness: &Readiness) -> bool {
    matches!(readiness, Readiness::NotYet(_))
}

#[test]
fn a_voter_with_a_leader_serves() {
    assert_eq!(readiness(&intent(0), &seen(0, &[0, 1, 2], etcd(Ok(list(false))))), Readiness::Serves);
    let denied = etcd(Err(ListFailure::Denied("no user".to_owned())));
    assert_eq!(readiness(&intent(0), &seen(0, &[0, 1, 2], denied)), Readiness::Serves);
    assert!(is_not_yet(&readiness(&intent(0), &seen(0, &[0, 1, 2], etcd(Ok(list(true)))))));
}

#[test]
fn alone_after_all_pods_were_deleted_it_needs_the_others() {
    let no_leader = || etcd(Err(ListFailure::NoLeader));
    assert_eq!(readiness(&intent(0), &seen(0, &[0], no_leader())), needs(&[1, 2]));
    assert_eq!(readiness(&intent(1), &seen(1, &[0, 1], no_leader())), needs(&[2]));
    let waits = Some(PeerView::Silent(Silence::Refused("port 2380".to_owned())));
    assert_eq!(readiness(&intent(0), &seen(0, &[0], waits)), needs(&[1, 2]));
    assert_eq!(readiness(&intent(0), &seen(0, &[0], None)), needs(&[1, 2]));
}

#[test]
fn in_a_roll_out_it_has_to_come_back_first() {
    let no_leader = || etcd(Err(ListFailure::NoLeader));
    assert!(is_not_yet(&readiness(&intent(2), &seen(2, &[0, 1, 2], no_leader()))));
    // An earlier pod that is gone does not wait for this one.
    assert!(is_not_yet(&readiness(&intent(2), &seen(2, &[2], no_leader()))));
}

#[test]
fn members_and_replicas_beyond_the_founders_count() {
    let mut one = intent(0);
    one.plan.founders.truncate(1);
    assert_eq!(readiness(&one, &seen(0, &[0], etcd(Err(ListFailure::NoLeader)))), needs(&[1, 2]));
    let mut wanted = seen(0, &[0], None);
    assert!(is_not_yet(&readiness(&one, &wanted)));
    wanted.pods_wanted = Some(PodsWanted { replicas: Some(3), claimed: BTreeSet::new() });
    assert_eq!(readiness(&one, &wanted), needs(&[1]));
}

#[test]
fn members_of_pods_that_were_scaled_away_do_not_count() {
    let mut scaled = seen(1, &[0, 1], etcd(Err(ListFailure::NoLeader)));
    assert_eq!(readiness(&intent(1), &scaled), needs(&[2]));
    scaled.pods_wanted = Some(PodsWanted { replicas: Some(2), claimed: BTreeSet::from([0, 1, 2]) });
    assert!(is_not_yet(&readiness(&intent(1), &scaled)));
}

#[test]
fn what_dns_cannot_say_is_not_absent() {
    let mut unknown = seen(0, &[0], None);
    unknown.dns.service = ServiceRecords::Failed(DnsFailure::TimedOut("10.0.0.1".to_owned()));
    assert!(is_not_yet(&readiness(&intent(0), &unknown)));
    let failed = |failure| Resolution::Failed(failure);
    let host = |ordinal| format!("etcd-{ordinal}.etcd.ns.svc");
    unknown.dns.hosts.insert(host(1), failed(DnsFailure::ServerFailed("SERVFAIL".to_owned())));
    assert!(is_not_yet(&readiness(&intent(0), &unknown)));
    unknown.dns.hosts.insert(host(2), failed(DnsFailure::NxDomain));
    assert_eq!(readiness(&intent(0), &unknown), needs(&[2]));
}

#[test]
fn its_own_missing_record_is_nothing_that_a_later_pod_brings() {
    assert!(is_not_yet(&readiness(&intent(2), &seen(2, &[0, 1], etcd(Err(ListFailure::NoLeader))))));
}

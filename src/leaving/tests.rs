use std::collections::BTreeMap;

use super::*;
use crate::intent::tests::{intent, member};
use crate::observation::{EtcdView, ListFailure, Silence};

const CLUSTER: ClusterId = ClusterId(0xc);

fn id(n: u32) -> MemberId {
    MemberId(u64::from(n) + 1)
}

fn url(n: u32) -> String {
    format!("http://etcd-{n}.etcd.ns.svc:2380")
}

fn voters(pods: &[u32]) -> Vec<Member> {
    pods.iter().map(|n| member(id(*n).0, &format!("etcd-{n}"), &[&url(*n)])).collect()
}

/// These pods run etcd under this leader, and each gives this list.
fn giving(pods: &[u32], leader: u32, members: &[Member]) -> BTreeMap<PodName, Answer> {
    let answer = |n: &u32| {
        let list = MemberList {
            cluster_id: CLUSTER,
            answered_by: id(*n),
            leader: id(leader),
            term: 3,
            index: 30,
            members: members.to_vec(),
            db_size_bytes: 0,
        };
        let view = EtcdView { cluster_id: CLUSTER, members: None, version: None, list: Ok(list) };
        let pod = PodName::new(format!("etcd-{n}"));
        (pod, Answer { asked: 1, answered: 2, url: url(*n).parse().unwrap(), view: PeerView::Etcd(view) })
    };
    pods.iter().map(answer).collect()
}

fn list_mut<'a>(peers: &'a mut BTreeMap<PodName, Answer>, pod: &str) -> &'a mut MemberList {
    match &mut peers.get_mut(&PodName::from(pod)).unwrap().view {
        PeerView::Etcd(EtcdView { list: Ok(list), .. }) => list,
        other => panic!("{other:?}"),
    }
}

fn leave(own: u32, replicas: u32, peers: &BTreeMap<PodName, Answer>) -> Leave {
    decide(&intent(own), (CLUSTER, id(own)), replicas, peers)
}

#[track_caller]
fn waits(decision: Leave, why: &str) {
    match decision {
        Leave::Wait(reason) if reason.contains(why) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pod_that_is_wanted_stays_and_so_do_all_where_none_is() {
    assert!(stays(&intent(2), 3).unwrap().contains("etcd-2"));
    assert_eq!(stays(&intent(3), 3), None);
    assert_eq!(stays(&intent(2), 1), None);
    assert!(stays(&intent(2), 0).unwrap().contains("scaled to 0"));
    assert!(stays(&intent(0), u32::MAX).is_some());
    let named = Intent { pod: PodName::from("solo"), ..intent(0) };
    assert!(stays(&named, 1).unwrap().contains("no ordinal"));
}

#[test]
fn the_first_ordinal_is_as_it_is_set_or_as_the_founders_have_it() {
    let mut from_five = Intent { ordinal_start: 5, ..intent(7) };
    assert!(stays(&from_five, 3).is_some());
    assert_eq!(stays(&from_five, 2), None);
    from_five.ordinal_start = 0;
    from_five
        .plan
        .founders
        .iter_mut()
        .zip(5..)
        .for_each(|(founder, n)| founder.peer_urls = vec![url(n).parse().unwrap()]);
    assert!(stays(&from_five, 3).is_some(), "--initial-cluster begins at etcd-5");
    // The founders of another set say nothing of this one's ordinals.
    from_five.pod = PodName::from("other-7");
    assert_eq!(stays(&from_five, 3), None);
}

#[test]
fn the_highest_goes_first() {
    let members = voters(&[0, 1, 2, 3, 4]);
    let peers = giving(&[0, 1, 2, 3, 4], 0, &members);
    assert_eq!(leave(4, 3, &peers), Leave::Remove);
    waits(leave(3, 3, &peers), "of etcd-4 leaves first");
    let peers = giving(&[0, 1, 2, 3], 0, &voters(&[0, 1, 2, 3]));
    assert_eq!(leave(3, 3, &peers), Leave::Remove);
    // Nobody waits for a member without a vote, nor for a pod of another set.
    let mut members = members;
    members[4].is_learner = true;
    members.push(member(99, "other-9", &["http://other-9.etcd.ns.svc:2380"]));
    members[5].is_learner = true;
    assert_eq!(leave(3, 3, &giving(&[0, 1, 2, 3], 0, &members)), Leave::Remove);
}

#[test]
fn who_leads_hands_over_to_a_pod_that_stays_first() {
    let members = voters(&[0, 1, 2]);
    assert_eq!(leave(2, 1, &giving(&[0, 1, 2], 2, &members)), Leave::MoveLeader { to: id(0) });
    waits(leave(2, 1, &giving(&[1, 2], 2, &members)), "no pod that stays");
    let pair = voters(&[0, 1]);
    assert_eq!(leave(1, 1, &giving(&[0, 1], 1, &pair)), Leave::MoveLeader { to: id(0) });
    assert_eq!(leave(1, 1, &giving(&[0, 1], 0, &pair)), Leave::Remove);
}

#[test]
fn the_others_have_to_go_on_without_it() {
    let members = voters(&[0, 1, 2, 3]);
    assert_eq!(leave(3, 3, &giving(&[0, 1, 3], 0, &members)), Leave::Remove);
    waits(leave(3, 3, &giving(&[0, 3], 0, &members)), "1 of 3 other voters run");
    let pair = voters(&[0, 1]);
    waits(leave(1, 1, &giving(&[1], 0, &pair)), "no pod that stays");
}

#[test]
fn who_says_something_else_does_not_count() {
    let members = voters(&[0, 1, 2]);
    let all = || giving(&[0, 1, 2], 0, &members);
    let spoilt: [fn(&mut MemberList); 4] = [
        |list| list.leader = id(1),
        |list| list.term = 2,
        |list| list.members.truncate(2),
        |list| list.answered_by = id(2),
    ];
    for spoil in spoilt {
        let mut peers = all();
        spoil(list_mut(&mut peers, "etcd-1"));
        waits(leave(2, 2, &peers), "1 of 2 other voters run");
    }
    let mut peers = all();
    list_mut(&mut peers, "etcd-0").cluster_id = ClusterId(0xbad);
    waits(leave(2, 1, &peers), "no pod that stays");
    let mut peers = all();
    peers.get_mut(&PodName::from("etcd-1")).unwrap().url = url(0).parse().unwrap();
    waits(leave(2, 2, &peers), "1 of 2 other voters run");
}

#[test]
fn nobody_leads_or_it_is_gone_already() {
    let members = voters(&[0, 1, 2]);
    waits(leave(2, 1, &BTreeMap::new()), "no member has told of a leader");
    let mut peers = giving(&[0, 1, 2], 0, &members);
    for answer in peers.values_mut() {
        answer.view = match &answer.view {
            PeerView::Etcd(etcd) => PeerView::Etcd(EtcdView { list: Err(ListFailure::NoLeader), ..etcd.clone() }),
            _ => PeerView::Silent(Silence::Refused("x".to_owned())),
        };
    }
    waits(leave(2, 1, &peers), "no member has told of a leader");
    assert_eq!(leave(2, 1, &giving(&[0, 1], 0, &voters(&[0, 1]))), Leave::Left);
}

#[test]
fn a_learner_has_no_vote_to_take_along() {
    let mut members = voters(&[0, 1, 2, 3, 4]);
    members[3].is_learner = true;
    assert_eq!(leave(3, 3, &giving(&[0], 0, &members)), Leave::Remove);
    // Where all that stay are learners, nobody can take over.
    let mut members = voters(&[0, 1]);
    members[0].is_learner = true;
    waits(leave(1, 1, &giving(&[0, 1], 1, &members)), "no pod that stays has a vote");
}

#[test]
fn another_member_of_this_very_pod_is_not_waited_for() {
    let twin = member(99, "etcd-3", &["http://etcd-3.etcd.ns.svc.cluster.local:2380"]);
    let members = [voters(&[0, 1, 2, 3]), vec![twin]].concat();
    assert_eq!(leave(3, 3, &giving(&[0, 1, 2, 3], 0, &members)), Leave::Remove);
}

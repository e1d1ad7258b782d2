//! The rows of a join that has begun: JOINED, REMOVING and INTENT.

use super::*;

fn voters() -> Vec<Member> {
    vec![founder(0), founder(1), founder(2)]
}

fn with(extra: &[Member]) -> Vec<Member> {
    voters().into_iter().chain(extra.iter().cloned()).collect()
}

fn joined() -> Row {
    row(3, 3).joined(planned(3), ADDED)
}

fn removing(id: MemberId) -> Row {
    row(3, 3).stage(Stage::Removing { cluster_id: planned(3), member_id: id })
}

fn intent() -> Row {
    row(3, 3).stage(Stage::Intent { cluster_id: planned(3) })
}

fn join_start(is_learner: bool) -> Start {
    let urls = "etcd-0=http://etcd-0.etcd.test.svc:2380,etcd-1=http://etcd-1.etcd.test.svc:2380,\
                etcd-2=http://etcd-2.etcd.test.svc:2380,etcd-3=http://etcd-3.etcd.test.svc:2380";
    Start { initial_cluster: Some(urls.to_owned()), first: true, learner: is_learner, ..restart(ADDED, planned(3)) }
}

#[test]
fn joined_and_listed_unstarted_starts() {
    let list = with(&[learner(unstarted(3, ADDED))]);
    joined().led(&[0, 1, 2], planned(3), &list).starts(Rule::JoinStart, join_start(true));
    joined().led(&[0], planned(3), &with(&[unstarted(3, ADDED)])).starts(Rule::JoinStart, join_start(false));
}

#[test]
fn joined_starts_on_a_peers_local_list_too() {
    let list = with(&[learner(unstarted(3, ADDED))]);
    joined().runs(0, planned(3), Some(list.clone())).starts(Rule::JoinStart, join_start(true));
    joined().runs(0, OTHER, Some(list)).waits(Rule::ForeignCluster);
    joined().runs(0, planned(3), Some(voters())).waits(Rule::NoLeader);
    joined().runs(0, planned(3), None).waits(Rule::NoLeader);
    joined().silent(0).silent(1).silent(2).waits(Rule::NoLeader);
}

#[test]
fn joined_waits_for_its_own_name() {
    let list = with(&[learner(unstarted(3, ADDED))]);
    let unpublished = joined().led(&[0, 1], planned(3), &list);
    for own in
        [OwnName::NotAsked, OwnName::Elsewhere(vec!["10.0.0.9".parse().unwrap()]), OwnName::No(DnsFailure::NxDomain)]
    {
        unpublished.clone().seen(|seen| seen.dns.own = own).waits(Rule::OwnNameUnpublished);
    }
}

#[test]
fn joined_and_started_elsewhere_is_replaced() {
    let list = with(&[voter(3, ADDED)]);
    let stage = Stage::Removing { cluster_id: planned(3), member_id: ADDED };
    joined().led(&[0, 1, 2], planned(3), &list).journals(Rule::ReplaceMember, stage, &[ADDED]);
    joined().led(&[0, 1], planned(3), &list).waits(Rule::ListUnconfirmed);
    // A local list that has its name proves that it ran, but authorises no removal.
    joined().runs(0, planned(3), Some(list)).waits(Rule::NoLeader);
    // Either is enough: client URLs may be missing while the peer replays its log.
    for own in [Member { client_urls: vec![], ..voter(3, ADDED) }, Member { name: String::new(), ..voter(3, ADDED) }] {
        joined().runs(0, planned(3), Some(with(&[own]))).waits(Rule::NoLeader);
    }
}

#[test]
fn joined_and_gone_is_added_anew() {
    let stage = Stage::Intent { cluster_id: planned(3) };
    joined().led(&[0, 1], planned(3), &voters()).journals(Rule::JoinIntent, stage, &[ADDED]);
    joined().led(&[0], planned(3), &voters()).waits(Rule::ListUnconfirmed);
}

#[test]
fn joined_but_listed_as_another_is_replaced() {
    let stage = Stage::Removing { cluster_id: planned(3), member_id: LATER };
    let row = joined().led(&[0, 1, 2], planned(3), &with(&[unstarted(3, LATER)]));
    row.journals(Rule::ReplaceMember, stage, &[LATER]);
}

#[test]
fn removing_removes_what_is_listed() {
    let list = with(&[voter(3, ADDED)]);
    removing(ADDED).led(&[0, 1, 2], planned(3), &list).takes(Rule::RemoveMember, Step::Remove { member_id: ADDED });
    removing(ADDED).led(&[0, 1], planned(3), &list).waits(Rule::ListUnconfirmed);
    removing(ADDED).runs(0, planned(3), Some(list)).waits(Rule::NoLeader);
}

#[test]
fn nothing_else_may_answer_at_the_url_of_what_is_removed() {
    let row = removing(ADDED).led(&[0, 1, 2], planned(3), &with(&[voter(3, ADDED)]));
    row.clone().says(3, Kind::Blank).waits(Rule::TwinPod);
    row.clone().silent(3).waits(Rule::TwinPod);
    row.clone().runs(3, planned(3), None).waits(Rule::TwinPod);
    let unknown = row.clone().seen(|seen| {
        seen.peers.remove(&pod(3));
    });
    unknown.waits(Rule::TwinPod);
    // It has answered itself where it is now, and not yet where the member is listed.
    let elsewhere = row.clone().seen(|seen| {
        seen.peers.get_mut(&pod(3)).unwrap().url = "http://etcd-3.other.ns.svc:2380".parse().unwrap();
    });
    elsewhere.waits(Rule::TwinPod);
    row.seen(|seen| seen.dns.own = OwnName::No(DnsFailure::NxDomain)).waits(Rule::OwnNameUnpublished);
}

#[test]
fn removed_waits_a_second_and_adds_anew() {
    let row = removing(ADDED).led(&[0, 1], planned(3), &voters());
    let at = |millis| row.clone().seen(|seen| seen.since.step = Duration::from_millis(millis));
    at(999).waits(Rule::RemovedJustNow);
    at(1000).journals(Rule::JoinIntent, Stage::Intent { cluster_id: planned(3) }, &[ADDED]);
}

#[test]
fn removing_one_and_listed_as_another_removes_that() {
    let stage = Stage::Removing { cluster_id: planned(3), member_id: LATER };
    let row = removing(ADDED).led(&[0, 1, 2], planned(3), &with(&[unstarted(3, LATER)]));
    row.journals(Rule::ReplaceMember, stage, &[LATER]);
}

#[test]
fn an_intent_adds_a_learner() {
    let row = intent().led(&[0, 1], planned(3), &voters());
    let add = Step::Add { learner: true, cluster_id: planned(3) };
    row.takes(Rule::JoinAdd, add);
    row.seen(|seen| seen.dns.own = OwnName::NotAsked).waits(Rule::OwnNameUnpublished);
    intent().led(&[0], planned(3), &voters()).waits(Rule::ListUnconfirmed);
    intent().runs(0, planned(3), Some(voters())).waits(Rule::NoLeader);
}

#[test]
fn an_intent_adds_a_voter_only_with_a_majority_of_one_more() {
    let as_voter = |size: u32, running: &[u32]| {
        let members: Vec<Member> = (0..size).map(founder).collect();
        let row = row(9, size).stage(Stage::Intent { cluster_id: planned(size) });
        row.intent(|intent| intent.join_as = JoinAs::Voter).led(running, planned(size), &members)
    };
    let add = |size| Step::Add { learner: false, cluster_id: planned(size) };
    as_voter(3, &[0, 1]).waits(Rule::JoinWaits); // 2 of 4
    as_voter(3, &[0, 1, 2]).takes(Rule::JoinAdd, add(3)); // 3 of 4
    as_voter(4, &[0, 1, 2]).takes(Rule::JoinAdd, add(4)); // 3 of 5
    as_voter(5, &[0, 1, 2]).waits(Rule::JoinWaits); // 3 of 6
    as_voter(2, &[0, 1]).takes(Rule::JoinAdd, add(2)); // 2 of 3
}

#[test]
fn a_learner_is_no_voter_of_whom_a_majority_has_to_run() {
    let members = with(&[learner(voter(4, LATER))]);
    let row = intent().intent(|intent| intent.join_as = JoinAs::Voter).led(&[0, 1, 2], planned(3), &members);
    row.takes(Rule::JoinAdd, Step::Add { learner: false, cluster_id: planned(3) }); // 3 of 4
}

#[test]
fn from_one_to_two_it_is_a_learner_whatever_was_asked_for() {
    // One voter is no majority of two: for exactly this step it is a learner.
    let row = row(1, 1).stage(Stage::Intent { cluster_id: planned(1) });
    let row = row.intent(|intent| intent.join_as = JoinAs::Voter).led(&[0], planned(1), &[founder(0)]);
    row.takes(Rule::JoinAdd, Step::Add { learner: true, cluster_id: planned(1) });
}

#[test]
fn a_voter_is_not_added_beside_one_that_has_not_started() {
    let members = [founder(0), founder(1), founder(2), unstarted(4, LATER)];
    let row = intent().intent(|intent| intent.join_as = JoinAs::Voter);
    // 3 started of 4, and 5 need 3; but the etcd of etcd-4 was given a list without etcd-3, and could not start.
    assert!(row.clone().led(&[0, 1, 2], planned(3), &members).waits(Rule::JoinWaits).contains("etcd-4"));
    let started = [founder(0), founder(1), founder(2), voter(4, LATER)];
    let add = Step::Add { learner: false, cluster_id: planned(3) };
    row.clone().led(&[0, 1, 2, 4], planned(3), &started).takes(Rule::JoinAdd, add);
    let two = [founder(0), founder(1), unstarted(4, LATER), unstarted(5, MemberId(7))];
    row.led(&[0, 1], planned(3), &two).waits(Rule::ListUnconfirmed);
}

#[test]
fn an_intent_finds_the_member_whose_answer_was_lost() {
    let stage = Stage::Joined { cluster_id: planned(3), member_id: ADDED, learner: true };
    intent().led(&[0, 1], planned(3), &with(&[learner(unstarted(3, ADDED))])).journals(Rule::JoinFound, stage, &[]);
    let stage = Stage::Joined { cluster_id: planned(3), member_id: ADDED, learner: false };
    intent().led(&[0, 1, 2], planned(3), &with(&[unstarted(3, ADDED)])).journals(Rule::JoinFound, stage, &[]);
}

#[test]
fn an_intent_never_adopts_from_a_local_or_unconfirmed_list() {
    let list = with(&[learner(unstarted(3, ADDED))]);
    intent().runs(0, planned(3), Some(list.clone())).runs(1, planned(3), Some(list.clone())).waits(Rule::NoLeader);
    intent().led(&[0], planned(3), &list).waits(Rule::ListUnconfirmed);
}

#[test]
fn an_intent_never_adopts_what_ran_or_is_excluded() {
    let stage = Stage::Removing { cluster_id: planned(3), member_id: ADDED };
    let ran = intent().led(&[0, 1, 2], planned(3), &with(&[voter(3, ADDED)]));
    ran.journals(Rule::ReplaceMember, stage.clone(), &[ADDED]);
    let excluded = intent().led(&[0, 1], planned(3), &with(&[learner(unstarted(3, ADDED))]));
    excluded.journal(|journal| _ = journal.excluded.insert(ADDED)).journals(Rule::ReplaceMember, stage, &[ADDED]);
}

#[test]
fn an_add_waits_for_the_learner_slot() {
    let row = intent().led(&[0, 1], planned(3), &with(&[learner(unstarted(4, LATER))]));
    assert!(row.waits(Rule::JoinWaits).contains("etcd-4"));
    let two_slots = row.intent(|intent| intent.learners_max = 2);
    two_slots.takes(Rule::JoinAdd, Step::Add { learner: true, cluster_id: planned(3) });
}

#[test]
fn a_learner_without_a_record_for_a_minute_is_removed() {
    for member in [unstarted(4, LATER), voter(4, LATER)] {
        let row = intent().led(&[0, 1], planned(3), &with(&[learner(member)]));
        let row = row.seen(|seen| seen.since.step = Duration::ZERO);
        let gone = |millis| {
            row.clone().seen(|seen| {
                seen.since.learner_without_record.insert(LATER, Duration::from_millis(millis));
            })
        };
        gone(59_999).waits(Rule::JoinWaits);
        gone(60_000).takes(Rule::AbandonedLearner, Step::RemoveAbandonedLearner { member_id: LATER });
    }
}

#[test]
fn a_voter_without_a_record_is_never_removed() {
    let row = intent().led(&[0, 1, 2], planned(3), &with(&[voter(4, LATER), learner(voter(5, ADDED))]));
    let row = row.seen(|seen| {
        seen.since.step = Duration::ZERO;
        seen.since.learner_without_record.insert(LATER, Duration::from_secs(600));
    });
    row.waits(Rule::JoinWaits);
}

#[test]
fn a_learner_that_runs_and_keeps_the_slot_is_promoted() {
    let list = with(&[learner(voter(4, LATER))]);
    let row = intent().led(&[0, 1], planned(3), &list);
    let runs = row.clone().runs(4, planned(3), Some(list));
    runs.clone().takes(Rule::PromoteLearner, Step::PromoteLearner { member_id: LATER });
    runs.seen(|seen| seen.since.step = Duration::from_millis(4999)).waits(Rule::JoinWaits);
    // A vote for one that is down could cost the quorum.
    for down in [row.clone(), row.clone().silent(4), row.clone().says_data(4), row.runs(4, OTHER, None)] {
        down.waits(Rule::JoinWaits);
    }
}

#[test]
fn placeholders_stand_for_members_without_a_name() {
    let list = with(&[unstarted(4, LATER), learner(unstarted(3, ADDED))]);
    let Action::Start(start) = joined().led(&[0, 1, 2], planned(3), &list).decide().action else { panic!() };
    let entries = start.initial_cluster.unwrap();
    assert!(entries.contains("unstarted-1002=http://etcd-4.etcd.test.svc:2380"), "{entries}");
    assert!(entries.ends_with("etcd-3=http://etcd-3.etcd.test.svc:2380"), "{entries}");
}

#[test]
fn who_waits_for_a_leader_says_as_what() {
    let leaderless = |row: Row| row.runs(0, planned(3), Some(voters())).waits(Rule::NoLeader);
    assert!(leaderless(joined()).starts_with("this pod is joining a cluster"));
    assert!(leaderless(intent()).starts_with("this pod is joining a cluster"));
    assert!(leaderless(row(3, 3)).starts_with("this disk is empty, but its peers have data"));
    let was_member = row(3, 3).journal(|journal| journal.was_member = true);
    assert!(leaderless(was_member).starts_with("this disk was a member's before"));
}

//! What comes before the disk's standing, and what holds a decision back.

use super::*;
use crate::journal::Archiving;

fn all() -> Vec<Member> {
    vec![founder(0), founder(1), founder(2)]
}

#[test]
fn a_misplaced_wal_is_refused_whatever_is_seen() {
    let misplaced = |row: Row| row.seen(|seen| seen.disk.misplaced_wal = Some("/data/member/wal".into()));
    assert!(misplaced(row(2, 3)).refuses(Rule::MisplacedWal, 78).contains("/data/member/wal"));
    misplaced(row(2, 3).led(&[0, 1], planned(3), &all())).refuses(Rule::MisplacedWal, 78);
    misplaced(row(2, 3).wal(static_id(2))).refuses(Rule::MisplacedWal, 78);
}

#[test]
fn another_pods_volume_is_refused() {
    let swapped = |row: Row| row.journal(|journal| journal.pod = pod(1)).refuses(Rule::SwappedVolume, 69);
    swapped(row(2, 3));
    swapped(row(2, 3).wal(static_id(1)).led(&[0, 1], planned(3), &all()));
    row(2, 3).journal(|journal| journal.namespace = "elsewhere".to_owned()).refuses(Rule::SwappedVolume, 69);
}

#[test]
fn a_wal_that_is_listed_under_another_ordinal_is_refused() {
    let row = row(2, 3).wal(static_id(1)).led(&[0], planned(3), &all());
    assert!(row.refuses(Rule::SwappedVolume, 69).contains("etcd-1"));
}

#[test]
fn a_wal_that_is_listed_under_its_name_at_an_address_is_its_own() {
    let mut members = all();
    members[2].peer_urls = vec!["http://10.0.0.2:2380".to_owned()];
    let listed = Start { confirmed: true, ..restart(static_id(2), planned(3)) };
    row(2, 3).wal(static_id(2)).led(&[0, 1], planned(3), &members).starts(Rule::DataListed, listed);
}

#[test]
fn a_wal_that_is_listed_at_its_pod_under_another_name_is_its_own() {
    let mut members = all();
    members[2].name = "renamed".to_owned();
    let listed = Start { confirmed: true, ..restart(static_id(2), planned(3)) };
    row(2, 3).wal(static_id(2)).led(&[0, 1], planned(3), &members).starts(Rule::DataListed, listed);
}

#[test]
fn an_interrupted_archive_is_finished_first() {
    let archiving = Archiving {
        member_id: Some(static_id(2)),
        cluster_id: Some(planned(3)),
        moves: vec![("/d/member".into(), "/d/archive".into())],
        never_spoke: false,
    };
    let row = row(2, 3).wal(static_id(2)).led(&[0, 1], planned(3), &all());
    row.journal(|journal| journal.archiving = Some(archiving.clone()))
        .takes(Rule::FinishArchive, Step::FinishArchive(archiving));
}

#[test]
fn a_half_archived_disk_states_that_it_was_a_members() {
    // The WAL is renamed already, the journal still says PREPARED: nobody may take it for one that never ran.
    let archiving =
        Archiving { member_id: Some(static_id(2)), cluster_id: Some(planned(3)), moves: vec![], never_spoke: false };
    let row = row(2, 3).prepared().journal(|journal| journal.archiving = Some(archiving));
    let said = crate::standing::statement(&row.intent, &row.seen.disk, &ProcessId::from("me")).unwrap();
    assert_eq!(said.kind, Kind::WasMember);
}

#[test]
fn two_members_of_this_pod_are_for_an_operator() {
    let twice = [founder(0), founder(1), unstarted(2, ADDED), unstarted(2, LATER)];
    let why = row(2, 3).led(&[0, 1], planned(3), &twice).refuses(Rule::TwoMembers, 69);
    assert!(why.contains("1001") && why.contains("1002"), "{why}");
}

#[test]
fn a_listed_wal_starts_even_beside_a_second_member_of_its_pod() {
    // A WAL goes by its ID.
    let twice = [founder(0), founder(1), founder(2), unstarted(2, LATER)];
    let listed = Start { confirmed: true, ..restart(static_id(2), planned(3)) };
    row(2, 3).wal(static_id(2)).led(&[0, 1, 2], planned(3), &twice).starts(Rule::DataListed, listed);
}

#[test]
fn hold_changes_nothing_and_promises_nothing() {
    let hold = |row: Row| row.intent(|intent| intent.hold = true);
    let why = hold(row(2, 3).wal(static_id(2)).led(&[0, 1], planned(3), &all())).waits(Rule::Hold);
    assert!(why.contains("data-listed"), "{why}");
    hold(row(2, 3).prepared().says_prepared(0).says_prepared(1)).waits(Rule::Hold);
    hold(row(2, 3).says(0, Kind::Blank).says(1, Kind::Blank).heard_twice()).waits(Rule::Hold);
    let prepared = hold(row(2, 3).prepared());
    let said = crate::standing::statement(&prepared.intent, &prepared.seen.disk, &ProcessId::from("me")).unwrap();
    assert_eq!(said.kind, Kind::Blank);
    hold(row(2, 3)).waits(Rule::RollCall);
}

#[test]
fn hold_stays_up_where_it_would_be_refused() {
    let row = row(2, 3).seen(|seen| seen.disk.misplaced_wal = Some("/x".into()));
    row.intent(|intent| intent.hold = true).waits(Rule::Hold);
}

#[test]
fn a_majority_is_of_voters_at_their_own_urls() {
    let confirm = |row: Row| row.takes_intent();
    // The local list of pod 1 has one member more: the list is not confirmed by it.
    let mut lagging = row(3, 3).led(&[0, 1], planned(3), &all());
    if let PeerView::Etcd(etcd) = &mut lagging.seen.peers.get_mut(&pod(1)).unwrap().view {
        etcd.members = Some(vec![founder(0), founder(1), founder(2), voter(4, LATER)]);
    }
    lagging.waits(Rule::ListUnconfirmed);
    confirm(row(3, 3).led(&[0, 1], planned(3), &all()));
    // A learner's word does not count, nor an answer from where no voter is listed.
    let with_learner = [founder(0), founder(1), founder(2), learner(voter(4, LATER))];
    row(3, 3).led(&[0, 4], planned(3), &with_learner).waits(Rule::ListUnconfirmed);
    let mut elsewhere = row(3, 3).led(&[0, 1], planned(3), &all());
    elsewhere.seen.peers.get_mut(&pod(1)).unwrap().url = "http://10.9.9.9:2380".parse().unwrap();
    elsewhere.waits(Rule::ListUnconfirmed);
    // The list as a set of IDs and votes: a vote that differs is another list.
    let mut promoted = row(3, 3).led(&[0, 1, 2], planned(3), &with_learner);
    for n in [1, 2] {
        if let PeerView::Etcd(etcd) = &mut promoted.seen.peers.get_mut(&pod(n)).unwrap().view {
            etcd.members = Some(vec![founder(0), founder(1), founder(2), voter(4, LATER)]);
        }
    }
    promoted.waits(Rule::ListUnconfirmed);
}

impl Row {
    #[track_caller]
    fn takes_intent(&self) {
        self.journals(Rule::JoinIntent, Stage::Intent { cluster_id: planned(3) }, &[]);
    }
}

#[test]
fn the_newest_list_counts() {
    // An older leader that does not know of its end lists this member; the newer term does not.
    let mut row = row(2, 3).wal(static_id(2)).led(&[0, 1], planned(3), &[founder(0), founder(1)]).led(
        &[3],
        planned(3),
        &[founder(0), founder(1), founder(2), founder(3)],
    );
    if let PeerView::Etcd(etcd) = &mut row.seen.peers.get_mut(&pod(3)).unwrap().view {
        etcd.list.as_mut().unwrap().term = 4;
    }
    let archive = Step::Archive { member_id: Some(static_id(2)), cluster_id: Some(planned(3)), never_spoke: false };
    row.takes(Rule::DataRemoved, archive);
}

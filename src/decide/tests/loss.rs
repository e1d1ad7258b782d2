//! The rows of a disk that has lost something.

use super::*;

/// The ways of losing data: what is left has to be put aside in all but the last.
fn losses() -> Vec<(&'static str, Row)> {
    let base = || row(2, 3);
    let unreadable = Wal::Unreadable { path: "/w/0.wal".into(), reason: "is all zeros".to_owned() };
    vec![
        (
            "db without WAL and journal",
            base().seen(|seen| {
                seen.disk.db = true;
                seen.disk.journal = JournalFile::Absent;
            }),
        ),
        ("db without WAL, fresh journal", base().seen(|seen| seen.disk.db = true)),
        ("unreadable WAL", base().seen(|seen| seen.disk.wal = unreadable)),
        ("WAL without its db", base().wal(static_id(2)).wal_facts(|facts| facts.missing = Some("no db".to_owned()))),
        ("one of two volumes", base().wal(static_id(2)).seen(|seen| seen.disk.pairing = Pairing::Broken)),
        ("one of two volumes, nothing left", base().prepared().seen(|seen| seen.disk.pairing = Pairing::Broken)),
    ]
}

fn used_up() -> Vec<(&'static str, Row)> {
    vec![
        ("PREPARED, used up", row(2, 3).prepared().journal(|journal| journal.wal_seen = Some(static_id(2)))),
        ("JOINED, used up", row(2, 3).joined(planned(3), ADDED).journal(|journal| journal.wal_seen = Some(ADDED))),
        ("a WAL was adopted and is gone", row(2, 3).journal(|journal| journal.wal_seen = Some(static_id(2)))),
    ]
}

#[test]
fn with_a_leader_what_is_left_is_archived() {
    for (what, row) in losses() {
        let decision = row.led(&[0, 1], planned(3), &[founder(0), founder(1), founder(2)]).decide();
        let Action::Take(Step::Archive { never_spoke: false, .. }) = decision.action else {
            panic!("{what}: {decision:#?}")
        };
        assert_eq!(decision.rule, Rule::LossArchive, "{what}");
    }
}

#[test]
fn the_archive_says_whose_it_is() {
    let members = [founder(0), founder(1), founder(2)];
    let row = row(2, 3).wal(static_id(2)).wal_facts(|facts| facts.missing = Some("no db".to_owned()));
    let archive = Step::Archive { member_id: Some(static_id(2)), cluster_id: Some(planned(3)), never_spoke: false };
    row.led(&[0, 1], planned(3), &members).takes(Rule::LossArchive, archive);
}

#[test]
fn with_a_leader_and_nothing_left_the_member_is_replaced() {
    for (what, row) in used_up() {
        let own = if what.starts_with("JOINED") { ADDED } else { static_id(2) };
        let row = row.led(&[0, 1], planned(3), &[founder(0), founder(1), voter(2, own)]);
        row.journals(Rule::ReplaceMember, Stage::Removing { cluster_id: planned(3), member_id: own }, &[own]);
    }
    let gone = row(2, 3).prepared().journal(|journal| journal.wal_seen = Some(static_id(2)));
    gone.led(&[0, 1], planned(3), &[founder(0), founder(1)]).journals(
        Rule::JoinIntent,
        Stage::Intent { cluster_id: planned(3) },
        &[static_id(2)],
    );
}

#[test]
fn without_a_leader_it_waits() {
    for (what, row) in losses().into_iter().chain(used_up()) {
        for row in [
            row.clone().silent(0).silent(1),
            row.clone().says_data(0).says_data(1),
            row.clone().says_prepared(0).silent(1),
            row.clone().says_prepared(0).says(1, Kind::Blank),
            row.clone().says_prepared(0).says(1, Kind::WasMember),
            row.clone().says_prepared(0).runs(1, planned(3), None),
            row.clone().says_prepared(0).says_prepared(1).silent(3),
            row.clone().says_prepared(0).says_prepared(1).says_data(3),
        ] {
            let decision = row.decide();
            assert_eq!(decision.rule, Rule::LossWaits, "{what}: {decision:#?}");
        }
    }
}

#[test]
fn a_list_without_a_majority_is_no_leader() {
    let members = [founder(0), founder(1), founder(2)];
    let row = row(2, 3).prepared().journal(|journal| journal.wal_seen = Some(static_id(2)));
    row.led(&[0], planned(3), &members).silent(1).waits(Rule::ListUnconfirmed);
}

#[test]
fn where_every_other_founder_is_prepared_no_quorum_ever_ran() {
    let ready = |row: Row| row.says_prepared(0).says_prepared(1).says(3, Kind::Blank).heard_twice();
    let seen_then_lost = row(2, 3).prepared().journal(|journal| journal.wal_seen = Some(static_id(2)));
    ready(seen_then_lost).takes(Rule::LossBeforeFounding, Step::NoteWal(None));
    let rest = row(2, 3).prepared().wal(static_id(2)).wal_facts(|facts| facts.missing = Some("no db".to_owned()));
    let archive = Step::Archive { member_id: Some(static_id(2)), cluster_id: Some(planned(3)), never_spoke: true };
    ready(rest).takes(Rule::LossBeforeFounding, archive);
}

/// The last of so many founders: a member ran on its disk, and its WAL is gone.
fn ran_and_lost(founders: u32) -> Row {
    let own = founders - 1;
    row(own, founders).prepared().journal(|journal| journal.wal_seen = Some(static_id(own)))
}

/// So many of the first founders are prepared.
fn prepared_up_to(count: u32, founders: u32) -> Row {
    (0..count).fold(ran_and_lost(founders), |row, n| row.says_prepared(n))
}

#[test]
fn where_those_that_are_not_prepared_are_no_quorum_none_ever_ran() {
    for kind in [Kind::Blank, Kind::Lost] {
        let goes_on = |row: Row| row.heard_twice().takes(Rule::LossBeforeFounding, Step::NoteWal(None));
        goes_on(prepared_up_to(3, 5).says(3, kind.clone()));
        goes_on(prepared_up_to(4, 7).says(4, kind.clone()).says(5, Kind::Blank));
        goes_on(prepared_up_to(3, 6).says(3, kind.clone()).says(4, kind.clone()).says(6, Kind::Blank));
        goes_on(prepared_up_to(2, 4).says(2, kind.clone()));
        let rest = prepared_up_to(3, 5).says(3, kind.clone()).wal(static_id(4));
        let rest = rest.seen(|seen| seen.disk.pairing = Pairing::Broken).heard_twice();
        let archive = Step::Archive { member_id: Some(static_id(4)), cluster_id: Some(planned(5)), never_spoke: true };
        rest.takes(Rule::LossBeforeFounding, archive);
        // A quorum may have run.
        for (prepared, founders) in [(0, 2), (1, 3), (1, 4), (2, 5), (2, 6), (3, 7)] {
            let rest = prepared..founders - 1;
            let row = rest.fold(prepared_up_to(prepared, founders), |row, n| row.says(n, kind.clone()));
            row.heard_twice().waits(Rule::LossWaits);
        }
    }
}

#[test]
fn a_founder_that_may_have_data_is_waited_for() {
    let but_one = || prepared_up_to(3, 5);
    let other_plan = but_one().says(3, Kind::Blank).plans(3, plan(3));
    for row in [
        but_one().silent(3),
        but_one().no_record(3),
        but_one().says_data(3),
        but_one().says(3, Kind::WasMember),
        but_one().runs(3, planned(5), None),
        but_one().says(3, Kind::Blank).silent(5),
        but_one().says(3, Kind::Blank).says(5, Kind::Lost),
        other_plan,
    ] {
        row.clone().heard_twice().waits(Rule::LossWaits);
        row.intent(|intent| intent.state = State::New).heard_twice().waits(Rule::LossWaits);
    }
    // As if they had said it since.
    let heard = but_one().says(3, Kind::Blank).heard_twice();
    for row in [heard.clone().says(3, Kind::WasMember), heard.clone().says_data(3), heard.says(5, Kind::Lost)] {
        row.waits(Rule::LossWaits);
    }
}

#[test]
fn a_loss_is_gone_on_from_after_two_rounds() {
    let all = || prepared_up_to(3, 5).says(3, Kind::Blank);
    all().waits(Rule::LossWaits);
    all().heard_twice().takes(Rule::LossBeforeFounding, Step::NoteWal(None));
    prepared_up_to(2, 3).waits(Rule::LossWaits);
}

/// Under `BOOTSTRAP_STATE=new` a pod prepares though it has not heard all: it does not know that nobody ran.
#[test]
fn who_has_not_heard_all_is_as_blank() {
    let heard = || Kind::Prepared([0, 1].map(|n| (pod(n), disk_id(n))).into());
    prepared_up_to(1, 3).says(1, heard()).heard_twice().waits(Rule::LossWaits);
    prepared_up_to(2, 5).says(2, heard()).says(3, heard()).heard_twice().waits(Rule::LossWaits);
    let row = prepared_up_to(3, 5).says(3, heard()).heard_twice();
    row.takes(Rule::LossBeforeFounding, Step::NoteWal(None));
}

#[test]
fn who_was_forced_was_a_quorum_alone() {
    let row = prepared_up_to(2, 3).journal(|journal| journal.forced_new_cluster = true);
    row.heard_twice().waits(Rule::LossWaits);
}

#[test]
fn every_other_means_every_other_under_the_same_plan() {
    let lost = || ran_and_lost(3);
    let other_plan = lost().says_prepared(0).says_prepared(1).plans(1, plan(5));
    other_plan.heard_twice().waits(Rule::LossWaits);
    // Silence is no consent, and who joined had a cluster to join.
    let new = || lost().intent(|intent| intent.state = State::New);
    new().says_prepared(0).silent(1).heard_twice().waits(Rule::LossWaits);
    new().says_prepared(0).says_prepared(1).silent(3).heard_twice().waits(Rule::LossWaits);
    let joined = row(2, 3).joined(planned(3), ADDED).journal(|journal| journal.wal_seen = Some(ADDED));
    joined.says_prepared(0).says_prepared(1).heard_twice().waits(Rule::LossWaits);
    // A cluster of one has nobody to ask.
    let alone = ran_and_lost(1).heard_twice();
    assert!(alone.waits(Rule::LossWaits).contains("empty it to found a new cluster"));
}

#[test]
fn a_loss_is_refused_where_the_settings_say_so() {
    for (what, row) in losses().into_iter().chain(used_up()) {
        let row = row.intent(|intent| intent.on_lost_data = OnLostData::Fail).silent(0).silent(1);
        row.refuses(Rule::LossRefused, if what == "unreadable WAL" { 65 } else { 69 });
    }
}

#[test]
fn a_lost_quorum_is_named_with_the_way_out_once_it_is_certain() {
    let way_out = |why: &str| why.contains("BOOTSTRAP_FORCE_NEW_CLUSTER");
    let two = [founder(0), founder(1)];
    let blank = row(1, 2).runs(0, planned(2), Some(two.to_vec()));
    let why = blank.clone().waits(Rule::NoLeader);
    assert!(way_out(&why) && why.contains("Of 2 voters only etcd-0 can have data"), "{why}");
    assert!(way_out(
        &row(1, 2).seen(|seen| seen.disk.db = true).runs(0, planned(2), Some(two.to_vec())).waits(Rule::LossWaits)
    ));

    // Nor does this pod have any where it does not hear itself.
    assert!(way_out(&blank.silent(1).waits(Rule::NoLeader)));

    let three = [founder(0), founder(1), founder(2)];
    let survivor = row(2, 3).runs(0, planned(3), Some(three.to_vec()));
    assert!(way_out(&survivor.clone().says(1, Kind::Blank).waits(Rule::NoLeader)));
    assert!(!way_out(&survivor.clone().silent(1).waits(Rule::NoLeader)), "it may have data");
    assert!(!way_out(&survivor.says_data(1).waits(Rule::NoLeader)));
}

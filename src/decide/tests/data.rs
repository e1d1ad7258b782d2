//! The rows of a disk that has a WAL.

use super::*;

fn me() -> Row {
    row(2, 3).wal(static_id(2))
}

fn all() -> Vec<Member> {
    vec![founder(0), founder(1), founder(2)]
}

fn without_me() -> Vec<Member> {
    vec![founder(0), founder(1)]
}

#[test]
fn listed_by_a_leader_starts_and_is_confirmed() {
    let listed = Start { confirmed: true, ..restart(static_id(2), planned(3)) };
    me().led(&[0, 1], planned(3), &all()).starts(Rule::DataListed, listed.clone());
    me().led(&[0], planned(3), &all()).silent(1).starts(Rule::DataListed, listed);
}

#[test]
fn a_listed_learner_starts_and_somebody_has_to_promote_it() {
    let listed = Start { confirmed: true, learner: true, ..restart(ADDED, planned(3)) };
    let members = [founder(0), founder(1), learner(voter(2, ADDED))];
    row(2, 3).wal(ADDED).led(&[0, 1], planned(3), &members).starts(Rule::DataListed, listed);
}

#[test]
fn a_learner_that_restarts_without_a_leader_still_has_to_be_promoted() {
    // In a full outage it may be up before there is a leader to list it, and nobody else waits to promote it.
    let row = row(2, 3).joined(planned(3), ADDED).wal(ADDED).silent(0).silent(1);
    row.starts(Rule::DataRestart, Start { learner: true, ..restart(ADDED, planned(3)) });
    let quick = row.clone().says_data(0).says_data(1).seen(|seen| seen.since.start = Duration::ZERO);
    quick.starts(Rule::DataRestart, Start { learner: true, ..restart(ADDED, planned(3)) });
    let voter = Stage::Joined { cluster_id: planned(3), member_id: ADDED, learner: false };
    row.clone().stage(voter).starts(Rule::DataRestart, restart(ADDED, planned(3)));
    row.wal(LATER).starts(Rule::DataRestart, restart(LATER, planned(3)));
}

#[test]
fn a_leader_lists_it_wins_over_the_grace_and_over_dns() {
    let row = me().led(&[0, 1], planned(3), &all()).seen(|seen| {
        seen.since.start = Duration::ZERO;
        seen.dns.own = OwnName::No(DnsFailure::NxDomain);
    });
    row.starts(Rule::DataListed, Start { confirmed: true, ..restart(static_id(2), planned(3)) });
}

#[test]
fn removed_by_a_majority_is_archived() {
    let archive = Step::Archive { member_id: Some(static_id(2)), cluster_id: Some(planned(3)), never_spoke: false };
    me().led(&[0, 1], planned(3), &without_me()).takes(Rule::DataRemoved, archive.clone());
    // Listed again under another ID is removed as well; what follows is REMOVING of that ID, after the archive.
    let again = [founder(0), founder(1), unstarted(2, ADDED)];
    me().led(&[0, 1], planned(3), &again).takes(Rule::DataRemoved, archive);
}

#[test]
fn removed_with_on_removed_fail_refuses() {
    let row = me().led(&[0, 1], planned(3), &without_me()).intent(|intent| intent.on_removed = OnRemoved::Fail);
    row.refuses(Rule::DataRemoved, 69);
}

#[test]
fn removed_by_a_list_that_no_majority_gives_is_not_archived() {
    // Pod 1 is a voter of that list, and its local list still has this member.
    let mut row = me().led(&[0, 1], planned(3), &without_me());
    if let PeerView::Etcd(etcd) = &mut row.seen.peers.get_mut(&pod(1)).unwrap().view {
        etcd.members = Some(all());
    }
    let early = row.clone().seen(|seen| seen.since.start = Duration::from_millis(899));
    early.waits(Rule::DataGrace);
    row.starts(Rule::DataRestart, restart(static_id(2), planned(3)));
}

#[test]
fn a_younger_cluster_is_refused() {
    // The leader is at term 5, and has committed 50.
    for place in [(6, 30, 30), (5, 51, 50), (6, 51, 0), (4, 51, 51), (3, 60, 51)] {
        let row = me().wal_facts(|facts| (facts.term, facts.index, facts.commit) = place);
        row.led(&[0, 1], planned(3), &without_me()).refuses(Rule::DataAheadOfCluster, 69);
    }
}

#[test]
fn a_tail_that_was_never_committed_is_no_sign_of_a_younger_cluster() {
    for place in [(5, 50, 50), (4, 50, 50), (4, 99, 50), (1, 1000, 3)] {
        let row = me().wal_facts(|facts| (facts.term, facts.index, facts.commit) = place);
        let archive = Step::Archive { member_id: Some(static_id(2)), cluster_id: Some(planned(3)), never_spoke: false };
        row.led(&[0, 1], planned(3), &without_me()).takes(Rule::DataRemoved, archive);
    }
}

#[test]
fn another_clusters_leader_is_waited_out_and_then_refused() {
    let members = [voter(0, MemberId(1)), voter(1, MemberId(2))];
    let row = me().led(&[0, 1], OTHER, &members);
    row.waits(Rule::DataForeign);
    let late = row.clone().seen(|seen| seen.since.foreign = Duration::from_secs(30));
    assert!(late.refuses(Rule::DataForeign, 69).contains("runs bad"));
    let early = row.seen(|seen| seen.since.foreign = Duration::from_millis(29_999));
    early.waits(Rule::DataForeign);
}

#[test]
fn another_clusters_leader_does_not_count_while_a_peer_has_this_one() {
    let long = |row: Row| row.seen(|seen| seen.since.foreign = Duration::from_secs(60));
    let foreign = || me().led(&[0], OTHER, &[voter(0, MemberId(1))]);
    let states = long(foreign().says_data(1));
    states.starts(Rule::DataRestart, restart(static_id(2), planned(3)));
    let runs = long(foreign().runs(1, planned(3), Some(all())));
    runs.starts(Rule::DataRestart, restart(static_id(2), planned(3)));
}

#[test]
fn another_cluster_without_a_leader_is_no_reason_to_wait() {
    let row = me().runs(0, OTHER, None).silent(1).seen(|seen| seen.since.foreign = Duration::from_secs(60));
    row.starts(Rule::DataRestart, restart(static_id(2), planned(3)));
}

#[test]
fn no_leader_starts_within_a_second() {
    let row = me().silent(0).no_record(1);
    row.starts(Rule::DataRestart, restart(static_id(2), planned(3)));
    let at = |millis| row.clone().seen(|seen| seen.since.start = Duration::from_millis(millis));
    at(899).waits(Rule::DataGrace);
    at(900).starts(Rule::DataRestart, restart(static_id(2), planned(3)));
}

#[test]
fn no_leader_starts_without_dns() {
    let row = me().seen(|seen| {
        seen.dns = Dns::default();
        seen.since.start = Duration::from_secs(1);
    });
    row.starts(Rule::DataRestart, restart(static_id(2), planned(3)));
}

#[test]
fn peers_that_all_say_that_nobody_leads_are_not_waited_for() {
    let row = me().seen(|seen| seen.since.start = Duration::from_millis(10));
    let start = || restart(static_id(2), planned(3));
    row.clone().says_data(0).says(1, Kind::Lost).starts(Rule::DataRestart, start());
    row.clone().says_data(0).runs(1, planned(3), None).starts(Rule::DataRestart, start());
    row.clone().says_data(0).silent(1).waits(Rule::DataGrace);
    // A client port that hangs may belong to a member whose cluster has a leader.
    let mut hangs = row.says_data(0).runs(1, planned(3), None);
    if let PeerView::Etcd(etcd) = &mut hangs.seen.peers.get_mut(&pod(1)).unwrap().view {
        etcd.list = Err(ListFailure::TimedOut);
    }
    hangs.waits(Rule::DataGrace);
}

#[test]
fn before_the_service_was_asked_nobody_knows_that_nobody_leads() {
    // A founder of one that was removed from the cluster it grew must hear of that before it starts in vain.
    let alone = row(0, 1).wal(static_id(0)).seen(|seen| seen.since.start = Duration::from_millis(10));
    alone.starts(Rule::DataRestart, restart(static_id(0), planned(1)));
    alone.clone().seen(|seen| seen.dns.service = ServiceRecords::NotAsked).waits(Rule::DataGrace);
    alone.journal(|journal| journal.unconfirmed_starts = 1).waits(Rule::DataGrace);
}

#[test]
fn who_was_about_to_leave_waits_for_a_leader_longer_and_not_for_ever() {
    let leaving = Leaving { member_id: static_id(2), cluster_id: planned(3) };
    let row = me().silent(0).silent(1).journal(|journal| journal.leaving = Some(leaving));
    let at = |millis| row.clone().seen(|seen| seen.since.start = Duration::from_millis(millis));
    at(7_999).waits(Rule::DataGrace);
    at(8_000).starts(Rule::DataRestart, restart(static_id(2), planned(3)));
}

#[test]
fn unconfirmed_starts_wait_longer() {
    for (starts, millis) in [(0, 900), (1, 1800), (2, 3600), (3, 7200), (4, 8000), (200, 8000)] {
        let row = me().silent(0).silent(1).journal(|journal| journal.unconfirmed_starts = starts);
        let at = |millis| row.clone().seen(|seen| seen.since.start = Duration::from_millis(millis));
        at(millis - 1).waits(Rule::DataGrace);
        at(millis).starts(Rule::DataRestart, restart(static_id(2), planned(3)));
    }
}

#[test]
fn a_leaver_restarts_like_any_other() {
    let leaving = |row: Row| {
        row.journal(|journal| {
            journal.leaving = Some(crate::journal::Leaving { member_id: static_id(2), cluster_id: planned(3) });
        })
    };
    leaving(me().silent(0).silent(1)).starts(Rule::DataRestart, restart(static_id(2), planned(3)));
    let archive = Step::Archive { member_id: Some(static_id(2)), cluster_id: Some(planned(3)), never_spoke: false };
    leaving(me().led(&[0, 1], planned(3), &without_me())).takes(Rule::DataRemoved, archive);
}

#[test]
fn a_wal_without_a_journal_is_the_seeds_and_restarts() {
    let row = me().silent(0).silent(1).seen(|seen| seen.disk.journal = JournalFile::Absent);
    row.starts(Rule::DataRestart, restart(static_id(2), planned(3)));
    let torn = me().silent(0).silent(1).seen(|seen| seen.disk.journal = JournalFile::Torn("crc".to_owned()));
    torn.starts(Rule::DataRestart, restart(static_id(2), planned(3)));
}

#[test]
fn a_wal_that_never_spoke_is_archived_where_the_journal_allows_its_id() {
    let archive = |id| Step::Archive { member_id: Some(id), cluster_id: Some(planned(3)), never_spoke: true };
    let mute = |row: Row| row.wal_facts(|facts| facts.spoke = false);
    mute(row(2, 3).prepared().wal(static_id(2))).takes(Rule::UnspokenWal, archive(static_id(2)));
    mute(row(2, 3).joined(planned(3), ADDED).wal(ADDED)).takes(Rule::UnspokenWal, archive(ADDED));
    // Whatever the peers say, and even where its snapshot is missing.
    let led = mute(row(2, 3).prepared().wal(static_id(2))).led(&[0, 1], planned(3), &all());
    led.wal_facts(|facts| facts.missing = Some("gone".to_owned())).takes(Rule::UnspokenWal, archive(static_id(2)));
}

#[test]
fn a_wal_that_never_spoke_is_kept_where_the_journal_is_about_another_id() {
    let mute = |row: Row| row.wal_facts(|facts| facts.spoke = false).silent(0).silent(1);
    let start = || restart(static_id(2), planned(3));
    mute(me()).starts(Rule::DataRestart, start());
    mute(me().joined(planned(3), ADDED)).starts(Rule::DataRestart, start());
    let removing = Stage::Removing { cluster_id: planned(3), member_id: static_id(2) };
    mute(me().stage(removing)).starts(Rule::DataRestart, start());
}

#[test]
fn force_new_cluster_starts_once() {
    let row = me().silent(0).silent(1).intent(|intent| intent.force_new_cluster = true);
    let forced = || Start { force_new_cluster: true, ..restart(static_id(2), planned(3)) };
    row.starts(Rule::ForceNewCluster, forced());
    row.journal(|journal| journal.forced_new_cluster = true)
        .starts(Rule::DataRestart, restart(static_id(2), planned(3)));
    // Empty pods that wait for it, and survivors without a leader, hold nothing back.
    let asked_at_once = |row: Row| row.seen(|seen| seen.since.start = Duration::ZERO);
    let me = || asked_at_once(me().intent(|intent| intent.force_new_cluster = true));
    me().says(0, Kind::WasMember).runs(1, planned(3), Some(all())).starts(Rule::ForceNewCluster, forced());
    let silent = me().silent(0).silent(1);
    silent.waits(Rule::DataGrace);
    silent.seen(|seen| seen.since.start = Duration::from_secs(8)).starts(Rule::ForceNewCluster, forced());
}

#[test]
fn force_new_cluster_forces_nothing_beside_a_leader() {
    let me = || me().intent(|intent| intent.force_new_cluster = true);
    let listed = Start { confirmed: true, ..restart(static_id(2), planned(3)) };
    me().led(&[0, 1], planned(3), &all()).starts(Rule::DataListed, listed);
    // One of its peers has a leader that has removed it: a majority of them will say so.
    me().led(&[0], planned(3), &[founder(0), founder(1)]).silent(1).waits(Rule::DataGrace);
    let archive = Step::Archive { member_id: Some(static_id(2)), cluster_id: Some(planned(3)), never_spoke: false };
    me().led(&[0, 1], planned(3), &[founder(0), founder(1)]).takes(Rule::DataRemoved, archive);
}

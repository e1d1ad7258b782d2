//! The rows of a blank disk, and of one that was a member's.

use super::*;
use crate::hearing::Listener;

fn me() -> Row {
    row(2, 3)
}

fn all_blank() -> Row {
    me().says(0, Kind::Blank).says(1, Kind::Blank)
}

fn prepare(size: u32, own: u32) -> Stage {
    Stage::Prepared { plan: plan(size), static_id: static_id(own), disks: disks(size) }
}

fn was_member() -> Row {
    me().journal(|journal| (journal.was_member, journal.cluster_id) = (true, Some(planned(3))))
}

#[test]
fn all_blank_twice_is_prepared() {
    all_blank().heard_twice().journals(Rule::Prepare, prepare(3, 2), &[]);
    me().says_prepared(0).says(1, Kind::Blank).heard_twice().journals(Rule::Prepare, prepare(3, 2), &[]);
    row(0, 1).heard_twice().journals(Rule::Prepare, prepare(1, 0), &[]);
}

#[test]
fn once_is_not_twice() {
    all_blank().waits(Rule::RollCall);
    let once = all_blank().seen(|seen| {
        let listener = Listener { others: [pod(0), pod(1)].into(), plan: &plan(3), lost: false };
        seen.hearing = Hearing::default().after(&listener, &seen.peers, 100);
    });
    once.waits(Rule::RollCall);
}

#[test]
fn one_silent_pod_stops_it_and_is_named() {
    let row = me().says(0, Kind::Blank).silent(1).heard_twice();
    let why = row.waits(Rule::RollCall);
    assert!(why.contains("etcd-1: connection refused at 10.0.0.1:2380") && !why.contains("etcd-0"), "{why}");
    let row = me().says(0, Kind::Blank).no_record(1).heard_twice();
    assert!(row.waits(Rule::RollCall).contains("etcd-1: no DNS record (NXDOMAIN)"));
    assert_eq!(waited_on(&row.decide()).len(), 2);
}

#[test]
fn a_higher_pod_that_dns_shows_has_to_say_blank() {
    let dns =
        |row: Row| row.seen(|seen| seen.dns.service = ServiceRecords::Pods((0..5).map(pod).collect())).heard_twice();
    assert!(dns(all_blank()).waits(Rule::RollCall).contains("etcd-4"));
    // The gap below the highest is asked, too.
    let gap = all_blank().says(4, Kind::Blank).heard_twice();
    assert!(gap.waits(Rule::RollCall).contains("etcd-3"));
    let heard = Stage::Prepared { plan: plan(3), static_id: static_id(2), disks: disks(5) };
    all_blank().says(3, Kind::Blank).says(4, Kind::Blank).heard_twice().journals(Rule::Prepare, heard, &[]);
}

#[test]
fn a_pod_that_appears_after_the_hearing_stops_it() {
    // The hearing is of the span as it was; DNS shows one more by now.
    let row = all_blank().heard_twice();
    row.silent(3).waits(Rule::RollCall);
}

#[test]
fn claims_of_higher_ordinals_stop_a_cluster_of_one() {
    let alone = row(0, 1).seen(|seen| seen.pods_wanted = claims(&[0, 1, 2])).heard_twice();
    assert!(alone.waits(Rule::RollCall).contains("a PersistentVolumeClaim of etcd-1 and of etcd-2 is there"));
    let own = row(0, 1).seen(|seen| seen.pods_wanted = claims(&[0])).heard_twice();
    own.journals(Rule::Prepare, prepare(1, 0), &[]);
    let replicas = Some(PodsWanted { replicas: Some(3), claimed: BTreeSet::new() });
    row(0, 1).seen(|seen| seen.pods_wanted = replicas).heard_twice().waits(Rule::RollCall);
    // The operator may say that the claims are leftovers.
    let told = row(0, 1).seen(|seen| seen.pods_wanted = claims(&[0, 1])).no_record(1);
    told.intent(|intent| intent.state = State::New).heard_twice().journals(Rule::Prepare, prepare(1, 0), &[]);
}

#[test]
fn nothing_is_prepared_before_the_service_was_asked() {
    // Else a cluster of one grown to three is founded a second time before DNS shows the others.
    for service in [ServiceRecords::NotAsked, ServiceRecords::Failed(DnsFailure::TimedOut("10.0.0.10".to_owned()))] {
        row(0, 1).seen(|seen| seen.dns.service = service).heard_twice().waits(Rule::RollCall);
    }
    let fixed = row(0, 1).seen(|seen| seen.dns.service = ServiceRecords::Static).heard_twice();
    fixed.journals(Rule::Prepare, prepare(1, 0), &[]);
}

#[test]
fn nothing_is_prepared_before_the_disk_has_its_id() {
    let row = all_blank().heard_twice().seen(|seen| seen.disk.journal = JournalFile::Absent);
    row.waits(Rule::RollCall);
}

#[test]
fn a_peer_with_data_stops_it() {
    for row in [
        me().says(0, Kind::Blank).says_data(1),
        me().says(0, Kind::Blank).says(1, Kind::Lost),
        me().says(0, Kind::Blank).says(1, Kind::WasMember),
        me().says(0, Kind::Blank).runs(1, planned(3), None),
        all_blank().runs(7, planned(3), None),
    ] {
        row.heard_twice().waits(Rule::NoLeader);
    }
}

#[test]
fn another_plan_stops_it() {
    let row = all_blank().plans(1, plan(2));
    assert!(row.heard_twice().waits(Rule::RollCall).contains("under another plan"));
}

#[test]
fn who_is_no_founder_waits() {
    let higher = row(3, 3).says(0, Kind::Blank).says(1, Kind::Blank).says(2, Kind::Blank).heard_twice();
    let why = higher.waits(Rule::NotAFounder);
    assert!(why.contains("(etcd-0, etcd-1, etcd-2)") && !why.contains("TLS"), "{why}");
    let tls = Silence::Tls { address: "10.0.0.1:2380".to_owned(), reason: "another CA".to_owned() };
    let why = higher.answer(1, PeerView::Silent(tls)).waits(Rule::NotAFounder);
    assert!(why.ends_with("it waits for their cluster (etcd-1: TLS with 10.0.0.1:2380: another CA)"), "{why}");
    all_blank().heard_twice().intent(|intent| intent.state = State::Existing).waits(Rule::NotAFounder);
}

#[test]
fn new_does_not_wait_for_silent_pods_but_for_a_majority() {
    let new = |row: Row| row.intent(|intent| intent.state = State::New).heard_twice();
    let heard = [0, 2].map(|n| (pod(n), disk_id(n))).into();
    let stage = Stage::Prepared { plan: plan(3), static_id: static_id(2), disks: heard };
    new(me().says(0, Kind::Blank).silent(1)).journals(Rule::Prepare, stage, &[]);
    new(me().silent(0).silent(1)).waits(Rule::RollCall);
    let heard = |heard: u32, of: u32| new((0..heard).fold(row(of - 1, of), |row, n| row.says(n, Kind::Blank)));
    for (enough, of) in [(2, 4), (2, 5), (3, 6)] {
        heard(enough - 1, of).waits(Rule::RollCall);
        assert_eq!(heard(enough, of).decide().rule, Rule::Prepare);
    }
    new(me().says(0, Kind::Blank).says_data(1)).waits(Rule::NoLeader);
    let early = me().says(0, Kind::Blank).silent(1).seen(|seen| seen.since.start = Duration::from_secs(4));
    new(early).waits(Rule::RollCall);
}

#[test]
fn a_leader_that_lists_it_means_that_a_disk_was_lost() {
    let stage = Stage::Removing { cluster_id: planned(3), member_id: static_id(2) };
    for own in [founder(2), unstarted(2, static_id(2))] {
        let list = [founder(0), founder(1), own];
        me().led(&[0, 1], planned(3), &list).journals(Rule::ReplaceMember, stage.clone(), &[static_id(2)]);
        was_member().led(&[0, 1], planned(3), &list).journals(Rule::ReplaceMember, stage.clone(), &[static_id(2)]);
        me().led(&[0], planned(3), &list).waits(Rule::ListUnconfirmed);
    }
}

#[test]
fn a_leader_that_lists_it_is_refused_where_the_settings_say_so() {
    let list = [founder(0), founder(1), founder(2)];
    let row = me().led(&[0, 1], planned(3), &list).intent(|intent| intent.on_lost_data = OnLostData::Fail);
    row.refuses(Rule::LossRefused, 69);
}

#[test]
fn a_leader_that_lacks_it_means_a_join_and_excludes_the_static_id() {
    let list = [founder(0), founder(1)];
    let stage = Stage::Intent { cluster_id: planned(3) };
    for row in [me(), was_member(), me().intent(|intent| intent.state = State::Existing)] {
        row.led(&[0, 1], planned(3), &list).journals(Rule::JoinIntent, stage.clone(), &[static_id(2)]);
    }
    let none = row(3, 3).led(&[0, 1], planned(3), &list);
    none.journals(Rule::JoinIntent, stage, &[]);
}

#[test]
fn a_member_is_known_by_its_pod_not_by_its_whole_url() {
    for url in
        ["https://etcd-2.etcd.test.svc.cluster.local:2380", "http://etcd-2.etcd:2380", "http://etcd-2.elsewhere:1"]
    {
        let listed = Member { peer_urls: vec![url.to_owned()], ..voter(2, ADDED) };
        let stage = Stage::Removing { cluster_id: planned(3), member_id: ADDED };
        me().led(&[0, 1], planned(3), &[founder(0), founder(1), listed]).journals(Rule::ReplaceMember, stage, &[ADDED]);
    }
    // One set per zone: the same ordinal of another set is another pod.
    let zone_b = Member { peer_urls: vec!["http://etcd-b-2.etcd.test.svc:2380".to_owned()], ..voter(2, ADDED) };
    let stage = Stage::Intent { cluster_id: planned(3) };
    let row = me().led(&[0, 1], planned(3), &[founder(0), founder(1), zone_b]);
    row.journals(Rule::JoinIntent, stage, &[static_id(2)]);
}

#[test]
fn who_was_a_member_waits_for_its_cluster() {
    was_member().says(0, Kind::Blank).says(1, Kind::Blank).heard_twice().waits(Rule::NoLeader);
    was_member().silent(0).silent(1).waits(Rule::NoLeader);
    let torn = all_blank().heard_twice().seen(|seen| seen.disk.journal = JournalFile::Torn("crc".to_owned()));
    torn.waits(Rule::NoLeader);
}

#[test]
fn who_was_a_member_joins_no_other_cluster() {
    let list = [voter(0, MemberId(1)), voter(1, MemberId(2))];
    let row = was_member().led(&[0, 1], OTHER, &list);
    row.waits(Rule::ForeignCluster);
    row.seen(|seen| seen.since.foreign = Duration::from_secs(30)).refuses(Rule::ForeignCluster, 69);
}

#[test]
fn a_blank_disk_goes_by_the_url_that_was_dialled() {
    // A list without the pod that was dialled is some other service's.
    let list = [voter(8, MemberId(1)), voter(9, MemberId(2))];
    me().led(&[0, 1], OTHER, &list).waits(Rule::NoLeader);
}

#[test]
fn peers_that_run_different_clusters_stop_a_founding_and_a_join() {
    let silent_lead = me().runs(0, planned(3), None).runs(1, OTHER, None);
    silent_lead.waits(Rule::ForeignCluster);
    let led = me().led(&[0], OTHER, &[voter(0, MemberId(1))]).runs(1, planned(3), None);
    led.waits(Rule::ForeignCluster);
    let why = led.seen(|seen| seen.since.foreign = Duration::from_secs(30)).refuses(Rule::ForeignCluster, 69);
    assert!(why.contains("etcd-0 runs bad") && why.contains("etcd-1 runs"), "{why}");
}

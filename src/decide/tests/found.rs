//! The rows of a disk that is PREPARED.

use super::*;

fn me() -> Row {
    row(2, 3).prepared()
}

#[test]
fn all_prepared_founds() {
    me().says_prepared(0).says_prepared(1).starts(Rule::FoundAll, founding(2, 3));
    row(0, 1).prepared().starts(Rule::FoundAll, founding(0, 1));
}

#[test]
fn all_prepared_means_the_initial_members() {
    // A higher pod only had to say blank, before; it goes to no PREPARED, and is not asked again.
    me().says_prepared(0).says_prepared(1).says(3, Kind::Blank).starts(Rule::FoundAll, founding(2, 3));
    me().says_prepared(0).says_prepared(1).silent(3).starts(Rule::FoundAll, founding(2, 3));
}

#[test]
fn not_all_prepared_waits() {
    for row in [
        me().says_prepared(0),
        me().says_prepared(0).silent(1),
        me().says_prepared(0).says(1, Kind::Blank),
        me().says_prepared(0).says(1, Kind::Lost),
        me().says_prepared(0).says(1, Kind::WasMember),
        me().says_prepared(0).says_data(1),
        me().says_data(0).says_data(1),
    ] {
        row.waits(Rule::RollCall);
    }
}

#[test]
fn prepared_under_another_plan_does_not_count() {
    let row = me().says_prepared(0).says_prepared(1).plans(1, plan(5));
    assert!(row.waits(Rule::RollCall).contains("under another plan"));
}

#[test]
fn a_founding_waits_for_the_own_name() {
    let row = me().says_prepared(0).says_prepared(1);
    row.seen(|seen| seen.dns.own = OwnName::No(DnsFailure::NxDomain)).waits(Rule::OwnNameUnpublished);
    let follow = me().runs(0, planned(3), None);
    follow.seen(|seen| seen.dns.own = OwnName::NotAsked).waits(Rule::OwnNameUnpublished);
}

#[test]
fn a_prepared_counts_only_while_a_majority_of_its_disks_is_there() {
    let renamed = |row: Row, n: u32| {
        row.seen(|seen| {
            if let PeerView::Waiting(said) = &mut seen.peers.get_mut(&pod(n)).unwrap().view {
                said.disk_id = DiskId::from("new");
            }
        })
    };
    let all = || me().says_prepared(0).says_prepared(1);
    // One of three has changed: two still are as they were heard.
    renamed(all(), 1).starts(Rule::FoundAll, founding(2, 3));
    renamed(renamed(all(), 1), 0).waits(Rule::DisksChanged);
    // A peer's own record counts as well as this pod's.
    let foreign_memory = (0..3).map(|n| (pod(n), DiskId(format!("older-{n}")))).collect();
    me().says_prepared(0).says(1, Kind::Prepared(foreign_memory)).waits(Rule::DisksChanged);
    // Two of two is the majority of two.
    let two = row(1, 2).prepared().says_prepared(0);
    two.starts(Rule::FoundAll, founding(1, 2));
    renamed(two.clone(), 0).waits(Rule::DisksChanged);
    renamed(two, 0).intent(|intent| intent.state = State::New).starts(Rule::FoundAll, founding(1, 2));
}

#[test]
fn a_peer_that_runs_the_plan_is_followed() {
    let own_free = || vec![founder(0), founder(1), unstarted(2, static_id(2))];
    me().runs(0, planned(3), Some(own_free())).starts(Rule::FoundFollow, founding(2, 3));
    // A killed founder has no list yet.
    me().runs(0, planned(3), None).starts(Rule::FoundFollow, founding(2, 3));
    // Founders carry their names in `/members` before they ever ran: only client URLs tell.
    let named = Member { client_urls: vec![], ..founder(2) };
    me().runs(0, planned(3), Some(vec![founder(0), named.clone()])).starts(Rule::FoundFollow, founding(2, 3));
    me().led(&[0, 1], planned(3), &[founder(0), founder(1), named]).starts(Rule::FoundFollow, founding(2, 3));
}

#[test]
fn a_follower_needs_no_silent_peer() {
    let row = me().led(&[0], planned(3), &[founder(0), founder(1), unstarted(2, static_id(2))]).silent(1);
    row.starts(Rule::FoundFollow, founding(2, 3));
}

#[test]
fn a_peer_of_the_plan_that_lacks_this_member_or_knows_that_it_ran_is_not_followed() {
    me().runs(0, planned(3), Some(vec![founder(0), founder(1)])).waits(Rule::RollCall);
    me().runs(0, planned(3), Some(vec![founder(0), founder(1), founder(2)])).waits(Rule::RollCall);
}

#[test]
fn another_cluster_is_never_followed() {
    let row = me().runs(0, OTHER, None).says_prepared(1);
    row.waits(Rule::ForeignCluster);
    row.seen(|seen| seen.since.foreign = Duration::from_secs(30)).refuses(Rule::ForeignCluster, 69);
}

#[test]
fn a_static_id_that_ran_elsewhere_is_replaced() {
    let stage = Stage::Removing { cluster_id: planned(3), member_id: static_id(2) };
    let list = [founder(0), founder(1), founder(2)];
    me().led(&[0, 1], planned(3), &list).journals(Rule::ReplaceMember, stage, &[static_id(2)]);
    me().led(&[0], planned(3), &list).waits(Rule::ListUnconfirmed);
}

#[test]
fn a_static_id_that_was_removed_is_joined_anew() {
    let row = me().led(&[0, 1], planned(3), &[founder(0), founder(1)]);
    row.journals(Rule::JoinIntent, Stage::Intent { cluster_id: planned(3) }, &[static_id(2)]);
    me().led(&[0], planned(3), &[founder(0), founder(1), founder(3)]).waits(Rule::ListUnconfirmed);
}

#[test]
fn another_id_of_this_pod_is_replaced() {
    let stage = Stage::Removing { cluster_id: planned(3), member_id: ADDED };
    let row = me().led(&[0, 1], planned(3), &[founder(0), founder(1), unstarted(2, ADDED)]);
    row.journals(Rule::ReplaceMember, stage, &[ADDED]);
}

#[test]
fn the_journalled_plan_counts_where_a_peer_runs_it() {
    // The settings plan five by now.
    let row = me().intent(|intent| intent.plan = plan(5));
    row.clone().runs(0, planned(3), None).starts(Rule::FoundFollow, founding(2, 3));
    row.clone().silent(0).silent(1).waits(Rule::RollCall);
    // A new plan needs all to be blank again, twice.
    let blank = (0..5).filter(|n| *n != 2).fold(row, |row, n| row.says(n, Kind::Blank)).heard_twice();
    let stage = Stage::Prepared { plan: plan(5), static_id: static_id(2), disks: disks(5) };
    blank.journals(Rule::Prepare, stage, &[]);
}

#[test]
fn an_existing_pod_founds_nothing_but_follows() {
    let row = me().intent(|intent| intent.state = State::Existing);
    row.clone().says_prepared(0).says_prepared(1).waits(Rule::NotAFounder);
    row.runs(0, planned(3), None).starts(Rule::FoundFollow, founding(2, 3));
}

#[test]
fn new_founds_with_a_majority_of_the_founders_and_silence() {
    let row = me().intent(|intent| intent.state = State::New);
    let quorum = row.clone().says_prepared(0).silent(1);
    quorum.starts(Rule::FoundUnasked, founding(2, 3));
    quorum.clone().seen(|seen| seen.since.start = Duration::from_millis(4999)).waits(Rule::RollCall);
    row.clone().silent(0).silent(1).waits(Rule::RollCall);
    quorum.says(3, Kind::Blank).starts(Rule::FoundUnasked, founding(2, 3));
}

#[test]
fn new_never_acts_where_a_peer_has_data_or_runs_etcd() {
    let row = me().intent(|intent| intent.state = State::New).says_prepared(0);
    for others in [
        row.clone().says_data(1),
        row.clone().says(1, Kind::Lost),
        row.clone().says(1, Kind::WasMember),
        row.clone().silent(1).says_data(3),
        row.clone().silent(1).says(3, Kind::WasMember),
        row.clone().silent(1).says(3, Kind::Lost),
        row.clone().silent(1).runs(3, planned(3), Some(vec![founder(0), founder(3)])),
    ] {
        others.waits(Rule::RollCall);
    }
    row.silent(1).runs(3, OTHER, None).waits(Rule::ForeignCluster);
}

#[test]
fn a_lost_member_that_ran_is_not_replaced_against_the_settings() {
    let fail = |row: Row| row.intent(|intent| intent.on_lost_data = OnLostData::Fail);
    fail(me()).led(&[0, 1], planned(3), &[founder(0), founder(1), founder(2)]).refuses(Rule::LossRefused, 69);
    let joined = row(3, 3).joined(planned(3), ADDED);
    fail(joined).led(&[0, 1, 2], planned(3), &[founder(0), founder(1), voter(3, ADDED)]).refuses(Rule::LossRefused, 69);
}

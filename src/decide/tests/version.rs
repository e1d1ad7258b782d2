//! What the versions of etcd forbid, and that nothing is forbidden that is not certain.

use super::*;
use crate::observation::{DataVersions, EtcdVersion};

fn all() -> Vec<Member> {
    vec![founder(0), founder(1), founder(2)]
}

impl Row {
    /// This image's etcd.
    fn image(self, version: &str) -> Self {
        self.seen(|seen| seen.image.version = Some(version.to_owned()))
    }

    /// What the pods that run etcd say of the cluster's version, in the order of their names.
    fn cluster_versions(mut self, versions: &[&str]) -> Self {
        let etcds = self.seen.peers.values_mut().filter_map(|answer| match &mut answer.view {
            PeerView::Etcd(etcd) => Some(etcd),
            _ => None,
        });
        for (etcd, version) in etcds.zip(versions) {
            etcd.version = Some(EtcdVersion { server: "3.9.9".to_owned(), cluster: (*version).to_owned() });
        }
        self
    }

    fn data(self, data: DataVersions) -> Self {
        self.seen(|seen| seen.image.data = Some(data))
    }

    fn hint(&self) -> String {
        let Action::Refuse { hint, .. } = self.decide().action else { panic!("{:#?}", self.decide()) };
        hint
    }
}

/// Each way to a membership change or an archive, with a leader that etcd-2's disk has to do with.
fn on_the_way_to_a_join() -> Vec<Row> {
    let without_me = [founder(0), founder(1)];
    let led = |row: Row, members: &[Member]| row.led(&[0, 1], planned(3), members);
    vec![
        led(row(2, 3), &all()),
        led(row(2, 3), &without_me),
        led(row(2, 3).stage(Stage::Intent { cluster_id: planned(3) }), &without_me),
        led(row(2, 3).stage(Stage::Removing { cluster_id: planned(3), member_id: static_id(2) }), &all()),
        led(row(2, 3).joined(planned(3), ADDED), &[founder(0), founder(1), unstarted(2, ADDED)]),
        led(row(2, 3).wal(static_id(2)), &without_me),
        led(row(2, 3).wal(static_id(2)).wal_facts(|facts| facts.missing = Some("no db".to_owned())), &all()),
    ]
}

#[test]
fn a_joiner_of_the_wrong_version_is_refused_before_anything_is_touched() {
    for row in on_the_way_to_a_join() {
        let row = row.cluster_versions(&["3.6.0", "3.6.0"]);
        let usual = row.decide();
        for fits in ["3.6.16", "3.7.3"] {
            assert_eq!(row.clone().image(fits).decide().action, usual.action, "{fits}");
        }
        let older = row.clone().image("3.5.35");
        assert!(older.refuses(Rule::ClusterVersion, 78).contains("version 3.6, and etcd 3.5.35"));
        assert!(older.hint().contains("etcd 3.6"));
        let newer = row.cluster_versions(&["3.5.0", "3.5.0"]).image("3.7.3");
        assert!(newer.refuses(Rule::ClusterVersion, 78).contains("more than one minor version newer"));
        assert!(newer.hint().contains("etcd 3.5 or 3.6"));
    }
}

#[test]
fn the_lowest_version_that_a_leader_s_member_says_counts() {
    let joiner = || row(3, 3);
    let row = joiner().led(&[0, 1, 2], planned(3), &all()).cluster_versions(&["3.6.0", "3.5.0", "3.6.0"]);
    row.clone().image("3.5.35").journals(Rule::JoinIntent, Stage::Intent { cluster_id: planned(3) }, &[]);
    assert_eq!(row.image("3.7.3").decide().rule, Rule::ClusterVersion);
    // Who has no leader may know an old one.
    let cut_off = joiner().led(&[0, 1], planned(3), &all()).runs(2, planned(3), Some(all()));
    cut_off.cluster_versions(&["3.6.0", "3.6.0", "3.5.0"]).image("3.5.35").refuses(Rule::ClusterVersion, 78);
}

#[test]
fn a_cluster_that_has_just_been_founded_has_its_members_version() {
    let young = row(3, 3).led(&[0, 1, 2], planned(3), &all()).cluster_versions(&["3.0.0", "3.0.0", "3.0.0"]);
    let young = young.seen(|seen| {
        for answer in seen.peers.values_mut() {
            if let PeerView::Etcd(EtcdView { version: Some(version), .. }) = &mut answer.view {
                version.server = "3.6.16".to_owned();
            }
        }
    });
    for fits in ["3.6.16", "3.7.3"] {
        young.clone().image(fits).journals(Rule::JoinIntent, Stage::Intent { cluster_id: planned(3) }, &[]);
    }
    assert!(young.clone().image("3.5.35").refuses(Rule::ClusterVersion, 78).contains("version 3.6"));
    assert!(young.image("3.8.0").refuses(Rule::ClusterVersion, 78).contains("version 3.6"));
}

#[test]
fn what_is_not_known_is_for_etcd_to_judge() {
    for row in on_the_way_to_a_join() {
        let usual = row.decide().action;
        assert_eq!(row.clone().cluster_versions(&["3.6.0", "3.6.0"]).decide().action, usual, "no own version");
        assert_eq!(row.clone().image("3.4.1").decide().action, usual, "no version of the cluster");
        assert_eq!(row.cluster_versions(&["3.6.0", "3.6.0"]).image("nightly").decide().action, usual);
    }
    let cold = row(2, 3).wal(static_id(2)).runs(0, planned(3), Some(all())).cluster_versions(&["3.6.0"]);
    cold.image("3.5.35").starts(Rule::DataRestart, restart(static_id(2), planned(3)));
}

#[test]
fn a_founder_of_another_version_is_for_etcd_to_judge() {
    let founder = |version: &str| {
        let row = row(2, 3).prepared().led(&[0, 1], planned(3), &[founder(0), founder(1), unstarted(2, static_id(2))]);
        row.cluster_versions(&[version, version]).image("3.5.35")
    };
    for version in ["3.6.0", "not_decided"] {
        assert_eq!(founder(version).decide().rule, Rule::FoundFollow, "{version}");
    }
}

#[test]
fn what_only_waits_is_not_refused() {
    let row = row(3, 3).led(&[0], planned(3), &all()).cluster_versions(&["3.6.0"]).image("3.5.35");
    row.waits(Rule::ListUnconfirmed);
}

#[test]
fn nobody_joins_while_a_member_does_not_know_the_cluster_s_version() {
    let intent = row(3, 3).stage(Stage::Intent { cluster_id: planned(3) });
    let joined = row(3, 3).joined(planned(3), ADDED);
    let members = [all(), vec![unstarted(3, ADDED)]].concat();
    for row in [intent.led(&[0, 1, 2], planned(3), &all()), joined.led(&[0, 1, 2], planned(3), &members)] {
        let row = row.image("3.6.16");
        assert!(row.clone().cluster_versions(&["3.6.0", "not_decided"]).waits(Rule::JoinWaits).contains("etcd-1"));
        let decided = row.cluster_versions(&["3.6.0", "3.6.0"]).decide().rule;
        assert!(matches!(decided, Rule::JoinAdd | Rule::JoinStart), "{decided}");
    }
}

#[test]
fn an_older_etcd_does_not_start_on_newer_data() {
    let data = |cluster: &str, storage: Option<&str>| DataVersions {
        cluster: Some(cluster.to_owned()),
        storage: storage.map(str::to_owned),
        unreplayable: None,
    };
    let start = |image: &str, data: DataVersions| {
        row(2, 3).wal(static_id(2)).led(&[0, 1], planned(3), &all()).image(image).data(data)
    };
    let refused = start("3.5.35", data("3.6.0", Some("3.6.0")));
    assert!(refused.refuses(Rule::DataVersion, 78).contains("the data on this disk is of etcd 3.6, and etcd 3.5.35"));
    assert!(refused.hint().contains("etcdctl downgrade enable 3.5"));
    start("3.6.16", data("3.7.0", Some("3.7.0"))).refuses(Rule::DataVersion, 78);
    start("3.6.16", data("3.6.0", Some("3.7.0"))).refuses(Rule::DataVersion, 78);
    let no_way_back = start("3.4.23", data("3.5.0", None));
    no_way_back.refuses(Rule::DataVersion, 78);
    assert!(!no_way_back.hint().contains("downgrade"));
    let listed = Start { confirmed: true, ..restart(static_id(2), planned(3)) };
    // The downgrade was enabled, or not all were upgraded yet; a patch is no version of the data.
    for (image, found) in [
        ("3.5.35", data("3.5.0", None)),
        ("3.5.35", data("3.5.0", Some("3.6.0"))),
        ("3.6.16", data("3.6.0", Some("3.6.0"))),
        ("3.7.3", data("3.6.0", Some("3.6.0"))),
        ("3.5.35", DataVersions::default()),
    ] {
        start(image, found).starts(Rule::DataListed, listed.clone());
    }
}

#[test]
fn a_member_whose_cluster_is_newer_does_not_start() {
    let row = row(2, 3).wal(static_id(2)).led(&[0, 1], planned(3), &all()).cluster_versions(&["3.6.0", "3.6.0"]);
    row.clone().image("3.5.35").refuses(Rule::ClusterVersion, 78);
    let listed = Start { confirmed: true, ..restart(static_id(2), planned(3)) };
    row.cluster_versions(&["3.5.0", "3.6.0"]).image("3.5.35").starts(Rule::DataListed, listed);
}

#[test]
fn a_log_that_cannot_be_replayed_is_refused_with_the_way_out() {
    let data = DataVersions { unreplayable: Some(17), ..DataVersions::default() };
    let row = row(2, 3).wal(static_id(2)).led(&[0, 1], planned(3), &all()).data(data);
    let row_37 = row.clone().image("3.7.3");
    assert!(row_37.refuses(Rule::LogVersion, 78).contains("index 17"));
    assert!(row_37.hint().contains("restart every member once more on 3.6"));
    let row_36 = row.image("3.6.16");
    row_36.refuses(Rule::LogVersion, 78);
    assert!(row_36.hint().contains("--snapshot-count=1"));
}

#[test]
fn a_joiner_of_3_7_is_a_learner_in_a_cluster_of_3_6_and_warned() {
    let joining = |cluster: &str, image: &str| {
        row(3, 3)
            .stage(Stage::Intent { cluster_id: planned(3) })
            .led(&[0, 1, 2], planned(3), &all())
            .cluster_versions(&[cluster, cluster, cluster])
            .image(image)
            .intent(|intent| intent.join_as = JoinAs::Voter)
    };
    let warned = |row: &Row| row.decide().warnings.iter().any(|warning| warning.fix.contains("once more on 3.6"));
    let add = |learner| Step::Add { learner, cluster_id: planned(3) };
    let old_log = joining("3.6.0", "3.7.3");
    old_log.takes(Rule::JoinAdd, add(true));
    assert!(warned(&old_log));
    for row in [joining("3.7.0", "3.7.3"), joining("3.6.0", "3.6.16")] {
        row.takes(Rule::JoinAdd, add(false));
        assert!(!warned(&row));
    }
}

//! Lost disks, removed members, and what must never happen after either.

use std::time::Duration;

use crate::harness::*;
use crate::templates::*;

fn lose(pod: &Pod) {
    pod.kill();
    pod.wipe();
}

fn says(pod: &Pod, what: &str) {
    eventually(SOON, "the pod says why it waits", || {
        let answer = pod.http_get(2381, "/readyz")?;
        if answer.body.contains(what) { Ok(()) } else { Err(answer.body) }
    });
}

/// A writer's history over the scenario, checked on all pods at its end.
fn nothing_is_lost(pods: &[Pod], writer: Writer) {
    writer.wait_for(20, SOON);
    check(&all(pods), &[&writer.stop()], SOON).assert_clean();
}

#[test]
fn two_of_five_disks_are_lost_one_after_the_other() {
    let world = World::v4();
    let pods = founded(&world, 5);
    let writer = Writer::start(&world, &all(&pods));
    for lost in [leader_of(&all(&pods)).unwrap(), pods[3].clone()] {
        writer.wait_for(20, SOON);
        lose(&lost);
        lost.start();
        wait_for_voters(&all(&pods), 5, SOON);
    }
    nothing_is_lost(&pods, writer);
}

#[test]
fn a_lost_disk_is_refused_where_the_settings_say_so() {
    let world = World::v4();
    let pods = founded(&world, 3);
    lose(&pods[2]);
    pods[2].edit(|spec| spec.set_env("BOOTSTRAP_ON_LOST_DATA", "fail"));
    pods[2].start();
    assert_eq!(pods[2].wait_for_exit(SOON).code(), 69);
    let message = pods[2].termination_message();
    assert!(message.contains("BOOTSTRAP_ON_LOST_DATA=fail"), "{message}");
    assert_eq!(members(&pods[0]).unwrap().len(), 3);
}

/// etcd alone loses acknowledged writes here, in every version: one is behind, one is ahead, and the one that had voted
/// for both comes back empty and first.
fn the_case_in_which_etcd_loses_writes() {
    let world = World::v4();
    let pods = founded(&world, 3);
    put(&pods[0], "before", "1").unwrap();
    pods[1].kill();
    let alive = [&pods[0], &pods[2]];
    wait_healthy(&alive, SOON);
    let writer = Writer::start(&world, &alive);
    writer.wait_for(20, SOON);
    let written = writer.stop();
    pods[0].kill();
    lose(&pods[2]);
    pods[2].start();
    says(&pods[2], "etcd-0");
    pods[1].start();
    says(&pods[2], "runs etcd, cluster");
    assert!(!pods[2].runs_etcd());
    pods[0].start();
    wait_for_voters(&all(&pods), 3, SOON);
    check(&all(&pods), &[&written], SOON).assert_clean();
}

#[test]
fn acknowledged_writes_survive_where_etcd_alone_loses_them() {
    let runs = if std::env::var_os("TEST_LONG").is_some() { 20 } else { 2 };
    (0..runs).for_each(|_| the_case_in_which_etcd_loses_writes());
}

#[test]
fn a_quorum_of_disks_lost_founds_nothing_beside_the_survivor() {
    let world = World::v4();
    let pods = founded(&world, 3);
    put(&pods[0], "kept", "1").unwrap();
    pods.iter().for_each(Pod::kill);
    pods[1].wipe();
    pods[2].wipe();
    pods[1].start();
    pods[2].start();
    says(&pods[1], "etcd-0");
    pods[0].start();
    says(&pods[1], "runs etcd, cluster");
    stays(Duration::from_secs(5), "no empty pod starts etcd", || {
        if pods[1].runs_etcd() || pods[2].runs_etcd() { Err("etcd runs".to_owned()) } else { Ok(()) }
    });
}

#[test]
fn a_lost_disk_waits_while_the_others_are_down_and_is_replaced_when_they_are_back() {
    let world = World::v4();
    let pods = founded(&world, 3);
    let writer = Writer::start(&world, &all(&pods));
    writer.wait_for(20, SOON);
    pods.iter().for_each(Pod::kill);
    pods[0].wipe();
    pods[0].start();
    says(&pods[0], "etcd-1");
    pods[1].start();
    pods[2].start();
    wait_for_voters(&all(&pods), 3, SOON);
    nothing_is_lost(&pods, writer);
}

#[test]
fn all_disks_lost_founds_anew_and_existing_forbids_even_that() {
    let world = World::v4();
    let pods = founded(&world, 3);
    pods.iter().for_each(lose);
    pods.iter().for_each(|pod| pod.edit(|spec| spec.set_env("BOOTSTRAP_STATE", "existing")));
    pods.iter().for_each(Pod::start);
    says(&pods[0], "BOOTSTRAP_STATE=existing");
    stays(Duration::from_secs(3), "nobody founds", || {
        if pods.iter().any(Pod::runs_etcd) { Err("etcd runs".to_owned()) } else { Ok(()) }
    });
    pods.iter().for_each(|pod| pod.edit(|spec| spec.unset_env("BOOTSTRAP_STATE")));
    pods.iter().for_each(Pod::restart);
    wait_for_voters(&all(&pods), 3, SOON);
}

#[test]
fn a_member_removed_while_down_is_archived_and_joins_as_new() {
    let world = World::v4();
    let pods = founded(&world, 3);
    let writer = Writer::start(&world, &all(&pods));
    writer.wait_for(20, SOON);
    for _ in 0..2 {
        let removed = members(&pods[0]).unwrap().into_iter().find(|member| member.name == "etcd-2").unwrap();
        pods[2].kill();
        eventually(SOON, "etcd takes the removal", || {
            etcdctl(&pods[0], &["member", "remove", &format!("{:x}", removed.id)])
        });
        pods[2].start();
        wait_for_voters(&all(&pods), 3, SOON);
    }
    let archives = std::fs::read_dir(pods[2].volume_dir("/data").join("etcd/.etcd-bootstrap")).unwrap();
    let names: Vec<String> = archives.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(
        names.iter().filter(|name| name.starts_with("archive-")).count(),
        1,
        "one generation is kept: {names:?}"
    );
    nothing_is_lost(&pods, writer);
}

#[test]
fn a_foreign_volume_is_refused_and_stays_as_it_is() {
    let world = World::v4();
    let pods = founded(&world, 3);
    let elsewhere = world.pods("etcd", 2..3, |spec| {
        let mut spec = entrypoint(spec, 1).service("other");
        spec.set_env("SERVICE_NAME", "other");
        spec.set_env("BOOTSTRAP_ORDINAL_START", "2");
        spec
    });
    elsewhere[0].start();
    wait_for_voters(&[&elsewhere[0]], 1, SOON);
    let foreign = elsewhere[0].save_volume("/data");
    elsewhere[0].kill();
    pods[2].kill();
    pods[2].restore_volume(&foreign);
    pods[2].start();
    // On a busy machine no peer may answer within the first second, and etcd starts on the data: it can harm nobody,
    // and each restart waits longer than the one before.
    eventually(SOON, "it sees that it does not belong here", || {
        if pods[2].runs_etcd() {
            pods[2].restart_container();
        }
        let answer = pods[2].http_get(2381, "/readyz")?;
        if answer.body.contains("belongs to the cluster") { Ok(()) } else { Err(answer.body) }
    });
    assert_eq!(pods[2].wait_for_exit(SOON).code(), 69);
    assert!(pods[2].volume_dir("/data").join("etcd/member/wal").is_dir());
}

#[test]
fn a_swapped_volume_is_refused() {
    let world = World::v4();
    let pods = founded(&world, 3);
    let other = pods[1].save_volume("/data");
    pods[2].kill();
    pods[2].restore_volume(&other);
    pods[2].start();
    assert_eq!(pods[2].wait_for_exit(SOON).code(), 69);
    assert!(pods[2].termination_message().contains("etcd-1"), "{}", pods[2].termination_message());
}

#[test]
fn the_wal_volume_alone_is_lost_and_the_member_replaced() {
    let world = World::v4();
    let pods = world.pods("etcd", 0..3, |spec| {
        let mut spec = entrypoint(spec, 3).volume("/wal");
        spec.argv.push("--wal-dir=/wal/etcd".to_owned());
        spec
    });
    pods.iter().for_each(Pod::start);
    wait_for_voters(&all(&pods), 3, SOON);
    let writer = Writer::start(&world, &all(&pods));
    for volume in ["/wal", "/data"] {
        writer.wait_for(20, SOON);
        pods[1].kill();
        pods[1].wipe_volume(volume);
        pods[1].start();
        wait_for_voters(&all(&pods), 3, SOON);
    }
    nothing_is_lost(&pods, writer);
}

//! Lost disks, removed members, and what must never happen after either.

use std::time::Duration;

use crate::harness::*;
use crate::templates::*;

#[test]
fn two_of_five_disks_are_lost_one_after_the_other() {
    let world = World::v4();
    let pods = founded(&world, 5);
    let writer = Writer::start(&world, &all(&pods));
    for (lost, is_late) in [(leader_of(&all(&pods)).unwrap(), false), (pods[3].clone(), true)] {
        writer.wait_for(20, SOON);
        let listed = members(&pods[0]).unwrap();
        let others = members_beside(&lost, &pods);
        if is_late {
            world.dns().freeze_records();
        }
        lose(&lost);
        lost.start();
        if is_late {
            // What the others could not reach is not a member.
            says_that_its_record_is_old(&lost, "only this process may answer at");
            stays(Duration::from_secs(2), "nothing is changed", || {
                if members(&pods[0])? == listed { Ok(()) } else { Err("the members have changed".to_owned()) }
            });
            world.dns().thaw_records();
        }
        wait_for_voters(&all(&pods), 5, SOON);
        assert_eq!(members_beside(&lost, &pods), others, "no healthy member is removed");
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
    let data = || contents(&pods[2].volume_dir("/data").join("etcd/member"));
    let mut before = data();
    let exit = eventually(SOON * 2, "it is refused", || {
        if pods[2].runs_etcd() {
            pods[2].restart_container();
            before = data();
        }
        pods[2].exit().ok_or("it waits".to_owned())
    });
    assert_eq!(exit.code(), 69);
    assert!(pods[2].termination_message().contains("belongs to the cluster"), "{}", pods[2].termination_message());
    assert_eq!(data(), before);
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

fn on_two_volumes(spec: PodSpec, size: u32) -> PodSpec {
    let mut spec = entrypoint(spec, size).volume("/wal");
    spec.argv.push("--wal-dir=/wal/etcd".to_owned());
    spec
}

#[test]
fn the_wal_volume_alone_is_lost_and_the_member_replaced() {
    let world = World::v4();
    let pods = world.pods("etcd", 0..3, |spec| on_two_volumes(spec, 3));
    pods.iter().for_each(Pod::start);
    wait_for_voters(&all(&pods), 3, SOON);
    let writer = Writer::start(&world, &all(&pods));
    for volume in ["/wal", "/data"] {
        writer.wait_for(20, SOON);
        let others = members_beside(&pods[1], &pods);
        pods[1].kill();
        pods[1].wipe_volume(volume);
        pods[1].start();
        wait_for_voters(&all(&pods), 3, SOON);
        assert_eq!(members_beside(&pods[1], &pods), others, "no healthy member is removed");
    }
    nothing_is_lost(&pods, writer);
}

/// Two of five founders run, which is no quorum; one loses one of its volumes, the other all that it had.
#[test]
fn five_founders_go_on_though_two_have_run_and_lost_their_disks() {
    let world = World::v4();
    let pods = world.pods("etcd", 0..5, |spec| on_two_volumes(spec, 5));
    let (ran, never_ran) = pods.split_at(2);
    never_ran.iter().for_each(|pod| {
        pod.edit(|spec| spec.set_env("ETCD_BOOTSTRAP_FAILPOINT", "pairing-before-data-half"));
    });
    pods.iter().for_each(Pod::start);
    eventually(SOON, "two have run", || {
        // Each ends once it is about to found, and says "prepared" to the others when it is there again.
        never_ran.iter().filter(|pod| !pod.is_running()).for_each(Pod::restart);
        let begun = |pod: &&Pod| {
            std::fs::read_dir(pod.volume_dir("/wal").join("etcd")).is_ok_and(|mut wal| wal.next().is_some())
        };
        if ran.iter().filter(begun).count() == 2 { Ok(()) } else { Err(ran[0].log_tail(5)) }
    });
    pods.iter().for_each(Pod::kill);
    ran[0].wipe_volume("/data");
    lose(&ran[1]);
    never_ran.iter().for_each(|pod| pod.edit(|spec| spec.unset_env("ETCD_BOOTSTRAP_FAILPOINT")));

    pods.iter().for_each(Pod::start);
    wait_for_voters(&all(&pods), 5, SOON);
    assert!(ran[0].logs().contains("loss-before-founding"), "{}", ran[0].logs());
}

//! Each case in which etcd alone ends, diverges or loses acknowledged writes after a disk was lost. The entrypoint loses
//! none, in every version: `make test` runs each case on one, `make test-long` on all. A volume that was rolled back to an
//! older snapshot is not among them, for nobody can see that.

use std::time::Duration;

use crate::harness::*;
use crate::templates::*;

/// etcd: joins silently under the old ID.
#[test]
fn the_leader_changes_while_a_wiped_member_is_down() {
    for etcd in etcds_for(0) {
        let world = World::v4();
        let pods = founded_on(&world, 3, &etcd);
        let leader = leader_of(&all(&pods)).unwrap();
        let wiped = pods.iter().find(|pod| pod.name() != leader.name()).unwrap();
        let writer = Writer::start(&world, &all(&pods));
        writer.wait_for(20, SOON);
        lose(wiped);
        leader.kill();
        leader.start();
        wiped.start();
        wait_for_voters(&all(&pods), 3, SOON);
        nothing_is_lost(&pods, writer);
    }
}

/// etcd: joins silently, and the keys survive only because the other two are current.
#[test]
fn all_are_down_and_the_wiped_one_starts_first() {
    for etcd in etcds_for(1) {
        let world = World::v4();
        let pods = founded_on(&world, 3, &etcd);
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
}

/// etcd loses acknowledged writes here, in every version: one is behind, one is ahead, and the one that had voted for
/// both comes back empty and first.
fn the_case_in_which_etcd_loses_writes(etcd: &Etcd) {
    let world = World::v4();
    let pods = founded_on(&world, 3, etcd);
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
    let etcds = etcds();
    let runs = if is_long() { 20 } else { 2 };
    (0..runs).for_each(|run| the_case_in_which_etcd_loses_writes(&etcds[(run + 2) % etcds.len()]));
}

/// etcd: an empty healthy cluster under the same cluster ID, then divergence. Only an operator can give up what the lost
/// disks had.
#[test]
fn a_quorum_of_disks_lost_founds_nothing_beside_the_survivor_until_an_operator_names_it() {
    for etcd in etcds_for(4) {
        let world = World::v4();
        let pods = founded_on(&world, 3, &etcd);
        let writer = Writer::start(&world, &all(&pods));
        writer.wait_for(20, SOON);
        pods.iter().for_each(|pod| wait_healthy(&[pod], SOON));
        let written = writer.stop();
        check(&all(&pods), &[&written], SOON).assert_clean();
        // As Kubernetes ends it. An etcd that is killed may not have noted its last commits, and drops them when forced.
        pods[0].stop(SOON);
        pods[1..].iter().for_each(lose);
        pods[1].start();
        pods[2].start();
        says(&pods[1], "etcd-0");
        pods[0].start();
        says(&pods[1], "BOOTSTRAP_FORCE_NEW_CLUSTER");
        stays(Duration::from_secs(2), "no empty pod starts etcd", || {
            if pods[1].runs_etcd() || pods[2].runs_etcd() { Err("etcd runs".to_owned()) } else { Ok(()) }
        });
        for pod in &pods {
            pod.edit(|spec| spec.set_env("BOOTSTRAP_FORCE_NEW_CLUSTER", "etcd-0"));
        }
        pods[0].stop(SOON);
        pods[0].start();
        wait_for_voters(&all(&pods), 3, SOON);
        check(&all(&pods), &[&written], SOON).assert_clean();
        // Whoever leaves it in the template: the pod is given a new volume one day, and restarts.
        lose(&pods[0]);
        pods[0].start();
        wait_for_voters(&all(&pods), 3, SOON);
        pods[0].restart();
        wait_for_voters(&all(&pods), 3, SOON);
        check(&all(&pods), &[&written], SOON).assert_clean();
    }
}

/// etcd: ends with `the member has been permanently removed from the cluster`.
#[test]
fn a_member_removed_while_down_is_archived_and_joins_as_new() {
    for etcd in etcds_for(3) {
        let world = World::v4();
        let pods = founded_on(&world, 3, &etcd);
        let writer = Writer::start(&world, &all(&pods));
        writer.wait_for(20, SOON);
        for _ in 0..2 {
            pods[2].kill();
            remove(&pods[0], "etcd-2");
            pods[2].start();
            joins_again(&pods, &pods[2]);
        }
        assert_eq!(archives(&pods[2]).len(), 1, "one generation is kept: {:?}", archives(&pods[2]));
        nothing_is_lost(&pods, writer);
    }
}

/// A member that was cut off goes on campaigning, 3.4 in a higher term each time, and a leader has entries that only it
/// ever had. Both are no sign that the cluster which has removed it is younger.
#[test]
fn a_leader_that_was_cut_off_and_removed_is_archived_and_joins_as_new() {
    let Some([etcd]) = these(["3.4.23"]) else { return };
    let world = World::v4();
    let pods = founded_on(&world, 3, &etcd);
    let removed = leader_of(&all(&pods)).unwrap();
    let others: Vec<&Pod> = pods.iter().filter(|pod| pod.name() != removed.name()).collect();
    removed.partition();
    std::thread::scope(|scope| {
        for n in 0..40 {
            let removed = &removed;
            scope.spawn(move || put(removed, &format!("never-{n}"), "acknowledged"));
        }
    });
    wait_healthy(&others, SOON);
    eventually(SOON, "it campaigns alone", || {
        let campaigns = removed.logs().matches("became candidate at term").count();
        if campaigns > 4 { Ok(()) } else { Err(format!("{campaigns} campaigns")) }
    });
    removed.kill();
    removed.heal();
    remove(others[0], &removed.name());
    let writer = Writer::start(&world, &others);
    writer.wait_for(1, SOON);
    removed.start();
    joins_again(&pods, &removed);
    assert_eq!(archives(&removed).len(), 1);
    assert_eq!(get(others[0], "never-0").unwrap(), None, "it was never committed");
    nothing_is_lost(&pods, writer);
}

/// What etcd leaves where it does not find its cluster: a database, and no log. That is no loss.
#[test]
fn what_a_failed_first_start_of_etcd_leaves_is_as_good_as_empty() {
    for etcd in etcds_for(2) {
        let world = World::v4();
        let pods = stateful_set(&world, 3, 3);
        let template: Vec<PodSpec> = pods.iter().map(Pod::spec).collect();
        for pod in &pods {
            let name = pod.name();
            pod.edit(|spec| {
                spec.etcd = etcd.clone();
                spec.set_command([
                    "/usr/local/bin/etcd".to_owned(),
                    format!("--name={name}"),
                    "--data-dir=/data/etcd".to_owned(),
                    "--initial-cluster-state=existing".to_owned(),
                    format!("--initial-advertise-peer-urls=http://127.0.0.1:{}", 2380),
                    format!("--initial-cluster={name}=http://127.0.0.1:2380,nobody=http://127.0.0.1:1"),
                ]);
            });
            pod.start();
        }
        for (pod, template) in pods.iter().zip(template) {
            assert_ne!(pod.wait_for_exit(SOON).code(), 0);
            let member = pod.volume_dir("/data").join("etcd/member");
            assert!(member.join("snap/db").is_file() && !member.join("wal").exists());
            pod.edit(|spec| spec.argv = template.argv);
            pod.restart();
        }
        wait_for_voters(&all(&pods), 3, SOON);
    }
}

/// On a busy machine no leader may answer within the first second. Then etcd starts, is told that it was removed and ends,
/// and the kubelet starts the pod anew.
fn joins_again(pods: &[Pod], removed: &Pod) {
    eventually(SOON, "the removed member is a member again", || {
        if removed.exit().is_some() {
            removed.restart_container();
        }
        let list = pods.iter().filter(|pod| pod.name() != removed.name()).find_map(|pod| members(pod).ok());
        let is_back = |member: &Member| member.name == removed.name() && !member.learner;
        list.filter(|list| list.iter().any(is_back)).map(|_| ()).ok_or_else(|| removed.log_tail(5))
    });
    wait_for_voters(&all(pods), 3, SOON);
}

fn remove(through: &Pod, name: &str) {
    let member = members(through).unwrap().into_iter().find(|member| member.name == name).unwrap();
    eventually(SOON, "etcd takes the removal", || etcdctl(through, &["member", "remove", &format!("{:x}", member.id)]));
}

fn archives(pod: &Pod) -> Vec<String> {
    let entries = std::fs::read_dir(pod.volume_dir("/data").join("etcd/.etcd-bootstrap")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("archive-")).collect()
}

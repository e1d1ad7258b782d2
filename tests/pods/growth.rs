//! Restart and growth: data comes back without waiting, new pods join one after the other.

use std::time::Duration;

use crate::harness::*;
use crate::templates::*;

#[test]
fn a_cold_restart_of_all_keeps_the_data_and_waits_for_nobody() {
    let world = World::v4();
    let pods = founded(&world, 3);
    put(&pods[0], "kept", "yes").unwrap();
    pods.iter().for_each(Pod::kill);
    pods.iter().for_each(Pod::start);
    wait_for_voters(&all(&pods), 3, SOON);
    assert_eq!(get(&pods[2], "kept").unwrap().as_deref(), Some("yes"));
}

#[test]
fn a_pod_restarts_with_a_new_address_and_so_do_all_in_turn() {
    let world = World::v4();
    let pods = founded(&world, 3);
    let before = members(&pods[0]).unwrap();
    for pod in &pods {
        let address = pod.address();
        pod.restart();
        assert_ne!(pod.address(), address);
        wait_for_voters(&all(&pods), 3, SOON);
    }
    let ids = |members: &[Member]| members.iter().map(|member| member.id).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(ids(&members(&pods[0]).unwrap()), ids(&before));
}

#[test]
fn one_grows_to_three_one_at_a_time() {
    let world = World::v4();
    let pods = stateful_set(&world, 3, 1);
    for count in 1..=3 {
        pods[count - 1].start();
        wait_for_voters(&all(&pods[..count]), count, SOON);
    }
}

#[test]
fn three_grow_to_five_one_at_a_time() {
    let world = World::v4();
    let mut pods = founded(&world, 3);
    for ordinal in 3..5 {
        let pod = world.pod(entrypoint(PodSpec::new(&format!("etcd-{ordinal}")), 3));
        if ordinal == 3 {
            starts_behind_an_old_record(&world, &pod);
            assert_eq!(members(&pods[0]).unwrap().len(), 3, "what the others could not reach is not a member");
            world.dns().thaw_records();
        } else {
            pod.start();
        }
        pods.push(pod);
        wait_for_voters(&all(&pods), pods.len(), SOON);
    }
}

/// A blank pod whose record is still the one of its former life.
fn starts_behind_an_old_record(world: &World, pod: &Pod) {
    pod.edit(|spec| spec.set_env("BOOTSTRAP_HOLD", "true"));
    pod.start();
    says(pod, "BOOTSTRAP_HOLD");
    world.dns().freeze_records();
    pod.edit(|spec| spec.unset_env("BOOTSTRAP_HOLD"));
    pod.restart();
    says_that_its_record_is_old(pod, "still points at");
    stays(Duration::from_secs(2), "it waits", || if pod.runs_etcd() { Err("etcd runs".to_owned()) } else { Ok(()) });
}

#[test]
fn three_grow_to_five_at_once_and_stay_writable() {
    let world = World::v4();
    let mut pods = founded(&world, 3);
    let writer = Writer::start(&world, &all(&pods));
    writer.wait_for(20, SOON);
    let new = world.pods("etcd", 3..5, |spec| entrypoint(spec, 3));
    new.iter().for_each(Pod::start);
    pods.extend(new);
    wait_for_voters(&all(&pods), 5, SOON);
    writer.wait_for(20, SOON);
    let written = writer.stop();
    assert!(written.longest_gap < Duration::from_secs(2), "{:?}", written.longest_gap);
    check(&all(&pods), &[&written], SOON).assert_clean();
}

#[test]
fn one_grows_to_five_all_at_once() {
    let world = World::v4();
    let pods = stateful_set(&world, 5, 1);
    pods.iter().for_each(Pod::start);
    wait_for_voters(&all(&pods), 5, Duration::from_secs(120));
}

#[test]
fn two_sets_of_one_cluster_whose_ordinals_coincide() {
    let world = World::v4();
    let names = ["etcd-a-0", "etcd-a-1", "etcd-b-0"];
    let cluster: Vec<String> =
        names.iter().map(|name| format!("{name}={}://{name}.etcd.default.svc:2380", scheme())).collect();
    let of = |name: &str| {
        let mut spec = entrypoint(PodSpec::new(name), 3);
        spec.unset_env("BOOTSTRAP_INITIAL_CLUSTER_SIZE");
        spec.argv.push(format!("--initial-cluster={}", cluster.join(",")));
        world.pod(spec)
    };
    let mut pods: Vec<Pod> = names.iter().map(|name| of(name)).collect();
    pods.iter().for_each(Pod::start);
    wait_for_voters(&all(&pods), 3, SOON);
    let joiner = of("etcd-b-1");
    joiner.start();
    pods.push(joiner);
    wait_for_voters(&all(&pods), 4, SOON);
}

#[test]
fn an_interrupted_promotion_is_finished_after_a_restart() {
    let world = World::v4();
    let mut pods = founded(&world, 3);
    let joiner = world.pod(entrypoint(PodSpec::new("etcd-3"), 3));
    joiner.start();
    eventually(SOON, "the joiner is a member", || {
        let members = members(&pods[0])?;
        if members.len() == 4 { Ok(()) } else { Err(format!("{members:?}")) }
    });
    joiner.restart();
    pods.push(joiner);
    wait_for_voters(&all(&pods), 4, SOON);
}

#[test]
fn a_foreign_cluster_on_the_same_name_is_neither_joined_nor_founded_over() {
    let world = World::v4();
    let scheme = scheme();
    let spec = entrypoint(PodSpec::new("etcd-0"), 1).command([
        "/usr/local/bin/etcd",
        "--name=etcd-0",
        "--data-dir=/data/etcd",
        &format!("--listen-peer-urls={scheme}://0.0.0.0:2380"),
        &format!("--listen-client-urls={scheme}://0.0.0.0:2379"),
        &format!("--advertise-client-urls={scheme}://elsewhere.example:2379"),
        &format!("--initial-advertise-peer-urls={scheme}://elsewhere.example:2380"),
        &format!("--initial-cluster=etcd-0={scheme}://elsewhere.example:2380"),
    ]);
    let foreign = world.pod(spec);
    foreign.start();
    let pods = world.pods("etcd", 1..3, |spec| entrypoint(spec, 3));
    pods.iter().for_each(Pod::start);
    eventually(SOON, "the pods see it and wait", || {
        let answer = pods[0].http_get(2381, "/status")?;
        if answer.body.contains("etcd-0") && answer.body.contains("cluster_id") { Ok(()) } else { Err(answer.body) }
    });
    stays(Duration::from_secs(3), "nobody starts etcd", || {
        if pods.iter().any(Pod::runs_etcd) { Err("etcd runs".to_owned()) } else { Ok(()) }
    });
}

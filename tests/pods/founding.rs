//! The first boot: one cluster, whoever comes first and however late the records are.

use std::time::{Duration, Instant};

use crate::harness::*;
use crate::templates::*;

#[test]
fn one_pod_founds_a_cluster() {
    let world = World::v4();
    let pods = founded(&world, 1);
    put(&pods[0], "a", "1").unwrap();
    assert_eq!(get(&pods[0], "a").unwrap().as_deref(), Some("1"));
}

#[test]
fn the_documented_manifest_founds_the_documented_members() {
    let world = World::v4();
    let pods = world.pods("etcd", 0..3, documented);
    pods.iter().for_each(Pod::start);
    wait_for_voters(&all(&pods), 3, SOON);
    let mut ids: Vec<String> = members(&pods[0]).unwrap().iter().map(|member| format!("{:x}", member.id)).collect();
    ids.sort();
    if scheme() == "http" {
        assert_eq!(ids, ["4f98c3545405a0b0", "a394e0ee91773643", "d10297b8d2f01265"]);
    }
    for pod in &pods {
        assert!(pod.environ().iter().all(|(name, _)| !name.starts_with("ETCD_") && !name.starts_with("BOOTSTRAP_")));
    }
}

#[test]
fn five_pods_found_one_cluster_in_any_order_with_late_records() {
    let world = World::v4();
    world.dns().publication_delay(Duration::from_millis(700));
    let pods = stateful_set(&world, 5, 5);
    for index in [3, 0, 4, 1, 2] {
        pods[index].start();
    }
    wait_for_voters(&all(&pods), 5, SOON);
}

#[test]
fn three_pods_found_one_cluster_in_every_order() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let world = World::v4();
        let pods = stateful_set(&world, 3, 3);
        for index in order {
            pods[index].start();
            world.dns().publication_delay(Duration::from_millis(300));
        }
        wait_for_voters(&all(&pods), 3, SOON);
    }
}

#[test]
fn a_blank_pod_alone_waits_says_for_whom_and_ends_at_once() {
    let world = World::v4();
    let pods = stateful_set(&world, 3, 3);
    pods[1].start();
    eventually(SOON, "the readiness probe says why it waits", || {
        let answer = pods[1].http_get(2381, "/readyz")?;
        let says = |part| answer.body.contains(part);
        if answer.status == 503 && says("etcd-0") && says("etcd-2") && says("NXDOMAIN") {
            return Ok(());
        }
        Err(format!("{} {}", answer.status, answer.body))
    });
    assert_eq!(pods[1].http_get(2381, "/livez").unwrap().status, 200);
    assert!(!pods[1].runs_etcd());
    let begun = Instant::now();
    let exit = pods[1].stop(Duration::from_secs(5));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(exit.code(), 143);
}

#[test]
fn a_pod_that_cannot_listen_on_its_peer_port_says_so() {
    let world = World::v4();
    let pod = world.pod(entrypoint(PodSpec::new("etcd-0"), 3));
    pod.edit(|spec| spec.argv.push(format!("--listen-peer-urls={}://192.0.2.1:2380", scheme())));
    pod.start();
    eventually(SOON, "the readiness probe says so", || {
        let answer = pod.http_get(2381, "/readyz")?;
        let says = answer.body.contains("192.0.2.1:2380: this pod does not have the address");
        if says { Ok(()) } else { Err(answer.body) }
    });
    assert!(!pod.runs_etcd());
}

#[test]
fn a_partition_while_founding_delays_it_and_makes_no_second_cluster() {
    let world = World::v4();
    let pods = stateful_set(&world, 3, 3);
    pods.iter().for_each(Pod::start);
    pods[2].partition_from(&[&pods[0], &pods[1]]);
    eventually(SOON, "the others wait for the one cut off", || {
        let answer = pods[0].http_get(2381, "/readyz")?;
        if answer.body.contains("etcd-2") { Ok(()) } else { Err(answer.body) }
    });
    assert!(pods.iter().all(|pod| !pod.runs_etcd()));
    world.heal();
    wait_for_voters(&all(&pods), 3, SOON);
}

#[test]
fn pods_beyond_the_initial_size_wait_for_the_cluster_and_then_join() {
    let world = World::v4();
    let pods = stateful_set(&world, 5, 3);
    pods[3].start();
    pods[4].start();
    eventually(SOON, "the higher pods wait", || {
        let answer = pods[4].http_get(2381, "/readyz")?;
        if answer.body.contains("none of the initial members") { Ok(()) } else { Err(answer.body) }
    });
    pods[..3].iter().for_each(Pod::start);
    wait_for_voters(&all(&pods), 5, SOON);
}

#[test]
fn ipv6_only_and_dual_stack_found_a_cluster() {
    for world in [World::v6(), World::dual()] {
        let pods = world.pods("etcd", 0..3, |spec| {
            let mut spec = entrypoint(spec, 3);
            spec.set_args(["--data-dir=/data/etcd", "--listen-metrics-urls=http://[::]:2381"]);
            spec
        });
        pods.iter().for_each(Pod::start);
        wait_for_voters(&all(&pods), 3, SOON);
    }
}

#[test]
fn sigterm_at_any_moment_of_the_founding_ends_the_pod_and_a_restart_ends_well() {
    let world = World::v4();
    let pods = stateful_set(&world, 3, 3);
    for milliseconds in [0, 30, 60, 120, 240] {
        pods.iter().filter(|pod| !pod.is_running()).for_each(Pod::start);
        let wait = Duration::from_millis(milliseconds);
        let begun = Instant::now();
        // What is tried here is the moment itself.
        stays(wait, "it runs until it is told to end", || Ok(()));
        assert!(begun.elapsed() >= wait);
        pods[1].stop(Duration::from_secs(10));
    }
    pods.iter().filter(|pod| !pod.is_running()).for_each(Pod::start);
    wait_for_voters(&all(&pods), 3, SOON);
}

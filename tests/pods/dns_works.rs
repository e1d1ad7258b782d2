//! Proves that the harness's DNS serves what Kubernetes serves, and fails as it is told to.

use std::time::{Duration, Instant};

use crate::harness::*;
use crate::harness_works::{NAME, SOON};

/// A pod that does nothing.
fn idle(world: &World, name: &str) -> Pod {
    let pod = world.pod(PodSpec::new(name).command(["sleep", "1000000"]));
    pod.start();
    pod
}

/// A pod that does nothing, behind another service.
fn idle_elsewhere(world: &World, name: &str) -> Pod {
    let spec = PodSpec::new(name).service("elsewhere");
    let pod = world.pod(spec.command(["sleep", "1000000"]));
    pod.start();
    pod
}

fn addresses_of(world: &World, from: &Pod, name: &str) -> Vec<std::net::IpAddr> {
    let answer = world.dns().ask(from, name, RecordType::A, false);
    let answer = answer.expect("the DNS answers");
    answer.answers.iter().filter_map(|record| record.data.ip_addr()).collect()
}

#[test]
fn dns_tells_nxdomain_from_nodata_and_serves_srv() {
    let world = World::v4();
    let pod = idle(&world, "etcd-0");
    let ask = |name: &str, kind| world.dns().ask(&pod, name, kind, false).expect("an answer");
    let code = |name: &str, kind| {
        let answer = ask(name, kind);
        assert!(answer.answers.is_empty());
        assert_eq!(answer.authorities.len(), 1, "a SOA");
        answer.metadata.response_code
    };
    assert_eq!(code(NAME, RecordType::AAAA), ResponseCode::NoError);
    assert_eq!(code("etcd-1.etcd.default.svc.cluster.local", RecordType::A), ResponseCode::NXDomain);
    assert_eq!(code("etcd-0.etcd.default.svc.default.svc.cluster.local", RecordType::A), ResponseCode::NXDomain);
    assert_eq!(addresses_of(&world, &pod, NAME), [pod.address()]);
    assert_eq!(addresses_of(&world, &pod, "etcd.default.svc.cluster.local"), [pod.address()]);
    let srv = ask("_etcd-server._tcp.etcd.default.svc.cluster.local", RecordType::SRV);
    assert!(srv.answers[0].to_string().ends_with(&format!("SRV 0 100 2380 {NAME}.")), "{}", srv.answers[0]);
    assert_eq!(srv.additionals.len(), 1);
    let reverse = pod.address().to_string();
    let reverse: Vec<&str> = reverse.split('.').rev().collect();
    let ptr = ask(&format!("{}.in-addr.arpa", reverse.join(".")), RecordType::PTR);
    assert!(ptr.answers[0].to_string().contains(NAME), "{}", ptr.answers[0]);
    let asked = world.dns().queries_of(&pod);
    assert!(asked.iter().any(|q| q.name == NAME && q.kind == RecordType::AAAA && q.answers == 0), "{asked:?}");
}

#[test]
fn dns_comes_late_stale_withheld_and_pointed_elsewhere() {
    let world = World::v4();
    let (client, pod) = (idle(&world, "client"), idle(&world, "etcd-0"));
    let dns = world.dns();
    let served = || addresses_of(&world, &client, NAME);
    let first = pod.address();
    assert_eq!(served(), [first]);
    dns.withhold(&pod);
    assert!(served().is_empty());
    dns.release(&pod);
    let late = Duration::from_secs(3);
    dns.publication_delay(late);
    dns.removal_delay(Duration::from_secs(3600));
    let begin = Instant::now();
    pod.restart();
    assert_eq!(served(), [first], "the old record stays until the new one is there");
    eventually(SOON, "the new record", || (served() == [pod.address()]).then_some(()).ok_or("not yet".to_owned()));
    assert!(begin.elapsed() >= late);
    dns.publication_delay(Duration::ZERO);
    dns.removal_delay(Duration::ZERO);
    let second = pod.address();
    dns.freeze_records();
    pod.restart();
    assert_eq!(served(), [second]);
    dns.thaw_records();
    assert_eq!(served(), [pod.address()]);
    dns.point_at(&pod, client.address());
    assert_eq!(served(), [client.address()]);
    dns.clear_all();
    pod.crash_container();
    assert_eq!(served(), [pod.address()], "a crashed container keeps its pod's record");
    pod.kill();
    assert!(served().is_empty());
}

#[test]
fn dns_fails_in_every_way() {
    let world = World::v4();
    let (client, other) = (idle_elsewhere(&world, "client"), idle_elsewhere(&world, "other"));
    let pods: Vec<Pod> =
        (0..20).map(|n| world.pod(PodSpec::new(&format!("etcd-{n}")).command(["sleep", "1000000"]))).collect();
    pods[0].start();
    let dns = world.dns();
    let code = |from: &Pod| dns.ask(from, NAME, RecordType::A, false).map(|m| m.metadata.response_code);
    let fault = dns.fault(Fault::servfail().client(&client).name("etcd-0."));
    assert_eq!(code(&client), Ok(ResponseCode::ServFail));
    assert_eq!(code(&other), Ok(ResponseCode::NoError));
    dns.clear(fault);
    assert_eq!(code(&client), Ok(ResponseCode::NoError));
    dns.fault(Fault::refused().kind(RecordType::A));
    assert_eq!(code(&client), Ok(ResponseCode::Refused));
    dns.clear_all();
    dns.fault(Fault::silent());
    let since = Instant::now();
    assert!(code(&client).is_err());
    assert_eq!(dns.count_since(&client, since), 1);
    assert_eq!(dns.queries_of(&client).last().map(|q| q.outcome.clone()), Some("silent".to_owned()));
    dns.clear_all();
    dns.fault(Fault::delayed(Duration::from_millis(300)));
    let begin = Instant::now();
    assert_eq!(code(&client), Ok(ResponseCode::NoError));
    assert!(begin.elapsed() >= Duration::from_millis(300));
    dns.clear_all();
    pods[1..].iter().for_each(Pod::start);
    let srv = "_etcd-server._tcp.etcd.default.svc.cluster.local";
    let udp = dns.ask(&client, srv, RecordType::SRV, false).expect("over UDP");
    assert!(udp.metadata.truncation);
    assert!(udp.answers.len() < 20);
    let tcp = dns.ask(&client, srv, RecordType::SRV, true).expect("over TCP");
    assert!(!tcp.metadata.truncation);
    assert_eq!(tcp.answers.len(), 20);
    dns.omit_from_srv(&pods[3]);
    let partial = dns.ask(&client, srv, RecordType::SRV, true).expect("over TCP");
    assert_eq!(partial.answers.len(), 19);
}

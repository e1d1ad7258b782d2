//! Proves the harness with plain etcd, without etcd-bootstrap: what it says it does, it does.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::process::{self, status_field};
use crate::harness::world::sweep_leftovers;
use crate::harness::*;

pub(crate) const SOON: Duration = Duration::from_secs(10);
const START: Duration = Duration::from_secs(40);

/// etcd as a manifest with static flags runs it.
fn plain_etcd(spec: PodSpec, members: u32, family: Family) -> PodSpec {
    let any = if family.has_v6() { "[::]" } else { "0.0.0.0" };
    let domain = format!("{}.{}.svc.cluster.local", spec.service, spec.namespace);
    let url = |pod: &str, port: u16| format!("http://{pod}.{domain}:{port}");
    let peers: Vec<String> =
        (0..members).map(|ordinal| format!("etcd-{ordinal}={}", url(&format!("etcd-{ordinal}"), 2380))).collect();
    let name = spec.name.clone();
    let flags = [
        "etcd".to_owned(),
        format!("--name={name}"),
        "--data-dir=/data".to_owned(),
        format!("--listen-peer-urls=http://{any}:2380"),
        format!("--listen-client-urls=http://{any}:2379"),
        format!("--listen-metrics-urls=http://{any}:2381"),
        format!("--initial-advertise-peer-urls={}", url(&name, 2380)),
        format!("--advertise-client-urls={}", url(&name, 2379)),
        format!("--initial-cluster={}", peers.join(",")),
        "--logger=zap".to_owned(),
    ];
    spec.command(flags)
}

fn three(world: &World) -> Vec<Pod> {
    let family = world.family();
    let pods = world.pods("etcd", 0..3, |spec| plain_etcd(spec, 3, family));
    for pod in &pods {
        pod.start();
    }
    wait_for_voters(&all(&pods), 3, START);
    pods
}

fn all(pods: &[Pod]) -> Vec<&Pod> {
    pods.iter().collect()
}

pub(crate) const NAME: &str = "etcd-0.etcd.default.svc.cluster.local";

#[test]
fn a_pod_is_what_a_container_in_kubernetes_is() {
    let world = World::v4();
    let spec = PodSpec::new("etcd-0")
        .command([
            "sh",
            "-c",
            "ls -A / > /data/root; cat /etc/hosts /etc/resolv.conf /run/secret; hostname; exec sleep 1000000",
        ])
        .env("ONE", "1 'quoted'")
        .file("/run/secret", "s3cret\n");
    let pod = world.pod(spec);
    pod.start();
    pod.wait_for_log(SOON, "\netcd-0\n");
    let logs = pod.logs();
    assert!(
        logs.contains(
            "search default.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
        ),
        "{logs}"
    );
    assert!(logs.contains(&format!("{}\t{NAME}\tetcd-0\n", pod.address())), "{logs}");
    assert!(logs.contains("s3cret"), "{logs}");
    eventually(SOON, "exec sleep", || {
        (pod.cmdline() == ["sleep", "1000000"]).then_some(()).ok_or_else(|| format!("{:?}", pod.cmdline()))
    });
    assert_eq!(pod.processes().len(), 1);
    let environ = pod.environ();
    for (name, value) in [("ONE", "1 'quoted'"), ("HOSTNAME", "etcd-0")] {
        assert!(environ.contains(&(name.to_owned(), value.to_owned())), "{environ:?}");
    }
    let inside = pod.exec(&["sh", "-c", "echo $$; cat /proc/1/cmdline; etcd --version"]).expect("exec");
    let inside = String::from_utf8_lossy(&inside.stdout).into_owned();
    assert!(inside.contains("sleep\0"), "{inside}");
    assert!(inside.contains(&default_etcd().version), "{inside}");
    // Signal 32 is glibc's own: posix_spawn leaves it ignored where the parent has threads. What a shell in the background
    // lets this process ignore, the pod ignores too.
    let mask = |pid, field| {
        let mask = status_field(pid, field).expect("a mask");
        u64::from_str_radix(&mask, 16).expect("hexadecimal") & 0x7fff_ffff
    };
    assert_eq!(mask(pod.host_pid(), "SigIgn") & !mask(std::process::id(), "SigIgn"), 0);
    assert_eq!(mask(pod.host_pid(), "SigBlk"), 0);
    assert!(pod.resident_bytes() > 0);
}

#[test]
fn exits_signals_and_restarts_in_place() {
    let world = World::v4();
    let pod = world.pod(PodSpec::new("etcd-0").command(["sh", "-c", "echo bye > /dev/termination-log; exit 69"]));
    pod.start();
    assert_eq!(pod.wait_for_exit(SOON), Exit::Code(69));
    assert_eq!(pod.termination_message(), "bye\n");
    let address = pod.address();
    pod.edit(|spec| spec.set_command(["sh", "-c", "trap 'exit 143' TERM; echo ready; while :; do sleep 0.1; done"]));
    pod.restart_container();
    assert_eq!(pod.address(), address);
    pod.wait_for_log(SOON, "ready");
    assert_eq!(pod.stop(SOON), Exit::Code(143));
    assert!(!pod.exists());
    pod.start();
    assert_ne!(pod.address(), address);
    pod.crash_container();
    assert_eq!(pod.exit(), Some(Exit::Signal(9)));
    assert_eq!(Exit::Signal(9).code(), 137);
}

#[test]
fn three_plain_etcds_found_a_cluster() {
    let world = World::v4();
    let pods = three(&world);
    put(&pods[0], "key", "value").expect("put");
    assert_eq!(get(&pods[2], "key"), Ok(Some("value".to_owned())));
    assert!(etcdctl(&pods[1], &["member", "list"]).expect("etcdctl").contains("started"));
    let version = pods[0].http_get(2380, "/version").expect("http");
    assert!(version.body.contains(&default_etcd().version), "{version:?}");
    // Killed, it comes back elsewhere, and its peers find it by DNS.
    let before = pods[1].address();
    pods[1].restart();
    assert_ne!(pods[1].address(), before);
    wait_for_voters(&all(&pods), 3, START);
    // An all-down restart with new addresses.
    pods.iter().for_each(Pod::kill);
    pods.iter().for_each(Pod::start);
    wait_healthy(&all(&pods), START);
    assert_eq!(get(&pods[1], "key"), Ok(Some("value".to_owned())));
}

fn connects(from: &Pod, to: &Pod) -> bool {
    let address = SocketAddr::new(to.address(), 2379);
    from.in_pod(|| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(500))).is_ok()
}

#[test]
fn partitions_and_freezes_are_seen_by_etcd() {
    let world = World::v4();
    let pods = three(&world);
    let leader = leader_of(&all(&pods)).expect("a leader");
    let others: Vec<&Pod> = pods.iter().filter(|pod| pod.name() != leader.name()).collect();
    leader.partition();
    assert!(!connects(&leader, others[0]) && !connects(others[0], &leader));
    assert!(world.dns().ask(&leader, NAME, RecordType::A, true).is_err());
    eventually(START, "another leader", || leader_of(&others));
    assert!(get(&leader, "key").is_err(), "cut off, it cannot read linearizably");
    leader.heal();
    wait_healthy(&all(&pods), START);
    // Between two pods only, and it holds over a new address.
    others[0].partition_from(&[others[1]]);
    others[0].restart();
    assert!(!connects(others[0], others[1]) && !connects(others[1], others[0]));
    assert!(connects(others[0], &leader));
    others[0].partition();
    assert!(!connects(others[0], &leader) && !connects(others[0], others[1]));
    world.heal();
    wait_healthy(&all(&pods), START);
    assert!(connects(others[0], others[1]));
    others[1].freeze();
    assert!(status(others[1]).is_err());
    others[1].thaw();
    wait_healthy(&all(&pods), START);
    match others[1].slow_link(Duration::from_millis(100)) {
        Ok(()) => {
            let begin = Instant::now();
            assert!(connects(others[0], others[1]));
            assert!(begin.elapsed() >= Duration::from_millis(200));
        }
        Err(reason) => skipped(&format!("no slow link: {reason}")),
    }
    others[1].fast_link();
    others[1].narrow_link(2000).expect("tbf");
    others[1].fast_link();
    wait_healthy(&all(&pods), START);
}

fn founds_in(world: World) {
    let pods = three(&world);
    let dual = world.family() == Family::Dual;
    assert_eq!(pods[0].addresses().len(), if dual { 2 } else { 1 });
    let v6 = *pods[0].addresses().last().expect("an address");
    assert!(v6.is_ipv6());
    let answer = world.dns().ask(&pods[1], NAME, RecordType::AAAA, false).expect("an answer");
    assert_eq!(answer.answers[0].data.ip_addr(), Some(v6));
    assert!(etcdctl(&pods[2], &["endpoint", "health"]).is_ok());
    pods[0].restart();
    wait_healthy(&all(&pods), START);
    pods[1].partition();
    assert!(!connects(&pods[1], &pods[2]));
}

#[test]
fn ipv6_only() {
    founds_in(World::v6());
}

#[test]
fn dual_stack() {
    founds_in(World::dual());
}

#[test]
fn writer_and_checker_find_a_healthy_cluster_clean() {
    let world = World::v4();
    let pods = three(&world);
    let writer = Writer::start(&world, &all(&pods));
    writer.wait_for(50, START);
    leader_of(&all(&pods)).expect("a leader").restart();
    writer.wait_for(50, START);
    let written = writer.stop();
    assert!(written.longest_gap > Duration::from_millis(300), "{written:?}");
    let report = check(&all(&pods), &[&written], START);
    assert!(report.writes_checked >= 100);
    report.assert_clean();
}

#[test]
fn checker_reports_a_cluster_founded_twice() {
    let world = World::v4();
    let pods = three(&world);
    let writer = Writer::start(&world, &all(&pods));
    writer.wait_for(20, START);
    let written = writer.stop();
    pods.iter().for_each(Pod::kill);
    pods.iter().for_each(Pod::wipe);
    pods.iter().for_each(Pod::start);
    wait_for_voters(&all(&pods), 3, START);
    let report = check(&all(&pods), &[&written], SOON);
    assert_eq!(report.lost.len(), 4 * written.acknowledged.len(), "{report}");
    assert!(!report.is_clean());
}

/// The case that the entrypoint exists for: etcd alone loses these writes.
#[test]
fn checker_reports_what_etcd_loses_with_a_lost_disk() {
    let world = World::v4();
    let pods = three(&world);
    put(&pods[0], "before", "1").expect("put");
    pods[1].kill();
    let writer = Writer::start(&world, &[&pods[0], &pods[2]]);
    writer.wait_for(20, START);
    let written = writer.stop();
    pods.iter().for_each(Pod::kill);
    let saved = pods[2].save_volume("/data");
    pods[2].wipe();
    pods[2].start();
    pods[1].start();
    wait_healthy(&[&pods[1], &pods[2]], START);
    // The third is left off: with it, this goes on to panics as often as to silent divergence.
    let pair = [&pods[1], &pods[2]];
    let report = check(&pair, &[&written], SOON);
    // Both members, and the linearizable read.
    assert_eq!(report.lost.len(), 3 * written.acknowledged.len(), "{report}");
    assert_eq!(report.problems, Vec::<String>::new());
    // The copy of the lost disk still has them.
    pods[1].kill();
    pods[2].kill();
    pods[2].restore_volume(&saved);
    let pair = [&pods[0], &pods[2]];
    pair.iter().for_each(|pod| pod.start());
    wait_healthy(&pair, START);
    check(&pair, &[&written], START).assert_clean();
}

#[test]
fn another_version_per_restart() {
    let world = World::v4();
    let family = world.family();
    let pod = world.pod(plain_etcd(PodSpec::new("etcd-0"), 1, family));
    for etcd in etcds() {
        pod.kill();
        pod.wipe();
        pod.edit(|spec| spec.etcd = etcd.clone());
        pod.start();
        wait_for_voters(&[&pod], 1, START);
        assert_eq!(status(&pod).expect("status").version, etcd.version);
    }
}

#[test]
fn nothing_is_left_over() {
    let mounts = || fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let before = mounts();
    let world = World::v4();
    let dir = world.directory().to_owned();
    let pods = three(&world);
    pods[2].freeze();
    let pids: Vec<u32> = pods.iter().flat_map(Pod::processes).map(|(pid, _)| pid).collect();
    assert!(pids.len() >= 3);
    assert_eq!(mounts(), before, "the host's mounts are untouched");
    let namespaces: Vec<_> =
        pods.iter().map(|pod| fs::read_link(format!("/proc/{}/ns/net", pod.host_pid())).expect("ns")).collect();
    drop(world);
    assert!(!dir.exists());
    for pid in pids {
        // One that has ended is there until its parent has looked.
        eventually(SOON, "each process is gone", || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.map_or(Ok(()), Err)
        });
    }
    for pid in process::all() {
        let net = fs::read_link(format!("/proc/{pid}/ns/net"));
        assert!(net.is_err() || !namespaces.contains(&net.expect("checked")), "{pid} is in a pod's network");
    }
    assert_eq!(mounts(), before);
}

/// The victim of the next test: it says what it runs, and then hangs.
#[test]
#[ignore = "started and killed by a_killed_test_process_leaves_nothing_running"]
fn a_world_to_be_killed() {
    let world = World::v4();
    let pods = three(&world);
    pods[2].freeze();
    let pids: Vec<String> = pods.iter().map(|pod| pod.host_pid().to_string()).collect();
    println!("pids {} {}", world.directory().display(), pids.join(" "));
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn a_killed_test_process_leaves_nothing_running() {
    let program = std::env::current_exe().expect("this test's program");
    let mut victim = Command::new(program)
        .args(["--exact", "harness_works::a_world_to_be_killed", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("failed to start the victim");
    let out = BufReader::new(victim.stdout.take().expect("a pipe"));
    let line = out
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.split_once("pids ").map(|(_, rest)| rest.to_owned()))
        .expect("the victim says what it runs");
    let (dir, pids) = line.split_once(' ').expect("a directory and PIDs");
    victim.kill().expect("failed to kill the victim");
    victim.wait().expect("failed to wait for the victim");
    eventually(SOON, "the victim's pods are gone", || {
        let left: Vec<&str> = pids.split(' ').filter(|pid| process::is_alive(pid)).collect();
        left.is_empty().then_some(()).ok_or_else(|| format!("{left:?} run"))
    });
    sweep_leftovers();
    assert!(!fs::exists(dir).expect("/tmp can be read"), "{dir} is swept");
}

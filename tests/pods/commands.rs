//! The commands, as an operator calls them in a pod.

use crate::harness::*;
use crate::templates::*;

const ETCD: [&str; 2] = ["--data-dir=/data/etcd", "--listen-metrics-urls=http://0.0.0.0:2381"];

/// What the command prints with the environment of the container, as `kubectl exec` has it, and its exit code.
fn command(pod: &Pod, verb: &[&str]) -> (String, i32) {
    let mut env = pod.spec().env;
    env.push(("HOSTNAME".to_owned(), pod.name()));
    let line: Vec<&str> = [&["/usr/local/bin/etcd-bootstrap"], verb, &["--"], &ETCD].concat();
    let output = pod.exec_with_env(&env, &line).unwrap();
    print!("{}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
}

fn bootstrap(pod: &Pod, verb: &[&str]) -> String {
    let (printed, code) = command(pod, verb);
    assert_eq!(code, 0, "{verb:?}: {printed}");
    printed
}

/// The line about this, and how bad it is.
#[track_caller]
fn finding<'a>(printed: &'a str, severity: &str, about: &str) -> &'a str {
    let line = printed.lines().find(|line| line.starts_with(severity) && line.contains(about));
    line.unwrap_or_else(|| panic!("no {severity} with {about:?}: {printed}"))
}

#[test]
fn plan_and_status_change_nothing_and_promote_is_done_at_once_for_a_voter() {
    let world = World::v4();
    let pods = founded(&world, 3);
    let plan = bootstrap(&pods[0], &["plan"]);
    assert!(plan.contains("rule:  data-listed") && plan.contains("--initial-cluster-state=existing"), "{plan}");
    let status = bootstrap(&pods[0], &["status"]);
    assert!(pods.iter().all(|pod| status.contains(&pod.name())), "{status}");
    bootstrap(&pods[0], &["promote"]);
    // What is not given behind `--` is as PID 1 has it.
    let env = [pods[0].spec().env, vec![("HOSTNAME".to_owned(), pods[0].name())]].concat();
    let bare = pods[0].exec_with_env(&env, &["/usr/local/bin/etcd-bootstrap", "plan"]).unwrap();
    let bare = String::from_utf8(bare.stdout).unwrap();
    assert!(bare.contains("--data-dir=/data/etcd") && bare.contains("--election-timeout=500"), "{bare}");
    let json: String = bootstrap(&pods[1], &["plan", "--output=json"]);
    assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok(), "{json}");
    wait_for_voters(&all(&pods), 3, SOON);
}

#[test]
fn a_dry_run_of_an_empty_pod_writes_nothing() {
    let world = World::v4();
    let pods = stateful_set(&world, 1, 3);
    pods[0].edit(|spec| spec.set_env("BOOTSTRAP_DRY_RUN", "true"));
    pods[0].start();
    assert_eq!(pods[0].wait_for_exit(SOON).code(), 0);
    assert!(pods[0].logs().contains("rule:  roll-call"), "{}", pods[0].logs());
    assert_eq!(std::fs::read_dir(pods[0].volume_dir("/data")).unwrap().count(), 0);
}

#[test]
fn a_configuration_file_is_read_and_etcd_gets_a_complete_one() {
    let world = World::v4();
    let config = "data-dir: /data/etcd\nlisten-metrics-urls: http://0.0.0.0:2381\nheartbeat-interval: 50\nelection-timeout: 500\n";
    let pods = world.pods("etcd", 0..3, |spec| {
        // etcd's variables and its configuration file exclude each other.
        let mut spec = plain_entrypoint(spec, 3).file("/etc/etcd/etcd.yaml", config);
        spec.set_args(["--config-file=/etc/etcd/etcd.yaml"]);
        spec
    });
    pods.iter().for_each(Pod::start);
    wait_for_voters(&all(&pods), 3, SOON);
    assert!(pods[0].cmdline().iter().any(|arg| arg.starts_with("--config-file=/data/etcd/.etcd-bootstrap/")));
}

#[test]
fn a_waiting_pod_needs_little_memory_and_few_queries() {
    let world = World::v4();
    let pods = stateful_set(&world, 1, 3);
    let begun = std::time::Instant::now();
    pods[0].start();
    let window = std::time::Duration::from_secs(if is_long() { 60 } else { 15 });
    stays(window, "it waits", || if pods[0].runs_etcd() { Err("etcd runs".to_owned()) } else { Ok(()) });
    // 20 at once, and 1.6 a second after that: 116 in any minute.
    let queries = world.dns().count_since(&pods[0], begun);
    let seconds = begun.elapsed().as_secs_f64();
    assert!((queries as f64) <= 20.0 + 1.6 * seconds, "{queries} in {seconds} s");
    println!("{queries} queries in {seconds:.0} s, {} KiB resident", pods[0].resident_bytes() / 1024);
}

#[test]
fn check_finds_nothing_then_a_voter_without_a_pod_and_another_url() {
    let world = World::v4();
    let mut pods = founded(&world, 3);
    let healthy = bootstrap(&pods[0], &["check"]);
    finding(&healthy, "ok", "3 voters, 3 run: 1 of them may fail");
    finding(&healthy, "ok", "run would start etcd: the leader lists this member");
    assert!(!healthy.contains("etcdctl"), "{healthy}");

    let fourth = world.pod(entrypoint(PodSpec::new("etcd-3"), 3));
    fourth.start();
    pods.push(fourth);
    wait_for_voters(&all(&pods), 4, SOON);
    let id = |name: &str| {
        let member = members(&pods[0]).unwrap().into_iter().find(|member| member.name == name).unwrap();
        format!("{:x}", member.id)
    };
    let (gone, own) = (id("etcd-3"), id("etcd-2"));
    pods[3].kill();
    let remove = format!("etcdctl member remove {gone}");
    finding(&bootstrap(&pods[0], &["check"]), "warning", &remove);
    finding(&bootstrap(&pods[0], &["status"]), "warning", &remove);

    let scheme = scheme();
    let short = format!("--peer-urls={scheme}://etcd-2.etcd:2380");
    eventually(SOON, "etcd takes the update", || etcdctl(&pods[0], &["member", "update", &own, &short]));
    let update = format!("etcdctl member update {own} --peer-urls={scheme}://etcd-2.etcd.default.svc:2380");
    eventually(SOON, "the update is listed", || {
        let printed = bootstrap(&pods[2], &["check"]);
        if printed.contains(&update) { Ok(()) } else { Err(printed) }
    });

    // The log of each start says both; where no leader answered in time, after the start.
    pods[2].restart();
    pods[2].wait_for_log(SOON, &remove);
    pods[2].wait_for_log(SOON, &update);
}

#[test]
fn check_says_what_run_would_end_with() {
    let world = World::v4();
    let pods = stateful_set(&world, 3, 3);
    pods[0].start();
    pods[1].start();
    pods[1].partition_from(&[&pods[0]]);
    let (printed, code) = command(&pods[0], &["check"]);
    assert_eq!(code, 75, "{printed}");
    finding(&printed, "error", "etcd-1: no answer");
    finding(&printed, "error", "etcd-2: no DNS record");
    let (json, code) = command(&pods[0], &["check", "--output=json"]);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, report["exit_code"].as_i64()), (75, Some(75)));
    assert!(report["findings"].as_array().unwrap().iter().any(|finding| finding["severity"] == "error"), "{json}");

    world.heal();
    pods[2].start();
    wait_for_voters(&all(&pods), 3, SOON);
    pods[2].kill();
    for entry in std::fs::read_dir(pods[2].volume_dir("/data").join("etcd/member/wal")).unwrap() {
        std::fs::write(entry.unwrap().path(), [0; 4096]).unwrap();
    }
    pods[2].edit(|spec| spec.set_command([&["etcd-bootstrap", "check", "--"][..], &ETCD].concat()));
    for (on_lost_data, code) in [("replace", 0), ("fail", 65)] {
        pods[2].edit(|spec| spec.set_env("BOOTSTRAP_ON_LOST_DATA", on_lost_data));
        pods[2].restart();
        assert_eq!(pods[2].wait_for_exit(SOON).code(), code, "{}", pods[2].logs());
        finding(&pods[2].logs(), "warning", "cannot be read");
    }
    // A setting that cannot be read is a finding, too.
    pods[2].edit(|spec| spec.set_env("BOOTSTRAP_STATE", "fresh"));
    pods[2].restart();
    assert_eq!(pods[2].wait_for_exit(SOON).code(), 78);
    finding(&pods[2].logs(), "error", "BOOTSTRAP_STATE");
}

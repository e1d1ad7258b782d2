//! The commands, as an operator calls them in a pod.

use crate::harness::*;
use crate::templates::*;

fn bootstrap(pod: &Pod, verb: &[&str]) -> String {
    let etcd = ["--data-dir=/data/etcd", "--listen-metrics-urls=http://0.0.0.0:2381"];
    let env = ["env", "SERVICE_NAME=etcd", "K8S_NAMESPACE=default", "BOOTSTRAP_INITIAL_CLUSTER_SIZE=3"];
    let name = format!("HOSTNAME={}", pod.name());
    let line: Vec<&str> = [&env[..], &[&name, "/usr/local/bin/etcd-bootstrap"], verb, &["--"], &etcd].concat();
    let output = pod.exec(&line).unwrap();
    assert!(output.status.success(), "{verb:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
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
        let mut spec = entrypoint(spec, 3).file("/etc/etcd/etcd.yaml", config);
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
    let window = std::time::Duration::from_secs(if std::env::var_os("TEST_LONG").is_some() { 60 } else { 15 });
    stays(window, "it waits", || if pods[0].runs_etcd() { Err("etcd runs".to_owned()) } else { Ok(()) });
    // 20 at once, and 1.6 a second after that: 116 in any minute.
    let queries = world.dns().count_since(&pods[0], begun);
    let seconds = begun.elapsed().as_secs_f64();
    assert!((queries as f64) <= 20.0 + 1.6 * seconds, "{queries} in {seconds} s");
    println!("{queries} queries in {seconds:.0} s, {} KiB resident", pods[0].resident_bytes() / 1024);
}

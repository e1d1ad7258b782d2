//! `make demo`: three pods with real etcd found a cluster before the reader's eyes, and a fourth joins. Each pod has its
//! own network, process and mount namespace on this machine; neither Docker nor Kubernetes is needed.

#[path = "pods/harness/mod.rs"]
pub mod harness;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use harness::*;

const SOON: Duration = Duration::from_secs(60);

/// Set in the child that shows the demo, whose parent clears up after it, however it ended.
const SHOWN_BY: &str = "ETCD_BOOTSTRAP_DEMO";

fn main() -> std::process::ExitCode {
    if std::env::var_os(SHOWN_BY).is_some() {
        show_all();
        return std::process::ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (shown, child_id) = runtime.block_on(async {
        let program = std::env::current_exe().expect("the path of this program");
        let mut child = tokio::process::Command::new(program).env(SHOWN_BY, "1").spawn().expect("the demo itself");
        let child_id = child.id().unwrap_or_default();
        let shown = tokio::select! {
            status = child.wait() => status.is_ok_and(|status| status.success()),
            _ = tokio::signal::ctrl_c() => {
                println!("\nInterrupted. Everything is taken down.");
                // The pods die with it.
                child.kill().await.ok();
                false
            }
        };
        (shown, child_id)
    });
    let cleared = || if processes(child_id) == 0 { Ok(()) } else { Err("a pod still runs".to_owned()) };
    eventually(SOON, "the pods are gone", cleared);
    harness::sweep_leftovers();
    if shown { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}

/// How many of the pods' processes there are: their volumes are mounted from the demo's directory.
fn processes(demo: u32) -> usize {
    let directory = format!("etcd-bootstrap-pods-{demo}-");
    let mounts = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries.map(mounts).filter(|mounts| mounts.contains(&directory)).count()
}

fn show_all() {
    let binary = entrypoint();
    let etcd = default_etcd();
    say(&format!("Three pods of a StatefulSet `etcd`, each with an empty volume, and etcd {}.", etcd.version));
    let world = World::v4();
    let pod = |ordinal: u32| world.pod(template(&binary, ordinal, &etcd));
    let pods: Vec<Pod> = (0..3).map(pod).collect();

    step("etcd-0 starts alone. Its peers have no DNS record yet, so it waits, and says for whom:");
    pods[0].start();
    show(&waits_for(&pods[0], "etcd-2"));
    step("etcd-1 comes. One is still missing:");
    pods[1].start();
    show(&waits_for(&pods[1], "etcd-2"));
    step("etcd-2 comes. All have said that their disks are empty, so they found a cluster:");
    let begun = Instant::now();
    pods[2].start();
    let three: Vec<&Pod> = pods.iter().collect();
    wait_for_voters(&three, 3, SOON);
    say(&format!("(all three serve {:.1} s after the last pod started)", begun.elapsed().as_secs_f64()));
    pods.iter().for_each(|pod| show(&decision_of(pod)));
    command(&pods[0], &["member", "list", "-w", "table"]);
    command(&pods[0], &["put", "greeting", "hello"]);
    command(&pods[2], &["get", "greeting"]);

    step("The set is scaled to four. etcd-3 is added as a learner, catches up, and gets its vote:");
    let fourth = pod(3);
    let begun = Instant::now();
    fourth.start();
    let four: Vec<&Pod> = pods.iter().chain([&fourth]).collect();
    wait_for_voters(&four, 4, SOON);
    say(&format!("(a voter {:.1} s after its pod started)", begun.elapsed().as_secs_f64()));
    show(&decision_of(&fourth));
    command(&fourth, &["member", "list", "-w", "table"]);
    command(&fourth, &["get", "greeting"]);
    say("\nDone. Everything is taken down again.");
}

/// The program beside this one: cargo puts both into the same directory.
fn entrypoint() -> PathBuf {
    let own = std::env::current_exe().expect("the path of this program");
    let binary = own.ancestors().nth(2).map(|dir| dir.join("etcd-bootstrap")).filter(|path| path.exists());
    binary.expect("etcd-bootstrap is not built: run `make demo`")
}

fn template(binary: &Path, ordinal: u32, etcd: &Etcd) -> PodSpec {
    PodSpec::new(&format!("etcd-{ordinal}"))
        .etcd(etcd.clone())
        .binary(binary)
        .command(["etcd-bootstrap", "--data-dir=/data/etcd", "--listen-metrics-urls=http://0.0.0.0:2381"])
        .env("SERVICE_NAME", "etcd")
        .env("K8S_NAMESPACE", "default")
        .env("BOOTSTRAP_INITIAL_CLUSTER_SIZE", "3")
        .env("BOOTSTRAP_LOG_FORMAT", "text")
}

fn waits_for(pod: &Pod, missing: &str) -> String {
    eventually(SOON, "the pod says what it waits for", || {
        let answer = pod.http_get(2381, "/readyz")?;
        let told = answer.status == 503 && answer.body.contains(&format!("{missing}: no DNS record"));
        if told { Ok(format!("GET /readyz: {} {}", answer.status, answer.body.trim())) } else { Err(answer.body) }
    })
}

fn decision_of(pod: &Pod) -> String {
    let logs = pod.logs();
    let line = logs.lines().find(|line| line.contains("starting etcd: "));
    let sentence = line.and_then(|line| line.split("starting etcd: ").nth(1)).unwrap_or("no decision was logged");
    format!("{}: {}", pod.name(), sentence.split(" (/").next().unwrap_or(sentence))
}

fn command(pod: &Pod, args: &[&str]) {
    println!("\n  {}$ etcdctl {}", pod.name(), args.join(" "));
    let output = etcdctl(pod, args).expect("etcdctl works");
    output.lines().for_each(|line| println!("  {line}"));
}

fn step(text: &str) {
    println!("\n== {text}");
}

fn say(text: &str) {
    println!("{text}");
}

fn show(text: &str) {
    println!("  {text}");
}

//! `make bench`: the time that the entrypoint costs, beside etcd started directly with the same flags, in one run on this
//! machine; and what it needs while it waits. Run it on a machine that does nothing else.

#[path = "../pods/harness/mod.rs"]
pub mod harness;

pub mod growth;
pub mod restart;
pub mod stub;
pub mod waiting;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use harness::*;

/// Long enough for everything that must come.
pub const SOON: Duration = Duration::from_secs(60);
/// How often it is looked whether something is ready.
const PAUSE: Duration = Duration::from_millis(2);

/// One line of the table.
pub struct Line {
    pub what: &'static str,
    pub bar: String,
    pub measured: String,
    /// The same by etcd alone, where there is such a thing.
    pub etcd_alone: String,
    pub kept: bool,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    stub::in_a_pod(&args);
    let [binary] = args.as_slice() else { panic!("give the path of etcd-bootstrap: run `make bench`") };
    let binary = std::fs::canonicalize(binary).expect("etcd-bootstrap is built: run `make bench`");
    let template = Template { binary, etcd: default_etcd() };
    println!("etcd {}; about four minutes", template.etcd.version);
    let waiting = waiting::Waiting::begin(&template);
    let mut lines = restart::measure(&template);
    lines.extend(growth::measure(&template));
    lines.extend(waiting.measure(&template));
    print(&lines);
    if lines.iter().all(|line| line.kept) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(lines: &[Line]) {
    println!("\n| what | bar | measured | etcd alone | |\n|---|---|---|---|---|");
    for Line { what, bar, measured, etcd_alone, kept } in lines {
        println!("| {what} | {bar} | {measured} | {etcd_alone} | {} |", if *kept { "kept" } else { "MISSED" });
    }
}

/// What the pods run.
pub struct Template {
    pub binary: PathBuf,
    pub etcd: Etcd,
}

impl Template {
    fn spec(&self, ordinal: u32) -> PodSpec {
        let stub = std::env::current_exe().expect("the path of this program");
        PodSpec::new(&format!("etcd-{ordinal}")).etcd(self.etcd.clone()).binary(&self.binary).binary(stub)
    }

    /// The entrypoint, behind `before`: `start` or `gate` of the stub, or nothing.
    pub fn entrypoint(&self, ordinal: u32, before: &[&str]) -> PodSpec {
        let own = ["etcd-bootstrap", "--data-dir=/data/etcd", "--listen-metrics-urls=http://0.0.0.0:2381"];
        self.spec(ordinal)
            .command([before, &own].concat())
            .env("SERVICE_NAME", "etcd")
            .env("K8S_NAMESPACE", "default")
            .env("BOOTSTRAP_INITIAL_CLUSTER_SIZE", "3")
            .env("BOOTSTRAP_LOG_FORMAT", "json")
    }

    /// etcd itself behind the gate, with the flags that the entrypoint gave it.
    pub fn etcd_alone(&self, ordinal: u32, flags: &[String]) -> PodSpec {
        let words = [stub::STUB, "gate", "/usr/local/bin/etcd"].map(str::to_owned);
        self.spec(ordinal).command([&words[..], flags].concat())
    }
}

/// etcd's flags in a running pod.
pub fn flags_of(pod: &Pod) -> Vec<String> {
    pod.cmdline().into_iter().skip(1).collect()
}

/// How long until this is so.
pub fn time_until(mut so: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < SOON, "it does not come");
        std::thread::sleep(PAUSE);
    }
    begun.elapsed()
}

pub fn all(pods: &[Pod]) -> Vec<&Pod> {
    pods.iter().collect()
}

/// A linearizable read works there.
pub fn is_healthy(pod: &Pod) -> bool {
    pod.http_get(2381, "/health").is_ok_and(|answer| answer.status == 200)
}

/// The entrypoint waits there.
pub fn waits(pod: &Pod) -> bool {
    !pod.runs_etcd() && pod.http_get(2381, "/readyz").is_ok_and(|answer| answer.status == 503)
}

pub fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

pub fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

//! What happened, for the reader of a failure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use crate::harness::Pod;

/// What is printed of each pod's log.
const LOG_LINES: usize = 200;

/// Printed when the run fails, with the seed and the end of each pod's log; the whole logs are kept.
pub(super) struct History {
    seed: u64,
    begin: Instant,
    lines: Vec<String>,
    counts: BTreeMap<String, usize>,
    pods: Vec<Pod>,
}

impl History {
    pub(super) fn new(seed: u64) -> Self {
        println!("chaos of seed {seed} begins");
        Self { seed, begin: Instant::now(), lines: Vec::new(), counts: BTreeMap::new(), pods: Vec::new() }
    }

    /// The pod's log is kept if the run fails.
    pub(super) fn watch(&mut self, pod: &Pod) {
        self.pods.push(pod.clone());
    }

    pub(super) fn note(&mut self, what: &str) {
        self.lines.push(format!("{:8.3} {what}", self.begin.elapsed().as_secs_f64()));
    }

    /// One more of these.
    pub(super) fn count(&mut self, kind: &str) {
        *self.counts.entry(kind.to_owned()).or_default() += 1;
    }

    pub(super) fn summary(&self) -> String {
        let mut text = format!("seed {}, {:.0?}:", self.seed, self.begin.elapsed());
        for (kind, count) in &self.counts {
            _ = write!(text, " {kind} {count},");
        }
        text.trim_end_matches(',').to_owned()
    }

    fn save_logs(&self, logs: &[(String, String)]) -> std::io::Result<PathBuf> {
        let dir = std::env::temp_dir().join(format!("etcd-bootstrap-chaos-{}-{}", self.seed, std::process::id()));
        std::fs::create_dir_all(&dir)?;
        for (pod, log) in logs {
            std::fs::write(dir.join(pod), log)?;
        }
        Ok(dir)
    }
}

impl Drop for History {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        println!("CHAOS FAILED: {}\n{}", self.summary(), self.lines.join("\n"));
        let logs: Vec<(String, String)> = self.pods.iter().map(|pod| (pod.name(), pod.all_logs())).collect();
        for (pod, log) in &logs {
            let lines: Vec<&str> = log.lines().collect();
            let end = lines.len().saturating_sub(LOG_LINES);
            println!("--- {pod}, without the first {end} lines\n{}", lines[end..].join("\n"));
        }
        match self.save_logs(&logs) {
            Ok(dir) => println!("each pod's whole log is in {}", dir.display()),
            Err(e) => println!("the pods' logs could not be kept: {e}"),
        }
    }
}

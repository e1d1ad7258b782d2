//! What a waiting pod counts, as Prometheus text. Written by hand: it is a dozen lines of a format that is fixed.

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::status::{PeerState, Phase, Status};

/// The media type of the text form.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What only grows; shared between those who count and those who show.
#[derive(Debug, Default)]
pub struct Counters {
    dns_queries: AtomicU64,
    steps: AtomicU64,
    observations: AtomicU64,
    dials: AtomicU64,
}

impl Counters {
    /// So many packets were sent to DNS servers up to now.
    pub fn dns_queries(&self, sent: u64) {
        self.dns_queries.store(sent, Ordering::Relaxed);
    }

    /// A step was taken.
    pub fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// A decision was made on a fresh observation.
    pub fn observation(&self) {
        self.observations.fetch_add(1, Ordering::Relaxed);
    }

    /// A peer dialled this pod.
    pub fn dialled(&self) {
        self.dials.fetch_add(1, Ordering::Relaxed);
    }
}

/// The text form of a status and what was counted.
pub fn text(status: &Status, counters: &Counters) -> String {
    let mut page = Page::default();
    waiting(&mut page, status);
    always(&mut page, status, counters);
    page.text()
}

/// What is so only while it waits.
pub(crate) fn waiting(page: &mut Page, status: &Status) {
    let phases = Phase::ALL.map(|phase| (format!("{{phase=\"{phase}\"}}"), u8::from(phase == status.phase)));
    page.family("phase", "gauge", "1 for what this pod is at: waiting, acting, starting or refused.", phases);
    let seconds = format!("{:.3}", status.since_start().as_secs_f64());
    page.one("waiting_seconds", "gauge", "Seconds since this process started without having started etcd.", seconds);
}

/// What can be told at any time.
pub(crate) fn always(page: &mut Page, status: &Status, counters: &Counters) {
    let build = [(format!("{{version=\"{}\"}}", status.version), 1_u8)];
    page.family("build_info", "gauge", "This program's version.", build);
    let peers = status.peers();
    let count = |state: PeerState| {
        let number = peers.iter().filter(|peer| !peer.is_self && peer.state == state).count();
        (format!("{{state=\"{}\"}}", state.as_str()), number)
    };
    page.family("peers", "gauge", "Other pods by what they are.", PeerState::ALL.map(count));
    page.one("warnings", "gauge", "Things that nothing mends by itself; see /status.", status.decision.warnings.len());

    let counted = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    page.one("dns_queries_total", "counter", "Questions sent to DNS servers.", counted(&counters.dns_queries));
    page.one("observations_total", "counter", "Decisions on a fresh observation.", counted(&counters.observations));
    page.one("steps_total", "counter", "Steps taken: journal, membership, archive.", counted(&counters.steps));
    page.one("dialled_total", "counter", "Times that a peer dialled this pod.", counted(&counters.dials));
}

/// A page that grows.
#[derive(Default)]
pub(crate) struct Page(String);

impl Page {
    /// The whole of it.
    pub(crate) fn text(self) -> String {
        self.0
    }

    /// One metric with one value.
    pub(crate) fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help, [(String::new(), value)]);
    }

    /// One metric with its values by label set; a label's value is a word of ours, so that nothing needs an escape.
    pub(crate) fn family<V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        values: impl IntoIterator<Item = (String, V)>,
    ) {
        let name = format!("etcd_bootstrap_{name}");
        let _never = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let _never = writeln!(self.0, "{name}{labels} {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_comment_or_a_sample() {
        let counters = Counters::default();
        counters.dns_queries(2);
        counters.step();
        let page = text(&crate::status::tests::waiting(), &counters);
        for line in page.lines().filter(|line| !line.starts_with("# ")) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("etcd_bootstrap_") && value.parse::<f64>().is_ok(), "{line}");
        }
        for sample in [
            "etcd_bootstrap_phase{phase=\"waiting\"} 1",
            "etcd_bootstrap_phase{phase=\"refused\"} 0",
            "etcd_bootstrap_peers{state=\"etcd\"} 3",
            "etcd_bootstrap_peers{state=\"silent\"} 1",
            "etcd_bootstrap_peers{state=\"blank\"} 0",
            "etcd_bootstrap_warnings 1",
            "etcd_bootstrap_dns_queries_total 2",
            "etcd_bootstrap_steps_total 1",
            concat!("etcd_bootstrap_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(page.lines().any(|line| line == sample), "{sample} is not in\n{page}");
        }
    }
}

//! What it needs while it waits: memory, DNS queries; and the size of the program.

use std::time::{Duration, Instant};

use crate::harness::*;
use crate::{Line, Template, time_until, waits};

const MIB: f64 = 1024.0 * 1024.0;
const RESIDENT_MIB_MAX: f64 = 12.0;
const BINARY_MIB_MAX: f64 = 6.0;
const QUERIES_PER_SECOND_MAX: f64 = 2.0;
const MINUTE: Duration = Duration::from_secs(60);

/// A pod of three that waits all the time for the other two.
pub struct Waiting {
    world: World,
    pod: Pod,
    begun: Instant,
}

impl Waiting {
    pub fn begin(template: &Template) -> Self {
        let world = World::v4();
        let pod = world.pod(template.entrypoint(0, &[]));
        let begun = Instant::now();
        pod.start();
        time_until(|| waits(&pod));
        Self { world, pod, begun }
    }

    pub fn measure(self, template: &Template) -> Vec<Line> {
        while self.begun.elapsed() < MINUTE {
            std::thread::sleep(Duration::from_millis(100));
        }
        let resident = self.pod.resident_bytes() as f64 / MIB;
        let binary = std::fs::metadata(&template.binary).expect("the program is there").len() as f64 / MIB;
        let asked: Vec<Instant> = self.world.dns().queries_of(&self.pod).iter().map(|query| query.at).collect();
        let in_minute = |from: &Instant| asked.iter().filter(|at| **at >= *from && **at < *from + MINUTE).count();
        let most = asked.iter().map(in_minute).max().unwrap_or_default() as f64 / MINUTE.as_secs_f64();
        vec![
            line("resident memory while waiting", resident, RESIDENT_MIB_MAX, "MiB"),
            line("binary, static", binary, BINARY_MIB_MAX, "MiB"),
            line("DNS queries while waiting, in the worst minute", most, QUERIES_PER_SECOND_MAX, "a second"),
        ]
    }
}

fn line(what: &'static str, measured: f64, bar: f64, unit: &str) -> Line {
    Line {
        what,
        bar: format!("{bar:.0} {unit}"),
        measured: format!("{measured:.2} {unit}"),
        etcd_alone: "-".to_owned(),
        kept: measured <= bar,
    }
}

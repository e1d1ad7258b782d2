//! Chaos: whatever can happen to pods happens at random, for a while, from a seed. Then it ends, and nothing may be lost.
//!
//! At most a minority of the disks is lost at a time: the next ones only after all pods were voters again. A slow disk
//! cannot be made here without a device of its own; a process that is stopped for up to a second stands in for a write
//! that hangs. Nor can packets be delayed where the kernel has no netem: links are narrowed.

mod faults;
mod history;
mod run;

use std::time::Duration;

use crate::harness::{Etcd, default_etcd, etcd};
use run::Chaos;

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str) -> Option<u64> {
    variable(name).map(|text| text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

#[test]
fn twenty_seconds_of_chaos() {
    Chaos::new(20, default_etcd()).last(Duration::from_secs(20)).end();
}

/// `make chaos SECONDS=600 SEED=7 VERSIONS=3.5.35,3.6.16`: several versions are a rolling upgrade, and share the time.
#[test]
#[ignore = "make chaos"]
fn for_as_long_as_asked() {
    let seconds = number("CHAOS_SECONDS").unwrap_or(600);
    let seed = number("CHAOS_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let versions: Vec<Etcd> = match variable("CHAOS_VERSIONS") {
        Some(versions) => versions.split(',').map(etcd).collect(),
        None => vec![default_etcd()],
    };
    let share = Duration::from_secs(seconds) / versions.len() as u32;
    let mut chaos = Chaos::new(seed, versions[0].clone()).last(share);
    for version in &versions[1..] {
        chaos = chaos.upgrade(version).last(share);
    }
    chaos.end();
}

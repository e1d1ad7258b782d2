//! This program inside the pods: it writes down when a program starts, and holds one back until it may.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::harness::Pod;

/// Where this program and etcd are in a pod.
pub const STUB: &str = "/usr/local/bin/bench";
const ETCD: &str = "/usr/local/bin/etcd";
/// On the pod's volume: the times, and what the gate waits for.
const TIMES: &str = "times";
const GATE: &str = "open";
const VOLUME: &str = "/data";

/// Does what its arguments say where this runs in a pod: `start PROGRAM ARGS`, `gate PROGRAM ARGS`, or etcd's flags,
/// in etcd's place.
pub fn in_a_pod(args: &[String]) {
    let (program, rest): (&str, &[String]) = match args {
        [word, program, rest @ ..] if word == "start" => {
            note("start");
            (program, rest)
        }
        [word, program, rest @ ..] if word == "gate" => {
            while !Path::new(VOLUME).join(GATE).exists() {
                std::thread::sleep(Duration::from_millis(1));
            }
            (program, rest)
        }
        _ if is_in_etcds_place() => {
            note("exec");
            (ETCD, args)
        }
        _ => return,
    };
    panic!("{program}: {}", Command::new(program).args(rest).exec());
}

fn is_in_etcds_place() -> bool {
    std::env::args().next().is_some_and(|own| own == STUB)
}

fn note(what: &str) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let file = std::fs::OpenOptions::new().create(true).append(true).open(Path::new(VOLUME).join(TIMES));
    writeln!(file.expect("the volume can be written"), "{what} {now}").expect("the volume can be written");
}

fn file(pod: &Pod, name: &str) -> PathBuf {
    pod.volume_dir(VOLUME).join(name)
}

/// Lets the program behind the gate go on.
pub fn open_gate(pod: &Pod) {
    std::fs::write(file(pod, GATE), "").expect("the volume can be written");
}

/// The gate is shut for the next start, and no time is noted.
pub fn shut_gate(pod: &Pod) {
    for name in [GATE, TIMES] {
        std::fs::remove_file(file(pod, name)).ok();
    }
}

/// How long it took from the start to the exec of etcd; none before both.
pub fn start_to_exec(pod: &Pod) -> Option<Duration> {
    let text = std::fs::read_to_string(file(pod, TIMES)).ok()?;
    let of = |what: &str| -> Option<u64> {
        let mut found = text.lines().filter_map(|line| line.strip_prefix(what)?.trim().parse().ok());
        found.next_back()
    };
    Some(Duration::from_nanos(of("exec ")?.checked_sub(of("start ")?)?))
}

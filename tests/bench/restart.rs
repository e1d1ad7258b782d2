//! Restart with data: from the start of the entrypoint to the exec of etcd.

use std::time::Duration;

use crate::harness::*;
use crate::{Line, SOON, Template, all, median, milliseconds, stub, time_until};

const RUNS: usize = 15;
const RUNS_ALONE: usize = 5;
const BAR: Duration = Duration::from_millis(20);
const BAR_ALONE: Duration = Duration::from_secs(1);

pub fn measure(template: &Template) -> Vec<Line> {
    let world = World::v4();
    let pods: Vec<Pod> = (0..3)
        .map(|ordinal| {
            let spec = template.entrypoint(ordinal, &[stub::STUB, "start"]);
            world.pod(spec.env("BOOTSTRAP_ETCD", stub::STUB))
        })
        .collect();
    pods.iter().for_each(Pod::start);
    wait_for_voters(&all(&pods), 3, SOON);
    let mut healthy: Vec<Duration> = (0..RUNS).map(|_| restart(follower(&pods), &pods)).collect();
    let mut alone: Vec<Duration> = (0..RUNS_ALONE).map(|_| restart_alone(follower(&pods), &pods)).collect();
    let (median_healthy, median_alone) = (median(&mut healthy), median(&mut alone));
    let worst = |times: &[Duration]| times.last().copied().map(milliseconds).unwrap_or_default();
    vec![
        Line {
            what: "restart with data, peers healthy: start to exec",
            bar: format!("{} at the median", milliseconds(BAR)),
            measured: format!("{} (of {RUNS}; worst {})", milliseconds(median_healthy), worst(&healthy)),
            etcd_alone: "-".to_owned(),
            kept: median_healthy <= BAR,
        },
        Line {
            what: "restart with data, no peer and no DNS answers: start to exec",
            bar: milliseconds(BAR_ALONE),
            measured: format!("{} (median of {RUNS_ALONE}; worst {})", milliseconds(median_alone), worst(&alone)),
            etcd_alone: "-".to_owned(),
            kept: alone.iter().all(|time| *time <= BAR_ALONE),
        },
    ]
}

/// Nobody has to elect a leader while it is measured.
fn follower(pods: &[Pod]) -> &Pod {
    let leader = leader_of(&all(pods)).expect("a leader").name();
    pods.iter().find(|pod| pod.name() != leader).expect("a follower")
}

fn measured(pod: &Pod) -> Duration {
    let mut time = None;
    time_until(|| {
        time = stub::start_to_exec(pod);
        time.is_some()
    });
    time.expect("it was there")
}

fn restart(pod: &Pod, pods: &[Pod]) -> Duration {
    pod.kill();
    stub::shut_gate(pod);
    pod.start();
    let time = measured(pod);
    settle(pod, pods);
    time
}

fn restart_alone(pod: &Pod, pods: &[Pod]) -> Duration {
    pod.crash_container();
    stub::shut_gate(pod);
    pod.partition();
    pod.restart_container();
    let time = measured(pod);
    pod.heal();
    settle(pod, pods);
    time
}

/// All are healthy, and a leader has confirmed the start: the next one is not held back for its sake.
fn settle(pod: &Pod, pods: &[Pod]) {
    wait_for_voters(&all(pods), pods.len(), SOON);
    let journal = pod.volume_dir("/data").join("etcd/.etcd-bootstrap/journal");
    let confirmed = || std::fs::read_to_string(&journal).is_ok_and(|text| text.contains("\"unconfirmed_starts\": 0"));
    time_until(confirmed);
}

//! The first boot of three, and a fourth: beside etcd itself with the flags that the entrypoint gave it.

use std::time::{Duration, Instant};

use crate::harness::*;
use crate::{Line, SOON, Template, all, flags_of, is_healthy, median, milliseconds, stub, time_until, waits};

const BOOTS: usize = 20;
const JOINS: usize = 7;
/// What a first boot may take longer than etcd alone.
const BOOT_FACTOR: f64 = 1.10;
const BOOT_MORE: Duration = Duration::from_millis(200);
/// What a scale-up may.
const JOIN_FACTOR: f64 = 1.25;

pub fn measure(template: &Template) -> Vec<Line> {
    let (ours_world, alone_world) = (World::v4(), World::v4());
    let ours: Vec<Pod> = (0..3).map(|ordinal| ours_world.pod(template.entrypoint(ordinal, &[]))).collect();
    let mut alone: Vec<Pod> = Vec::new();
    let (mut our_boots, mut their_boots) = (Vec::new(), Vec::new());
    for _ in 0..BOOTS {
        our_boots.push(boot(&ours_world, &ours));
        if alone.is_empty() {
            let spec = |(ordinal, pod): (u32, &Pod)| template.etcd_alone(ordinal, &flags_of(pod));
            alone = (0..).zip(&ours).map(spec).map(|spec| alone_world.pod(spec)).collect();
        }
        ours.iter().for_each(empty);
        their_boots.push(boot_alone(&alone));
        alone.iter().for_each(empty);
    }
    let (boot, boot_alone) = (median(&mut our_boots), median(&mut their_boots));
    let boot_bar = boot_alone.mul_f64(BOOT_FACTOR) + BOOT_MORE;
    let (mut our_joins, mut their_joins) = joins(template, &ours_world, &ours);
    let (join, join_alone) = (median(&mut our_joins), median(&mut their_joins));
    let join_bar = join_alone.mul_f64(JOIN_FACTOR);
    vec![
        Line {
            what: "first boot of 3, from the last pod's DNS record to all ready",
            bar: format!("{BOOT_FACTOR:.2} x etcd + {} = {}", milliseconds(BOOT_MORE), milliseconds(boot_bar)),
            measured: format!("{} (median of {BOOTS})", milliseconds(boot)),
            etcd_alone: milliseconds(boot_alone),
            kept: boot <= boot_bar,
        },
        Line {
            what: "scale-up, start to serving as a learner",
            bar: format!("{JOIN_FACTOR:.2} x etcd = {}", milliseconds(join_bar)),
            measured: format!("{} (median of {JOINS})", milliseconds(join)),
            etcd_alone: milliseconds(join_alone),
            kept: join <= join_bar,
        },
    ]
}

fn empty(pod: &Pod) {
    pod.kill();
    pod.wipe();
}

/// All have been up for a while, and only the last one's record is missing.
fn boot(world: &World, pods: &[Pod]) -> Duration {
    let last = pods.last().expect("pods");
    world.dns().withhold(last);
    pods.iter().for_each(Pod::start);
    time_until(|| pods.iter().all(waits));
    world.dns().release(last);
    time_until(|| pods.iter().all(is_healthy))
}

fn boot_alone(pods: &[Pod]) -> Duration {
    pods.iter().for_each(Pod::start);
    pods.iter().for_each(stub::open_gate);
    time_until(|| pods.iter().all(is_healthy))
}

/// The fourth pod's start until it serves, by the entrypoint and by hand.
fn joins(template: &Template, world: &World, pods: &[Pod]) -> (Vec<Duration>, Vec<Duration>) {
    boot(world, pods);
    wait_for_voters(&all(pods), 3, SOON);
    let fourth = world.pod(template.entrypoint(3, &[stub::STUB, "gate"]));
    let by_entrypoint = fourth.spec();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..JOINS {
        fourth.edit(|spec| *spec = by_entrypoint.clone());
        ours.push(join(&fourth));
        let flags = flags_of(&fourth);
        forget(&fourth, pods);
        let url = "--peer-urls=http://etcd-3.etcd.default.svc:2380";
        eventually(SOON, "etcd takes the member", || etcdctl(&pods[0], &["member", "add", "etcd-3", url, "--learner"]));
        fourth.edit(|spec| spec.argv = template.etcd_alone(3, &flags).argv);
        theirs.push(join(&fourth));
        forget(&fourth, pods);
    }
    (ours, theirs)
}

fn join(pod: &Pod) -> Duration {
    pod.start();
    stub::open_gate(pod);
    time_until(|| pod.runs_etcd() && status(pod).is_ok())
}

/// The member and its data go; its next ID must not be of the same second.
fn forget(pod: &Pod, pods: &[Pod]) {
    let removed = Instant::now();
    eventually(SOON, "etcd takes the removal", || {
        let listed = members(&pods[0])?.into_iter().find(|member| member.peer_urls[0].contains("etcd-3"));
        match listed {
            Some(member) => etcdctl(&pods[0], &["member", "remove", &format!("{:x}", member.id)]).map(|_| ()),
            None => Ok(()),
        }
    });
    empty(pod);
    wait_for_voters(&all(pods), 3, SOON);
    time_until(|| removed.elapsed() > Duration::from_millis(1100));
}

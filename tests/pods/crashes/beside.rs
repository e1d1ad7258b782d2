//! Sidecars that are killed at their own points: founding, joining, and after the loss of a volume.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::points::Place;
use super::stage::{PACE, remove_member_of};
use super::story::Story;
use super::way::{FOUNDERS, Layout, Lost, Program, Way};
use super::{Cell, End, why};
use crate::harness::*;
use crate::sidecar::{can_only_restart, pods, sidecar};
use crate::templates::SOON;

/// What it does to etcd's configuration file and with its mark, in the order in which it comes by.
pub(super) const POINTS: [&str; 9] = [
    "take-away-before",
    "take-away-after",
    "mark-before-write",
    "mark-before-rename",
    "mark-before-dir-sync",
    "hand-over-before-file",
    "hand-over-after-file",
    "rewrite-before",
    "rewrite-after",
];

/// As many points as there are founders: each founder is killed at one of them.
pub(super) fn groups() -> impl Iterator<Item = &'static [&'static str]> {
    POINTS.chunks(FOUNDERS as usize)
}

/// Kills the founders of a cluster at these points, and then the next pod, at each of them, while it joins and after
/// its volume is lost. What follows a failure is not tried.
pub(super) fn kill_at(points: &[&'static str], mut note: impl FnMut(End)) {
    let mut cluster = Beside::new();
    let failure = failure_of(&mut cluster, |cluster| cluster.found(points));
    points.iter().for_each(|point| note(end(Way::Found, point, failure.clone())));
    let mut has_failed = failure.is_some();
    for (point, way) in points.iter().flat_map(|point| [(point, Way::Join), (point, Way::Replace)]) {
        if !has_failed {
            let failure = failure_of(&mut cluster, |cluster| cluster.join(way, point));
            has_failed = failure.is_some();
            note(end(way, point, failure));
        }
    }
}

fn failure_of(cluster: &mut Beside, step: impl FnOnce(&mut Beside)) -> Option<String> {
    let tried = catch_unwind(AssertUnwindSafe(|| step(cluster)));
    tried.err().map(|panic| format!("{}\n{}", why(panic.as_ref()), cluster.logs()))
}

fn end(way: Way, point: &str, failure: Option<String>) -> End {
    let place = Place { point: point.to_owned(), time: 1 };
    let cell = Cell { program: Program::Sidecar, way, layout: Layout::OneVolume, place, lost: Lost::Nothing };
    End { cell, failure }
}

/// A cluster of sidecars.
struct Beside {
    // Before the world, whose end takes the pods away.
    founders: Vec<SidecarPod>,
    joiner: SidecarPod,
    story: Story,
    steps: usize,
    world: World,
}

impl Beside {
    fn new() -> Self {
        let world = World::v4();
        let pod = |ordinal| sidecar(&world, &format!("etcd-{ordinal}"), "etcd", FOUNDERS);
        let founders = (0..FOUNDERS).map(pod).collect();
        Self { founders, joiner: pod(FOUNDERS), story: Story::default(), steps: 0, world }
    }

    fn writer(&mut self) -> Writer {
        self.steps += 1;
        Writer::start_with_pace(&self.world, &pods(&self.founders), &format!("w{}/", self.steps), PACE)
    }

    fn found(&mut self, points: &[&str]) {
        let writer = self.writer();
        self.founders.iter_mut().zip(points).for_each(|(founder, point)| start_until(founder, point));
        self.founders.iter().for_each(|founder| is_killed(founder, 0));
        self.ends_well(writer);
    }

    fn join(&mut self, way: Way, point: &str) {
        let writer = self.writer();
        self.joiner.kill("/config");
        self.joiner.pod.wipe();
        if way == Way::Join {
            remove_member_of(&self.joiner.pod, &self.founders[0].pod);
        }
        let (_, before) = self.joiner.starts();
        start_until(&mut self.joiner, point);
        is_killed(&self.joiner, before);
        self.ends_well(writer);
    }

    fn ends_well(&mut self, writer: Writer) {
        let Self { founders, joiner, story, .. } = self;
        let members = existing(founders, joiner);
        let pods: Vec<&Pod> = members.iter().map(|member| &member.pod).collect();
        wait_for_voters(&pods, pods.len(), SOON);
        for member in members {
            assert!(member.etcd_runs());
            can_only_restart(&member.pod);
        }
        story.goes_on(&pods, writer);
    }

    /// For a failure's output.
    fn logs(&self) -> String {
        let log = |member: &&SidecarPod| format!("{}\n{}\n", member.pod.log_tail(60), tail(&member.etcd_logs()));
        existing(&self.founders, &self.joiner).iter().map(log).collect()
    }
}

/// The founders, and the joiner once it has begun.
fn existing<'a>(founders: &'a [SidecarPod], joiner: &'a SidecarPod) -> Vec<&'a SidecarPod> {
    founders.iter().chain(Some(joiner).filter(|joiner| joiner.pod.exists())).collect()
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// Starts it armed. The kubelet starts it again as often as it is killed.
fn start_until(sidecar: &mut SidecarPod, point: &str) {
    sidecar.pod.edit(|spec| spec.set_env("ETCD_BOOTSTRAP_FAILPOINT", point));
    sidecar.start();
}

/// Waits until it was killed more often than before, and disarms it.
fn is_killed(sidecar: &SidecarPod, before: u32) {
    eventually(SOON, "the sidecar is killed", || {
        if sidecar.starts().1 > before { Ok(()) } else { Err("it runs".to_owned()) }
    });
    sidecar.pod.edit(|spec| spec.unset_env("ETCD_BOOTSTRAP_FAILPOINT"));
}

//! A cluster on which one pod after the other is killed, and what must hold after each restart.

use std::time::Duration;

use etcd_bootstrap::commands::leave::ASK_BEFORE;

use super::points::{self, Place};
use super::story::Story;
use super::way::{FOUNDERS, Layout, Lost, Way, becomes_etcd, template};
use crate::harness::*;
use crate::templates::*;

/// How long a pod may take to a place that it reached when nothing was killed.
const TO_THE_PLACE: Duration = Duration::from_secs(20);
/// What is written meanwhile is to be safe; it need not be much.
pub(super) const PACE: Duration = Duration::from_millis(50);

/// Where a leaver is held until it is wanted again.
const HELD: &str = "leave-after-move";

pub(super) struct Stage {
    way: Way,
    layout: Layout,
    world: World,
    /// Tells how many replicas are wanted.
    api: KubeApi,
    pods: Vec<Pod>,
    story: Story,
    starts: usize,
}

impl Stage {
    /// A cluster, or the pods that will found it.
    pub(super) fn new(way: Way, layout: Layout) -> Self {
        let world = World::v4();
        let api = KubeApi::start(&world, FOUNDERS);
        let count = if way == Way::Join { FOUNDERS + 1 } else { FOUNDERS };
        let pods = world.pods("etcd", 0..count, |spec| {
            let spec = template(spec, way, layout);
            if way.leaves() { api.mount(spec) } else { spec }
        });
        pods.iter().for_each(|pod| points::arm(pod, None));
        let stage = Self { way, layout, world, api, pods, story: Story::default(), starts: 0 };
        if !way.founds() {
            let founders = &stage.pods[..FOUNDERS as usize];
            founders.iter().for_each(Pod::start);
            wait_for_voters(&all(founders), founders.len(), SOON);
        }
        stage
    }

    /// The places that a start comes by when nothing happens.
    pub(super) fn places(&mut self) -> Vec<Place> {
        if self.way == Way::Rejoin {
            // The second archive displaces the first.
            self.go_through();
        }
        let mut places = self.go_through();
        // How often etcd refuses a call at first is another thing each time.
        places.retain(|place| place.time == 1 || !place.is_of_a_call());
        if self.way == Way::Stay {
            // Up to here it leaves, as in the other way.
            let held = places.iter().position(|place| place.point == HELD);
            places.drain(..=held.expect("it was held"));
            places.retain(|place| !place.point.starts_with("move-leader-"));
        }
        places
    }

    fn go_through(&mut self) -> Vec<Place> {
        let victim = self.set_up();
        points::arm(&victim, None);
        let writer = self.begin(&victim);
        let mut places = Vec::new();
        if self.way.leaves() {
            places = points::reached(&victim);
            self.come_back(&victim, &[]);
        }
        self.end(writer);
        if !self.way.leaves() {
            eventually(SOON, "the child that outlives the exec is done", || {
                let alive: Vec<_> = victim.processes().into_iter().filter(|(_, line)| !line.is_empty()).collect();
                if alive.len() == 1 { Ok(()) } else { Err(format!("{alive:?}")) }
            });
            places = points::reached(&victim);
        }
        self.clear_up(&victim);
        places
    }

    /// Starts a pod, kills it at the place, takes volumes away, starts it again, and waits until all is well. False
    /// where it did not come by the place this time.
    pub(super) fn crash(&mut self, place: &Place, lost: Lost) -> bool {
        let victim = self.set_up();
        points::arm(&victim, Some(place));
        let writer = self.begin(&victim);
        // A removed member's etcd ends, and takes the hook along: sooner than the hook comes by what is behind the removal,
        // or later. Either way it is killed there.
        let may_be_taken_along = self.way.leaves() && place.is_behind_a_removal();
        let came_by = try_eventually(TO_THE_PLACE, || {
            if may_be_taken_along && !victim.is_running() {
                return Ok(());
            }
            self.be_the_kubelet(|pod| pod.name() != victim.name() || pod.exit() == Some(Exit::Code(0)));
            points::reached(&victim).contains(place).then_some(()).ok_or(String::new())
        });
        // What has not come by keeps its volumes: only a second archive displaces a first.
        self.come_back(&victim, if came_by.is_ok() { lost.volumes(self.layout) } else { &[] });
        self.end(writer);
        self.clear_up(&victim);
        came_by.is_ok()
    }

    /// Brings the next pod to where it is before its start.
    fn set_up(&mut self) -> Pod {
        self.starts += 1;
        let index = match self.way {
            Way::Join => FOUNDERS as usize,
            // The same again and again, for its archives; and only the highest leaves.
            Way::Rejoin | Way::Leave | Way::Stay => FOUNDERS as usize - 1,
            Way::Found | Way::Render | Way::Replace | Way::Restart => self.starts % FOUNDERS as usize,
        };
        let victim = self.pods[index].clone();
        match self.way {
            Way::Join => {}
            Way::Found | Way::Render => {
                self.pods.iter().for_each(Pod::kill);
                self.pods.iter().for_each(Pod::wipe);
                self.story = Story::default();
            }
            Way::Replace => {
                victim.kill();
                victim.wipe();
            }
            Way::Rejoin => {
                victim.kill();
                self.remove_member_of(&victim);
            }
            Way::Restart => self.pods.iter().for_each(Pod::kill),
            Way::Leave | Way::Stay => lead(&victim, &self.pods),
        }
        victim
    }

    /// Starts what is down, or lets the pod leave.
    fn begin(&self, victim: &Pod) -> Writer {
        let targets: Vec<&Pod> = self.pods.iter().filter(|pod| pod.name() != victim.name()).collect();
        let writer = Writer::start_with_pace(&self.world, &targets, &format!("w{}/", self.starts), PACE);
        for pod in self.pods.iter().filter(|pod| !pod.exists()) {
            pod.edit(|spec| spec.argv = template(PodSpec::new(&spec.name), self.way, self.layout).argv);
            pod.start();
        }
        match self.way {
            Way::Leave => {
                self.api.scale(FOUNDERS - 1);
                leave(victim, "");
            }
            Way::Stay => {
                self.api.scale(FOUNDERS - 1);
                std::thread::scope(|scope| {
                    scope.spawn(|| leave(victim, HELD));
                    let is_held = || points::reached(victim).iter().any(|place| place.point == HELD);
                    let held =
                        try_eventually(SOON, || is_held().then_some(()).ok_or("it has not begun to leave".to_owned()));
                    self.api.scale(FOUNDERS);
                    // On what it was told before, it does not act any more: it asks again.
                    std::thread::sleep(ASK_BEFORE);
                    match &held {
                        Ok(()) => points::let_go(victim),
                        // The hook would be waited for, and be held when it comes by later.
                        Err(_) => victim.crash_container(),
                    }
                    held.unwrap();
                });
            }
            _ => {}
        }
        writer
    }

    /// The pod ends, loses these volumes, and starts again.
    fn come_back(&self, victim: &Pod, lost: &[&str]) {
        victim.crash_container();
        lost.iter().for_each(|volume| victim.wipe_volume(volume));
        points::arm(victim, None);
        if self.way.leaves() {
            self.api.scale(FOUNDERS);
            victim.restart();
        } else {
            victim.restart_container();
        }
    }

    /// Waits until all is well.
    fn end(&mut self, writer: Writer) {
        eventually(SOON, "every pod has come to etcd", || {
            self.be_the_kubelet(|_| true);
            self.pods.iter().all(Pod::runs_etcd).then_some(()).ok_or("not all have".to_owned())
        });
        eventually(SOON, "all are voters", || {
            self.be_the_kubelet(|_| true);
            are_voters(&all(&self.pods), self.pods.len())
        });
        self.story.goes_on(&all(&self.pods), writer);
        assert!(self.pods.iter().all(Pod::runs_etcd));
    }

    /// Restarts what has ended: on a busy machine no peer may have answered in time that a member was removed, and etcd
    /// ends itself. After an init container that has done its work comes etcd.
    fn be_the_kubelet(&self, may: impl Fn(&Pod) -> bool) {
        for pod in self.pods.iter().filter(|pod| !pod.is_running() && may(pod)) {
            if self.way == Way::Render && pod.exit() == Some(Exit::Code(0)) {
                pod.edit(becomes_etcd);
            }
            pod.restart_container();
        }
    }

    /// The pod that has joined leaves again.
    fn clear_up(&self, victim: &Pod) {
        if self.way == Way::Join {
            victim.kill();
            victim.wipe();
            self.remove_member_of(victim);
        }
    }

    fn remove_member_of(&self, victim: &Pod) {
        let other = self.pods.iter().find(|pod| pod.name() != victim.name()).unwrap();
        remove_member_of(victim, other);
    }

    /// For a failure's output.
    pub(super) fn logs(&self) -> String {
        let log = |pod: &Pod| format!("{}\n{}\n", ours(&pod.all_logs()), pod.log_tail(0));
        self.pods.iter().map(log).collect()
    }
}

/// As an operator does it, through another pod's member.
pub(super) fn remove_member_of(victim: &Pod, other: &Pod) {
    eventually(SOON, "etcd takes the removal", || {
        match members(other)?.into_iter().find(|member| member.name == victim.name()) {
            Some(member) => remove_member(other, member.id),
            None => Ok(()),
        }
    });
}

/// `leave`, as the preStop hook runs it, in a pod that is held at a point, if at any.
fn leave(pod: &Pod, hold: &str) {
    let more = [("HOSTNAME", pod.name()), ("ETCD_BOOTSTRAP_FAILPOINT_HOLD", hold.to_owned())];
    let more = more.map(|(name, value)| (name.to_owned(), value));
    let env: Vec<(String, String)> = pod.spec().env.into_iter().chain(more).collect();
    // How it ends, the log of the failpoints and the cluster tell.
    let _ = pod.exec_with_env(&env, &["/usr/local/bin/etcd-bootstrap", "leave"]);
}

fn ours(log: &str) -> String {
    let ours: Vec<&str> = log.lines().filter(|line| !line.starts_with('{')).collect();
    ours[ours.len().saturating_sub(60)..].join("\n")
}

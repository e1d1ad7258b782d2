//! The run: trouble begins, overlaps, ends; the kubelet starts what has ended; at times all must be well again.

use std::time::{Duration, Instant};

use super::faults::{self, Kind, Open, lie, names};
use super::history::History;
use crate::dice::Dice;
use crate::harness::*;
use crate::templates::{all, entrypoint};

/// etcd waits up to 30 s for a name that does not resolve, and an abandoned learner's place is free after 60 s.
const RECOVERY: Duration = Duration::from_secs(240);
const FOUNDERS: usize = 3;
const PODS_MAX: usize = 5;
/// Steps until all must be well again.
const STEPS: usize = 12;
/// The same after each pod of an upgrade, while the versions are mixed.
const STEPS_MIXED: usize = 3;
/// With which `leave` says that an operator has to remove the member.
const TIMED_OUT: i32 = 75;
/// Exit codes with which the program says that an operator has to act: nothing here is a case for one.
const REFUSALS: [i32; 6] = [64, 65, 69, 71, 77, 78];

pub(super) struct Chaos {
    // Before the world, whose end takes the pods and their logs away.
    history: History,
    writer: Writer,
    dice: Dice,
    etcd: Etcd,
    /// The pods of the StatefulSet now.
    pods: Vec<Pod>,
    /// Pods that were scaled away; their volumes wait for them.
    away: Vec<Pod>,
    open: Vec<Open>,
    /// Disks lost since all were voters.
    wiped: usize,
    /// All pods of the set have been voters since the last scaling.
    settled: bool,
    cluster_id: Option<u64>,
    api: KubeApi,
    world: World,
}

impl Chaos {
    /// Pods that found a cluster amid the first trouble.
    pub(super) fn new(seed: u64, etcd: Etcd) -> Self {
        let world = World::v4();
        let mut history = History::new(seed);
        history.note(&format!("etcd {}", etcd.version));
        let api = KubeApi::start(&world, FOUNDERS as u32);
        let template = |spec| api.mount(entrypoint(spec, FOUNDERS as u32).etcd(etcd.clone()));
        let pods = world.pods("etcd", 0..FOUNDERS as u32, template);
        pods.iter().for_each(|pod| history.watch(pod));
        let writer = Writer::start(&world, &all(&pods));
        let chaos = Self {
            history,
            writer,
            dice: Dice::of(seed),
            etcd,
            open: pods.iter().cloned().map(Open::Down).collect(),
            pods,
            away: Vec::new(),
            wiped: 0,
            settled: false,
            cluster_id: None,
            api,
            world,
        };
        chaos.founding()
    }

    /// They start one by one, and some crash meanwhile.
    fn founding(mut self) -> Self {
        while !self.open.is_empty() {
            let pod = self.any_pod();
            if self.dice.chance(50) && pod.is_running() {
                self.crash(&pod);
            } else {
                self.end_one();
            }
            self.pause(1000);
        }
        self.recover();
        self
    }

    /// Trouble for this long, and well again.
    pub(super) fn last(mut self, duration: Duration) -> Self {
        let begin = Instant::now();
        let mut steps = 0;
        while begin.elapsed() < duration {
            self.step();
            steps += 1;
            if steps % STEPS == 0 {
                self.recover();
            }
        }
        self.recover();
        self
    }

    fn step(&mut self) {
        let kind = faults::any(&mut self.dice);
        self.begin(kind);
        self.pause(1500);
        while self.open.len() > 4 || (!self.open.is_empty() && self.dice.chance(40)) {
            self.end_one();
        }
    }

    /// Each pod in turn with the next version, amid trouble. Then once more without, as etcd wants it: 3.7 cannot read
    /// what 3.5 wrote.
    pub(super) fn upgrade(mut self, etcd: &Etcd) -> Self {
        self.history.note(&format!("upgrade to etcd {}", etcd.version));
        self.etcd = etcd.clone();
        while let Some(pod) = self.pods.iter().rfind(|pod| pod.spec().etcd != *etcd).cloned() {
            self.said("upgrade", &pod);
            self.leave_alone(&pod);
            self.start_anew(&pod);
            (0..STEPS_MIXED).for_each(|_| self.step());
            self.recover();
        }
        self.wait_for_version();
        for pod in self.pods.clone() {
            self.start_anew(&pod);
            self.recover();
        }
        self.wait_for_version();
        self
    }

    /// As the StatefulSet's newest template has it.
    fn start_anew(&self, pod: &Pod) {
        pod.stop(Duration::from_secs(5));
        pod.edit(|spec| spec.etcd = self.etcd.clone());
        pod.start();
    }

    /// The members have agreed on the version that all of them run.
    fn wait_for_version(&self) {
        let (major, minor, _) = self.etcd.numbers();
        let wanted = format!("\"etcdcluster\":\"{major}.{minor}.0\"");
        eventually(RECOVERY, "the cluster's version", || {
            for pod in &self.pods {
                let answer = pod.get_from_etcd("/version")?;
                if !answer.body.contains(&wanted) {
                    return Err(answer.body);
                }
            }
            Ok(())
        });
    }

    /// Nothing was lost.
    pub(super) fn end(mut self) {
        let writer = std::mem::replace(&mut self.writer, Writer::start(&self.world, &[]));
        let written = writer.stop();
        let pods = all(&self.pods);
        self.history.note("the check");
        let report = check(&pods, &[&written], RECOVERY);
        println!(
            "chaos: etcd {}, {}; {} writes acknowledged, longest gap {:.1?}",
            self.etcd.version,
            self.history.summary(),
            report.writes_checked,
            written.longest_gap,
        );
        report.assert_clean();
        let list = members(&self.pods[0]).unwrap();
        assert_eq!(list.len(), self.pods.len(), "as many members as pods: {list:#?}");
    }

    // --- trouble

    fn begin(&mut self, kind: Kind) {
        let pod = self.any_pod();
        let other = self.any_pod();
        self.leave_alone(&pod);
        match kind {
            Kind::Crash => self.crash(&pod),
            Kind::Kill => self.take_down(&pod, "kill", Pod::kill),
            Kind::Stop => self.take_down(&pod, "stop", |pod| _ = pod.stop(Duration::from_secs(2))),
            Kind::Move => {
                self.said("new address", &pod);
                pod.restart();
            }
            Kind::Freeze => {
                self.said("SIGSTOP", &pod);
                pod.freeze();
                self.open.push(Open::Frozen(pod));
            }
            Kind::Stall => {
                self.said("stall", &pod);
                pod.freeze();
                self.pause(900);
                pod.thaw();
            }
            Kind::Wipe => self.wipe(&pod),
            Kind::Isolate => {
                self.said("isolation", &pod);
                pod.partition();
                self.open.push(Open::Isolated(pod));
            }
            Kind::CutPair if pod.name() != other.name() => {
                self.said("cut", &pod);
                pod.partition_from(&[&other]);
                self.open.push(Open::Cut(pod, other));
            }
            Kind::CutPair => {}
            Kind::Split => self.split(),
            Kind::Narrow => self.narrow(&pod),
            Kind::Dns => {
                let (what, open) = lie(&mut self.dice, &self.world, &pod, &other);
                self.said(what, &pod);
                self.open.extend(open);
            }
            Kind::ScaleOut => self.scale_out(),
            Kind::ScaleIn => self.scale_in(),
            Kind::Outage => self.outage(false),
            Kind::OutageAndWipe => self.outage(true),
        }
    }

    fn crash(&mut self, pod: &Pod) {
        self.said("crash", pod);
        pod.crash_container();
    }

    fn take_down(&mut self, pod: &Pod, how: &str, down: impl Fn(&Pod)) {
        self.said(how, pod);
        down(pod);
        self.open.push(Open::Down(pod.clone()));
    }

    fn wipe(&mut self, pod: &Pod) {
        self.disks_may_be_lost();
        self.wiped += 1;
        let etcd = self.etcd.clone();
        self.take_down(pod, "wipe", |pod| {
            pod.kill();
            lose_disk(pod, &etcd);
        });
    }

    /// A minority at a time: the ones lost before are replaced first.
    fn disks_may_be_lost(&mut self) {
        if !self.settled || (self.wiped + 1) * 2 >= self.pods.len() {
            self.recover();
        }
    }

    fn split(&mut self) {
        let mut pods = self.pods.clone();
        let keep = self.dice.within(1..=pods.len() - 1);
        let mut group = Vec::new();
        while group.len() < keep {
            let at = self.dice.below(pods.len());
            group.push(pods.remove(at));
        }
        self.history.count("partition");
        self.history.note(&format!("partition: {} | {}", names(&group), names(&pods)));
        self.world.partition(&all(&group), &all(&pods));
        self.open.push(Open::Split(group, pods));
    }

    fn narrow(&mut self, pod: &Pod) {
        let rate = self.dice.within(200..=3000) as u32;
        match pod.narrow_link(rate) {
            Ok(()) => {
                self.said("narrow link", pod);
                self.open.push(Open::Narrow(pod.clone()));
            }
            Err(reason) => self.history.note(&format!("no narrow link: {reason}")),
        }
    }

    fn outage(&mut self, lost: bool) {
        if lost {
            self.disks_may_be_lost();
        }
        self.history.count("outage");
        self.history.note("outage of all");
        for pod in self.pods.clone() {
            self.leave_alone(&pod);
            pod.kill();
            self.open.push(Open::Down(pod));
        }
        if lost {
            let pod = self.any_pod();
            self.wiped += 1;
            self.said("wipe", &pod);
            lose_disk(&pod, &self.etcd);
        }
        while self.open.iter().any(|open| matches!(open, Open::Down(_))) {
            self.end_one();
            self.pause(1000);
        }
    }

    fn scale_out(&mut self) {
        if self.pods.len() == PODS_MAX {
            return;
        }
        self.settled = false;
        let ordinal = self.pods.len();
        let name = format!("etcd-{ordinal}");
        let before = self.away.iter().position(|pod| pod.name() == name).map(|at| self.away.remove(at));
        let pod = before.unwrap_or_else(|| {
            let spec = entrypoint(PodSpec::new(&name), FOUNDERS as u32).etcd(self.etcd.clone());
            let pod = self.world.pod(self.api.mount(spec));
            self.history.watch(&pod);
            pod
        });
        self.said("scale out", &pod);
        if pod.spec().etcd != self.etcd {
            // An older version's data would not be let in.
            lose_disk(&pod, &self.etcd);
        }
        pod.start();
        self.pods.push(pod);
        self.api.scale(self.pods.len() as u32);
        self.writer.targets(&all(&self.pods));
    }

    /// The member leaves amid trouble, then its pod goes; its volume stays, or is deleted.
    fn scale_in(&mut self) {
        if self.pods.len() == FOUNDERS {
            return;
        }
        // Who has not joined yet, or again, has nothing to leave, and adds its member later.
        if !self.settled || self.wiped > 0 {
            self.recover();
        }
        let trouble = faults::passing(&mut self.dice);
        self.begin(trouble);
        let Some(pod) = self.pods.last().cloned() else { return };
        self.leave_alone(&pod);
        self.kubelet();
        self.pods.pop();
        self.said("scale in", &pod);
        self.writer.targets(&all(&self.pods));
        self.api.scale(self.pods.len() as u32);
        let code = self.leaves(&pod);
        self.history.note(&format!("leave: {code:?}"));
        pod.kill();
        match code {
            // etcd ends once its member is removed, and the hook with it.
            None | Some(0) => {}
            Some(TIMED_OUT) => self.is_removed_by_hand(&pod),
            Some(code) => panic!("leave ended with {code}: {}", pod.log_tail(20)),
        }
        self.recover();
        if self.dice.chance(50) {
            pod.wipe();
        }
        self.away.push(pod);
    }

    /// The preStop hook: its exit code, if it was not killed. Meanwhile trouble of the other pods begins and ends.
    fn leaves(&mut self, pod: &Pod) -> Option<i32> {
        let mut env = pod.spec().env;
        env.push(("HOSTNAME".to_owned(), pod.name()));
        std::thread::scope(|scope| {
            let hook = scope.spawn(|| pod.exec_with_env(&env, &["/usr/local/bin/etcd-bootstrap", "leave"]));
            while !hook.is_finished() {
                self.pause(1000);
                if self.open.len() < 2 && self.dice.chance(20) {
                    let trouble = faults::passing(&mut self.dice);
                    self.begin(trouble);
                } else if !self.open.is_empty() && self.dice.chance(40) {
                    self.end_one();
                }
            }
            hook.join().expect("the hook's thread died").expect("the hook runs").status.code()
        })
    }

    /// What an operator does whom `leave` has told so.
    fn is_removed_by_hand(&mut self, pod: &Pod) {
        self.history.count("leave gave up");
        while !self.open.is_empty() {
            self.end_one();
        }
        eventually(RECOVERY, "the member is removed", || {
            self.kubelet();
            let leader = leader_of(&all(&self.pods))?;
            match members(&leader)?.into_iter().find(|member| member.name == pod.name()) {
                Some(member) => remove_member(&leader, member.id).and(Err("it was listed".to_owned())),
                None => Ok(()),
            }
        });
    }

    // --- the ends of it

    /// Someone, and often the leader.
    fn any_pod(&mut self) -> Pod {
        let at = self.dice.below(self.pods.len());
        let leader = self.dice.chance(25);
        let any = &self.pods[at];
        if leader { leader_of(&all(&self.pods)).unwrap_or_else(|_| any.clone()) } else { any.clone() }
    }

    /// A pod that is down or stopped comes back before something else happens to it.
    fn leave_alone(&mut self, pod: &Pod) {
        while let Some(at) = self.open.iter().position(|open| open.concerns(pod)) {
            self.end_at(at);
        }
    }

    fn end_one(&mut self) {
        let at = self.dice.below(self.open.len());
        self.end_at(at);
    }

    fn end_at(&mut self, at: usize) {
        let open = self.open.remove(at);
        self.history.note(&format!("ends: {}", open.describe()));
        open.end(&self.world);
    }

    fn said(&mut self, what: &str, pod: &Pod) {
        self.history.count(what);
        self.history.note(&format!("{what}: {}", pod.name()));
    }

    /// Time passes, up to so many milliseconds.
    fn pause(&mut self, milliseconds: usize) {
        let end = Instant::now() + Duration::from_millis(self.dice.below(milliseconds) as u64);
        while Instant::now() < end {
            self.kubelet();
            std::thread::sleep(Duration::from_millis(20).min(end.saturating_duration_since(Instant::now())));
        }
    }

    /// Starts containers that have ended, unless their pod is down.
    fn kubelet(&mut self) {
        for pod in &self.pods {
            if !pod.exists() {
                continue;
            }
            let Some(exit) = pod.exit() else { continue };
            self.history.count("container restart");
            self.history.note(&format!("{} ended: {exit:?}", pod.name()));
            assert!(
                !REFUSALS.contains(&exit.code()),
                "{} wants an operator: {}",
                pod.name(),
                pod.termination_message()
            );
            pod.restart_container();
        }
    }

    /// All trouble ends, and every pod becomes a voter of the one cluster, in which writes go on.
    #[track_caller]
    fn recover(&mut self) {
        while !self.open.is_empty() {
            self.end_one();
        }
        let begin = Instant::now();
        let count = self.pods.len();
        eventually(RECOVERY, "all are voters", || {
            self.kubelet();
            are_voters(&all(&self.pods), count)
        });
        let id = status(&self.pods[0]).map(|status| status.cluster_id);
        if let Ok(id) = id {
            assert_eq!(*self.cluster_id.get_or_insert(id), id, "a second cluster");
        }
        self.writer.wait_for(5, RECOVERY);
        self.history.count("recovery");
        self.history.note(&format!("{count} voters again, after {:.1?}", begin.elapsed()));
        (self.wiped, self.settled) = (0, true);
    }
}

/// A pod that lost its disk amid an upgrade comes back with the new version: without its member the others may have agreed
/// on that already, and let no older one in.
fn lose_disk(pod: &Pod, etcd: &Etcd) {
    pod.wipe();
    pod.edit(|spec| spec.etcd = etcd.clone());
}

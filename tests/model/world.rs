//! The world that the pods live in: disks, processes, an abstract etcd, and what was seen of it. Kept small: identities
//! are numbered in the order of their age, and what nobody can see any more is forgotten.

use std::collections::BTreeSet;

/// A pod, by its ordinal.
pub(crate) type Pod = u8;

/// A member: the pod that it is of, and how many were added for that pod before (0 is the static one).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Mid {
    pub(crate) pod: Pod,
    pub(crate) seq: u8,
}

/// A member as a configuration has it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Mem {
    pub(crate) id: Mid,
    pub(crate) learner: bool,
    /// It has published its name and client URLs.
    pub(crate) published: bool,
}

/// The members after a committed entry.
pub(crate) type Config = Vec<Mem>;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Stage {
    Fresh,
    /// With the generations of the founders' disks that it was heard of; `GONE` where one was not.
    Prepared(Vec<u8>),
    Intent,
    Joined(Mid, bool),
    Removing(Mid),
}

/// No disk was heard of.
pub(crate) const GONE: u8 = u8::MAX;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Journal {
    pub(crate) stage: Stage,
    pub(crate) excluded: BTreeSet<Mid>,
    /// Whose data is being archived, and whether it never spoke.
    pub(crate) archiving: Option<(Option<Mid>, bool)>,
    pub(crate) was_member: bool,
    pub(crate) wal_seen: Option<Mid>,
    /// Its member was about to leave.
    pub(crate) leaving: bool,
}

impl Journal {
    pub(crate) fn fresh() -> Self {
        Self {
            stage: Stage::Fresh,
            excluded: BTreeSet::new(),
            archiving: None,
            was_member: false,
            wal_seen: None,
            leaving: false,
        }
    }
}

/// A write-ahead log: how much of what was committed it holds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Wal {
    pub(crate) id: Mid,
    /// Up to which entry.
    pub(crate) idx: u8,
    /// It has an entry or a state record.
    pub(crate) spoke: bool,
    /// A joiner that no leader has reached: its log is empty, and its view is made from its flags.
    pub(crate) joining: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Pairing {
    None,
    Paired,
    Broken,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Disk {
    /// Which of the pod's disks.
    pub(crate) generation: u8,
    pub(crate) journal: Option<Journal>,
    pub(crate) wal: Option<Wal>,
    /// A db without its WAL, or other evidence of a loss.
    pub(crate) leftovers: bool,
    pub(crate) pairing: Pairing,
}

impl Disk {
    pub(crate) fn blank(generation: u8) -> Self {
        Self { generation, journal: None, wal: None, leftovers: false, pairing: Pairing::None }
    }
}

/// What a pod heard from another, when it asked last.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum View {
    Waiting {
        generation: u8,
        kind: Kind,
    },
    Etcd {
        /// The local list: up to which entry, and whether client URLs are missing; none is `null`.
        local: Option<(u8, bool)>,
        /// The linearizable list, where there was a leader.
        list: Option<u8>,
    },
    /// The etcd of another cluster, which has a leader and none of our names in its list.
    Foreign,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Kind {
    Blank,
    Prepared(Vec<u8>),
    Data,
    Lost,
    WasMember,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Proc {
    Down,
    /// This program, waiting.
    Run {
        views: Vec<Option<View>>,
        /// The rounds of the roll call that are complete.
        rounds: u8,
        /// Which peers were asked since the first round was complete.
        again: u16,
        /// DNS shows the higher pods.
        dns: bool,
    },
    /// etcd was executed, and has no WAL yet.
    Execed {
        new: bool,
        id: Mid,
        promoter: bool,
    },
    /// etcd runs.
    Up {
        first: bool,
        promoter: bool,
        /// The founders that it has spoken to while nobody could lead: what they said of their votes is in its memory, and
        /// nowhere else.
        heard: u16,
    },
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct PodState {
    pub(crate) disk: Disk,
    pub(crate) process: Proc,
}

/// What went wrong, as a property names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Broken {
    /// A leader without what was acknowledged, or two clusters.
    TwoClusters,
    /// A used identity was taken by a disk that does not hold its log.
    Identity,
    /// A founding began while somebody was not prepared.
    Founding,
    /// A membership call could cost the quorum, or was made without one.
    Quorum,
    /// A pod acts in a cluster that is not its own.
    Foreign,
    /// Whole data of a member went aside, data went without a note of it, or etcd started beside some that is left.
    Data,
}

/// A change that etcd has queued: its caller's deadline passed, and it may still be applied.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Queued {
    Remove(Mid),
    Add(Mid, bool),
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct World {
    pub(crate) pods: Vec<PodState>,
    /// The configurations that were committed, from the founding one on; those that nobody holds are forgotten.
    pub(crate) history: Vec<Config>,
    pub(crate) queue: BTreeSet<Queued>,
    /// Members that have spoken to others where somebody could lead, or acknowledged something, or whose data was put
    /// aside.
    pub(crate) mattered: BTreeSet<Mid>,
    /// The learner that the leader knows to be in sync, or to have been before it died.
    pub(crate) in_sync: Option<Mid>,
    /// The pods that have been prepared since somebody last had anything.
    pub(crate) prepared: u16,
    /// The pods of learners of which DNS has had no record for a minute.
    pub(crate) absent: u16,
    pub(crate) crashes: u8,
    pub(crate) losses: u8,
    pub(crate) lost_answers: u8,
    /// Members that were told to leave.
    pub(crate) leaves: u8,
    pub(crate) astray: u8,
    pub(crate) absences: u8,
    pub(crate) broken: Option<Broken>,
    /// A quorum of disks is lost: an operator has to help.
    pub(crate) hopeless: bool,
}

impl World {
    pub(crate) fn new(pods: u8, founders: u8) -> Self {
        let founding =
            (0..founders).map(|pod| Mem { id: Mid { pod, seq: 0 }, learner: false, published: false }).collect();
        Self {
            pods: (0..pods).map(|_| PodState { disk: Disk::blank(0), process: Proc::Down }).collect(),
            history: vec![founding],
            queue: BTreeSet::new(),
            mattered: BTreeSet::new(),
            in_sync: None,
            prepared: 0,
            absent: 0,
            crashes: 0,
            losses: 0,
            lost_answers: 0,
            leaves: 0,
            astray: 0,
            absences: 0,
            broken: None,
            hopeless: false,
        }
    }

    pub(crate) fn head(&self) -> u8 {
        (self.history.len() - 1) as u8
    }

    pub(crate) fn config(&self, idx: u8) -> &Config {
        &self.history[usize::from(idx)]
    }

    pub(crate) fn current(&self) -> &Config {
        self.config(self.head())
    }

    /// The WAL of a pod whose etcd runs on it.
    pub(crate) fn running(&self, pod: Pod) -> Option<&Wal> {
        let pod = &self.pods[usize::from(pod)];
        matches!(pod.process, Proc::Up { .. }).then_some(pod.disk.wal.as_ref()).flatten()
    }

    pub(crate) fn each_running(&self) -> impl Iterator<Item = (Pod, &Wal)> {
        (0..self.pods.len() as u8).filter_map(|pod| self.running(pod).map(|wal| (pod, wal)))
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = Pod> + use<> {
        0..self.pods.len() as u8
    }

    fn every_idx(&mut self) -> Vec<&mut u8> {
        let mut all = Vec::new();
        for pod in &mut self.pods {
            all.extend(pod.disk.wal.iter_mut().map(|wal| &mut wal.idx));
            if let Proc::Run { views, .. } = &mut pod.process {
                for view in views.iter_mut().flatten() {
                    if let View::Etcd { local, list } = view {
                        all.extend(local.iter_mut().map(|(idx, _)| idx).chain(list.iter_mut()));
                    }
                }
            }
        }
        all
    }

    pub(crate) fn every_id(&mut self, keep: &mut dyn FnMut(&mut Mid)) {
        for pod in &mut self.pods {
            pod.disk.wal.iter_mut().for_each(|wal| keep(&mut wal.id));
            if let Some(journal) = &mut pod.disk.journal {
                match &mut journal.stage {
                    Stage::Joined(id, _) | Stage::Removing(id) => keep(id),
                    Stage::Fresh | Stage::Prepared(_) | Stage::Intent => {}
                }
                journal.wal_seen.iter_mut().for_each(&mut *keep);
                journal.archiving.iter_mut().filter_map(|(id, _)| id.as_mut()).for_each(&mut *keep);
            }
            if let Proc::Execed { id, .. } = &mut pod.process {
                keep(id);
            }
        }
        self.history.iter_mut().flatten().for_each(|member| keep(&mut member.id));
        self.in_sync.iter_mut().for_each(&mut *keep);
        self.queue = std::mem::take(&mut self.queue)
            .into_iter()
            .map(|mut queued| {
                match &mut queued {
                    Queued::Remove(id) | Queued::Add(id, _) => keep(id),
                }
                queued
            })
            .collect();
    }

    /// The same world with the smallest numbers.
    pub(crate) fn canonical(mut self) -> Self {
        // Entries that nobody holds: the founding one stays, and the last one.
        let head = self.head();
        let mut held: BTreeSet<u8> = self.every_idx().into_iter().map(|idx| *idx).collect();
        held.extend([0, head]);
        if held.len() < self.history.len() {
            for idx in self.every_idx() {
                *idx = held.range(..*idx).count() as u8;
            }
            let mut at = 0;
            self.history.retain(|_| {
                at += 1;
                held.contains(&(at - 1))
            });
        }
        let mut named = BTreeSet::new();
        self.every_id(&mut |id| _ = named.insert(*id));
        // An exclusion matters only while its member can be listed again; the static ID can always be started.
        let forget = |ids: &mut BTreeSet<Mid>| ids.retain(|id| id.seq == 0 || named.contains(id));
        for pod in &mut self.pods {
            pod.disk.journal.iter_mut().for_each(|journal| forget(&mut journal.excluded));
        }
        forget(&mut self.mattered);
        let small = |id: &mut Mid| {
            if id.seq > 0 {
                let older = named.range(Mid { pod: id.pod, seq: 1 }..*id).count();
                id.seq = older as u8 + 1;
            }
        };
        let renamed = |ids: &BTreeSet<Mid>| {
            let mut ids: Vec<Mid> = ids.iter().copied().collect();
            ids.iter_mut().for_each(small);
            ids.into_iter().collect::<BTreeSet<Mid>>()
        };
        for pod in &mut self.pods {
            pod.disk.journal.iter_mut().for_each(|journal| journal.excluded = renamed(&journal.excluded));
        }
        self.mattered = renamed(&self.mattered);
        self.every_id(&mut |id| small(id));
        self
    }
}

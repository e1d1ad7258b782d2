//! The abstract etcd: who can lead, what is committed, and who learns of it.

use super::world::{Broken, Config, Mem, Mid, Pod, PodState, Proc, Queued, Wal, World};

impl World {
    /// The pods whose vote a candidate gets, itself included, and whether that makes it the leader.
    fn can_lead(&self, candidate: Pod) -> bool {
        let Some(own) = self.running(candidate) else { return false };
        let config = self.config(own.idx);
        let is_voter = |id: Mid| config.iter().any(|member| member.id == id && !member.learner);
        if !own.spoke || own.joining || !is_voter(own.id) {
            return false;
        }
        let votes = self
            .each_running()
            .filter(|(_, wal)| wal.spoke && is_voter(wal.id) && (wal.joining || wal.idx <= own.idx))
            .count();
        votes * 2 > voters(config)
    }

    /// A pod that can lead, and holds all that was committed.
    pub(crate) fn leader(&self) -> Option<Pod> {
        self.all().find(|pod| self.can_lead(*pod) && self.running(*pod).is_some_and(|wal| wal.idx == self.head()))
    }

    /// A pod can lead that lacks what was acknowledged.
    pub(crate) fn stale_leader(&self) -> Option<Pod> {
        self.all().find(|pod| self.can_lead(*pod) && self.running(*pod).is_some_and(|wal| wal.idx < self.head()))
    }

    /// Its member answers with a linearizable list.
    pub(crate) fn gives_list(&self, wal: &Wal) -> bool {
        let voter = self.member(wal.id).is_some_and(|member| member.published && !member.learner);
        voter && wal.spoke && self.leader().is_some()
    }

    pub(crate) fn member(&self, id: Mid) -> Option<&Mem> {
        self.current().iter().find(|member| member.id == id)
    }

    /// The members that may acknowledge the next entry: all that run, or all but one where a majority is left.
    pub(crate) fn acknowledging(&self) -> Vec<Vec<Pod>> {
        let Some(leader) = self.leader() else { return Vec::new() };
        let in_config = |id: Mid| self.member(id).is_some();
        let all: Vec<Pod> =
            self.each_running().filter(|(_, wal)| wal.spoke && in_config(wal.id)).map(|(pod, _)| pod).collect();
        let mut sets = vec![all.clone()];
        for left_out in all.iter().filter(|pod| **pod != leader) {
            let rest: Vec<Pod> = all.iter().copied().filter(|pod| pod != left_out).collect();
            if self.is_majority(&rest) {
                sets.push(rest);
            }
        }
        sets
    }

    fn is_majority(&self, pods: &[Pod]) -> bool {
        let config = self.current();
        let voting = |pod: &&Pod| {
            self.running(**pod).is_some_and(|wal| config.iter().any(|member| member.id == wal.id && !member.learner))
        };
        pods.iter().filter(voting).count() * 2 > voters(config)
    }

    /// An entry is committed, and these hold it.
    pub(crate) fn commit(&mut self, config: Config, holders: &[Pod]) {
        self.history.push(config);
        let head = self.head();
        for pod in holders {
            if let Some(wal) = &mut self.pods[usize::from(*pod)].disk.wal {
                (wal.idx, wal.joining) = (head, false);
                self.mattered.insert(wal.id);
            }
        }
    }

    pub(crate) fn learner(&self) -> Option<Mid> {
        self.current().iter().find(|member| member.learner).map(|member| member.id)
    }

    /// What a leader knows of the learner's log outlives the learner's process. A new leader knows nothing; one that takes
    /// over at once is not told from the old one here, so that more is promoted than etcd would.
    pub(crate) fn note_who_is_in_sync(&mut self) {
        let learner = self.learner();
        self.absent &= learner.map_or(0, |id| 1 << id.pod);
        let here = |wal: &Wal| learner == Some(wal.id) && wal.spoke && !wal.joining && wal.idx == self.head();
        let in_sync = self.each_running().any(|(_, wal)| here(wal));
        self.in_sync = match self.leader() {
            None => None,
            Some(_) if in_sync => learner,
            Some(_) => self.in_sync.filter(|id| learner == Some(*id)),
        };
    }

    pub(crate) fn with(&self, change: impl Fn(&mut Mem), id: Mid) -> Config {
        let mut config = self.current().clone();
        config.iter_mut().filter(|member| member.id == id).for_each(change);
        config
    }

    pub(crate) fn without(&self, id: Mid) -> Config {
        self.current().iter().copied().filter(|member| member.id != id).collect()
    }

    /// The configuration with one more member, where etcd accepts it: one member a pod, one learner.
    pub(crate) fn plus(&self, id: Mid, learner: bool) -> Option<Config> {
        let config = self.current();
        let taken = config.iter().any(|member| member.id.pod == id.pod || (learner && member.learner));
        let mut config = config.clone();
        config.push(Mem { id, learner, published: false });
        config.sort();
        (!taken).then_some(config)
    }

    pub(crate) fn next_id(&self, pod: Pod) -> Mid {
        let named = |id: Mid| if id.pod == pod { id.seq } else { 0 };
        let listed = self.history.iter().flatten().map(|member| named(member.id));
        let queued = self.queue.iter().map(|queued| match queued {
            Queued::Add(id, _) | Queued::Remove(id) => named(*id),
        });
        let disk = &self.pods[usize::from(pod)].disk;
        let own = disk.journal.iter().flat_map(|journal| {
            let stage = match journal.stage {
                super::world::Stage::Joined(id, _) | super::world::Stage::Removing(id) => id.seq,
                _ => 0,
            };
            journal.excluded.iter().chain(&journal.wal_seen).map(|id| id.seq).chain([stage])
        });
        let wal = disk.wal.iter().map(|wal| wal.id.seq);
        Mid { pod, seq: listed.chain(queued).chain(own).chain(wal).max().unwrap_or_default() + 1 }
    }

    /// After a change of the members by a call: a majority of the voters must still have a disk with their log.
    pub(crate) fn check_quorum(&mut self) {
        let config = self.current();
        let alive = config.iter().filter(|member| !member.learner).filter(|member| {
            let wal = &self.pods[usize::from(member.id.pod)].disk.wal;
            wal.as_ref().is_some_and(|wal| wal.id == member.id && wal.spoke)
        });
        if alive.count() * 2 <= voters(config) {
            self.broken.get_or_insert(Broken::Quorum);
        }
    }

    /// Somebody knows what this member said, though its log is gone.
    pub(crate) fn is_remembered(&self, id: Mid) -> bool {
        let heard = |pod: &PodState| matches!(pod.process, Proc::Up { heard, .. } if heard & 1 << id.pod != 0);
        self.mattered.contains(&id) || (id.seq == 0 && self.pods.iter().any(heard))
    }

    /// Who talks to whom has happened: what two running members of a cluster said cannot be taken back. Where nobody can
    /// lead, nothing is acknowledged, and what was said is gone with the processes that heard it.
    pub(crate) fn note_what_mattered(&mut self) {
        let running: Vec<Mid> = self.each_running().filter(|(_, wal)| wal.spoke).map(|(_, wal)| wal.id).collect();
        let led = self.leader().is_some();
        if running.len() > 1 {
            // Who was added has spoken to a leader.
            self.mattered.extend(running.iter().filter(|id| led || id.seq > 0));
        }
        let lasting = |id: &&Mid| self.mattered.contains(id);
        let passing = running.iter().filter(|id| !lasting(id)).fold(0, |set, id| set | 1 << id.pod);
        let known = self.mattered.iter().filter(|id| id.seq == 0).fold(0, |set, id| set | 1 << id.pod);
        for id in &running {
            if let Proc::Up { heard, .. } = &mut self.pods[usize::from(id.pod)].process {
                *heard = (*heard | passing) & !known & !(1 << id.pod);
            }
        }
        if self.stale_leader().is_some() {
            self.broken.get_or_insert(Broken::TwoClusters);
        }
    }
}

pub(crate) fn voters(config: &Config) -> usize {
    config.iter().filter(|member| !member.learner).count()
}

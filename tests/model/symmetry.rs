//! The founders are alike: worlds that differ only in which is which count as one.
//!
//! (Joiners are alike only where no DNS record tells them apart, which is for a cluster of one founder.)

use std::hash::Hash;

use super::graph::fingerprint;
use super::world::{Disk, Kind, Mid, Pod, Proc, Queued, Stage, View, World};

impl World {
    /// The same world with the pods in an order that does not depend on their names.
    pub(crate) fn representative(self, founders: u8) -> Self {
        let pods = self.pods.len() as u8;
        let groups = if founders == 1 { [0..1, 1..pods] } else { [0..founders, 0..0] };
        let mut orders: Vec<Vec<Pod>> = vec![Vec::new()];
        for group in groups.clone() {
            let mut alike: Vec<(u64, Pod)> = group.map(|pod| (self.signature(pod), pod)).collect();
            alike.sort_unstable();
            for ties in alike.chunk_by(|a, b| a.0 == b.0) {
                let ties: Vec<Pod> = ties.iter().map(|(_, pod)| *pod).collect();
                let arranged = arrangements(&ties);
                orders = orders
                    .iter()
                    .flat_map(|before| arranged.iter().map(move |tail| [before.as_slice(), tail].concat()))
                    .collect();
            }
        }
        for order in &mut orders {
            let rest = (0..pods).filter(|pod| !order.contains(pod)).collect::<Vec<_>>();
            order.extend(rest);
        }
        let renamed = orders.iter().map(|order| self.renamed(order));
        renamed.min().unwrap_or(self)
    }

    /// What a pod is apart from its name and its relations.
    fn signature(&self, pod: Pod) -> u64 {
        let state = &self.pods[usize::from(pod)];
        let Disk { generation, journal, wal, leftovers, pairing } = &state.disk;
        let journal = journal.as_ref().map(|journal| {
            let stage = match &journal.stage {
                Stage::Fresh => (0, 0),
                Stage::Prepared(_) => (1, 0),
                Stage::Intent => (2, 0),
                Stage::Joined(id, _) => (3, id.seq),
                Stage::Removing(id) => (4, id.seq),
            };
            (stage, journal.was_member, journal.wal_seen.map(|id| id.seq), journal.archiving.is_some())
        });
        let wal = wal.as_ref().map(|wal| (wal.id.seq, wal.idx, wal.spoke, wal.joining));
        let process = match &state.process {
            Proc::Down => (0, 0, false),
            Proc::Run { rounds, views, dns, .. } => (1, *rounds + 4 * views.iter().flatten().count() as u8, *dns),
            Proc::Execed { new, promoter, .. } => (2, u8::from(*new), *promoter),
            Proc::Up { first, promoter, heard } => (3, u8::from(*first) + 2 * heard.count_ones() as u8, *promoter),
        };
        let listed = self.current().iter().find(|member| member.id.pod == pod);
        let listed = listed.map(|member| (member.id.seq, member.learner, member.published));
        fn key(value: &impl Hash) -> u64 {
            fingerprint(value)
        }
        key(&(*generation, journal, wal, *leftovers, *pairing, process, listed))
    }

    /// The pod `order[n]` becomes the pod `n`.
    fn renamed(&self, order: &[Pod]) -> Self {
        let new = |pod: Pod| order.iter().position(|old| *old == pod).unwrap_or_default() as Pod;
        let bits = |set: u16| {
            (0..16)
                .filter(|pod| set & 1 << pod != 0)
                .fold(0, |bits, pod| bits | 1 << if usize::from(pod) < order.len() { new(pod) } else { pod })
        };
        let id = |id: &mut Mid| id.pod = new(id.pod);
        let ids = |ids: &std::collections::BTreeSet<Mid>| {
            ids.iter().map(|old| Mid { pod: new(old.pod), seq: old.seq }).collect::<std::collections::BTreeSet<Mid>>()
        };
        let generations = |old: &mut Vec<u8>| {
            let before = old.clone();
            for (at, generation) in before.iter().enumerate() {
                old[usize::from(new(at as Pod))] = *generation;
            }
        };
        let mut world = self.clone();
        world.every_id(&mut |one| id(one));
        world.queue = world.queue.iter().copied().collect::<std::collections::BTreeSet<Queued>>();
        world.history.iter_mut().for_each(|config| config.sort_unstable());
        world.mattered = ids(&world.mattered);
        world.prepared = bits(world.prepared);
        world.absent = bits(world.absent);
        for pod in &mut world.pods {
            if let Some(journal) = &mut pod.disk.journal {
                journal.excluded = ids(&journal.excluded);
                if let Stage::Prepared(heard) = &mut journal.stage {
                    generations(heard);
                }
            }
            if let Proc::Up { heard, .. } = &mut pod.process {
                *heard = bits(*heard);
            }
            if let Proc::Run { views, again, .. } = &mut pod.process {
                *again = bits(*again);
                let before = views.clone();
                for (at, mut view) in before.into_iter().enumerate() {
                    if let Some(View::Waiting { kind: Kind::Prepared(heard), .. }) = &mut view {
                        generations(heard);
                    }
                    views[usize::from(new(at as Pod))] = view;
                }
            }
        }
        world.pods = order.iter().map(|old| world.pods[usize::from(*old)].clone()).collect();
        world
    }
}

fn arrangements(pods: &[Pod]) -> Vec<Vec<Pod>> {
    if pods.len() < 2 {
        return vec![pods.to_vec()];
    }
    let mut all = Vec::new();
    for (at, first) in pods.iter().enumerate() {
        let rest: Vec<Pod> = pods.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, pod)| *pod).collect();
        all.extend(arrangements(&rest).into_iter().map(|tail| [&[*first], tail.as_slice()].concat()));
    }
    all
}

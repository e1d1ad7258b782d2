//! What must never be, looked for where it would happen: what a pod may rest a call or a founding on.
//!
//! Drawn anew from what the pod has seen, not from what the decision makes of it.

use super::project::{Key, Move};
use super::world::{Broken, Config, Journal, Kind, Mem, Mid, Pairing, Proc, Stage, View, World};

/// The newest linearizable list that the pod was given.
pub(crate) fn newest(key: &Key) -> Option<&Config> {
    let lists = key.views.iter().flatten().filter_map(|view| match view {
        View::Etcd { list, .. } => *list,
        View::Waiting { .. } | View::Foreign => None,
    });
    config(key, lists.max()?)
}

fn config(key: &Key, idx: u8) -> Option<&Config> {
    key.configs.get(usize::from(idx))?.as_ref()
}

/// The same list, where a majority of its voters, each asked at its own name, gave the same members.
fn confirmed(key: &Key) -> Option<&Config> {
    let members = |config: &Config| config.iter().map(|member| (member.id, member.learner)).collect::<Vec<_>>();
    let newest = newest(key)?;
    let gives_it = |voter: &&Mem| match key.views.get(usize::from(voter.id.pod)) {
        Some(Some(View::Etcd { local: Some((idx, _)), .. })) => {
            config(key, *idx).is_some_and(|local| members(local) == members(newest))
        }
        _ => false,
    };
    let voters: Vec<&Mem> = newest.iter().filter(|member| !member.learner).collect();
    (voters.iter().copied().filter(gives_it).count() * 2 > voters.len()).then_some(newest)
}

/// A membership call rests on a confirmed list, and is of the own member, or of a learner that nobody has a vote of.
pub(crate) fn check_call(world: &mut World, key: &Key, call: &Move) {
    let fits = confirmed(key).is_some_and(|list| {
        let is_learner = |id: Mid| list.iter().any(|member| member.id == id && member.learner);
        match call {
            Move::Add(_) => list.iter().all(|member| member.id.pod != key.pod),
            Move::Remove(id) => id.pod == key.pod && list.iter().any(|member| member.id == *id),
            // What was a learner in the list must not have got its vote since.
            Move::RemoveAbandoned(id) => is_learner(*id) && world.member(*id).is_none_or(|member| member.learner),
            Move::Promote(id) => is_learner(*id),
            _ => true,
        }
    });
    if !fits {
        world.broken.get_or_insert(Broken::Quorum);
    }
}

/// A vote was given to a learner. Who was not heard to run must not take the quorum with it; who ran, and has died or
/// lost its disk since, might as well have done so after it had its vote.
pub(crate) fn check_promotion(world: &mut World, key: &Key, id: Mid) {
    let heard = matches!(key.views.get(usize::from(id.pod)), Some(Some(View::Etcd { .. })));
    let voters: Vec<Mid> = world.current().iter().filter(|member| !member.learner).map(|member| member.id).collect();
    let runs = |id: &&Mid| world.running(id.pod).is_some_and(|wal| wal.id == **id);
    if !heard && voters.iter().filter(runs).count() * 2 <= voters.len() {
        world.broken.get_or_insert(Broken::Quorum);
    }
}

/// A founding begins only where each other founder has told this very process that it is prepared, and what each said
/// last: so none has data, has lost some, or is silent. One that a peer was heard to run may be finished.
pub(crate) fn check_founding(world: &mut World, key: &Key, founders: u8) {
    let own = key.disk.journal.as_ref().is_some_and(|journal| matches!(journal.stage, Stage::Prepared(_)));
    let prepared = |pod: u8| {
        let said = key.views.get(usize::from(pod));
        pod == key.pod || matches!(said, Some(Some(View::Waiting { kind: Kind::Prepared(_), .. })))
    };
    let finishes = key.views.iter().flatten().any(|view| matches!(view, View::Etcd { .. }));
    if !own || !(finishes || (0..founders).all(prepared)) {
        world.broken.get_or_insert(Broken::Founding);
    }
}

/// A WAL that spoke has gone, and no journal said before that it goes.
pub(crate) fn vanished(before: &World, after: &World) -> bool {
    before.pods.iter().zip(&after.pods).any(|(before, after)| {
        let spoke = before.disk.wal.as_ref().is_some_and(|wal| wal.spoke);
        let noted = before.disk.journal.as_ref().is_some_and(|journal| journal.archiving.is_some());
        spoke && after.disk.wal.is_none() && !noted
    })
}

impl World {
    /// Too many voters have lost what they knew: what follows is for an operator.
    pub(crate) fn is_hopeless(&self, founders: u8) -> bool {
        let config = self.current();
        let dead = |id: Mid| {
            let disk = &self.pods[usize::from(id.pod)].disk;
            let Some(journal) = &disk.journal else { return disk.generation > 0 };
            let whole = disk.pairing != Pairing::Broken;
            let held = disk.wal.as_ref().is_some_and(|wal| wal.id == id) && whole;
            let undone = matches!(journal.archiving, Some((_, true)));
            let unused = (journal.wal_seen != Some(id) || undone) && whole;
            let granted = match &journal.stage {
                Stage::Prepared(_) => id.seq == 0,
                Stage::Joined(joined, _) => *joined == id,
                Stage::Fresh => !journal.was_member && disk.generation == 0 && !disk.leftovers,
                Stage::Intent | Stage::Removing(_) => false,
            };
            !(held || (granted && unused))
        };
        let voters: Vec<Mid> = config.iter().filter(|member| !member.learner).map(|member| member.id).collect();
        let gone = voters.iter().filter(|id| dead(**id)).count();
        let changed = (0..founders).filter(|pod| self.pods[usize::from(*pod)].disk.generation > 0).count();
        let in_founding = self.prepared != 0 && (usize::from(founders) - changed) * 2 <= usize::from(founders);
        (voters.len() - gone) * 2 <= voters.len() || (in_founding && self.head() == 0)
    }

    /// Every disk is as good as new, and nobody has heard of one that is gone: whatever was lost, a cluster can be founded
    /// as at the first boot. (Who has heard of the lost disk prepares with it, and waits for an operator.)
    pub(crate) fn is_blank(&self) -> bool {
        let heard = |(pod, view): (usize, &Option<View>)| match view {
            Some(View::Waiting { generation, kind }) => {
                *generation == self.pods[pod].disk.generation && *kind == Kind::Blank
            }
            Some(View::Etcd { .. } | View::Foreign) => false,
            None => true,
        };
        self.pods.iter().all(|pod| {
            let disk = &pod.disk;
            let unwritten = disk.journal.as_ref().is_none_or(|journal| *journal == Journal::fresh());
            let hearing = match &pod.process {
                Proc::Run { views, .. } => views.iter().enumerate().all(heard),
                _ => true,
            };
            unwritten && hearing && disk.wal.is_none() && !disk.leftovers && disk.pairing == Pairing::None
        })
    }

    /// All pods run etcd, all are published voters, and somebody leads.
    pub(crate) fn is_well(&self) -> bool {
        self.leader().is_some()
            && self.all().all(|pod| {
                self.running(pod)
                    .is_some_and(|wal| self.member(wal.id).is_some_and(|member| member.published && !member.learner))
            })
            && self.current().len() == self.pods.len()
    }
}

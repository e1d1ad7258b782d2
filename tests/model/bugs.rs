//! Known bugs, seeded: what the decision would do without one of its rules. The check has to catch each.

use etcd_bootstrap::plan::Rule;

use super::checks::newest;
use super::project::{Key, Move, Project};
use super::world::{GONE, Kind, Mem, Mid, Stage, View};

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Bug {
    /// A blank pod founds as soon as nobody has told it of data.
    NewOnSilence,
    /// A blank pod takes the identity that a list has for it.
    AdoptListed,
    /// All blank is enough to found: there is no PREPARED.
    OnePhase,
    /// An ID is adopted from a peer's local member list.
    AdoptLocal,
    /// A prepared pod founds before all are prepared.
    FoundEarly,
    /// The own member is removed on a local list's word.
    RemoveWithoutQuorum,
    /// Only the initial members are asked.
    SpanOfFounders,
    /// A WAL that has entries is archived as if it had none, because its member was not published.
    ArchiveSpoken,
    /// That a WAL never spoke is journalled after the rename.
    NoteAfterRename,
    /// "A WAL was seen" without whose.
    WalSeenWithoutId,
    /// A learner is promoted only by the process of its first exec.
    PromoterOnlyAtFirst,
    /// The second member is added as a voter.
    VoterFromOneToTwo,
    /// One round is enough, and no disk is compared.
    OneRoundNoDisks,
    /// A pod whose member was about to leave waits until a leader tells whether it has left.
    LeavingWaits,
    /// A member is added though no majority has given the list.
    AddUnconfirmed,
    /// The own member is removed though no majority has given the list.
    RemoveUnconfirmed,
    /// An abandoned learner is removed though no majority has given the list.
    AbandonedUnconfirmed,
    /// A learner that was not heard of is removed, whatever DNS has of it.
    AbandonedAtOnce,
    /// A learner that is down is promoted.
    PromotesTheDead,
    /// A prepared pod founds beside one that has lost its data.
    FoundsBesideALoss,
    /// A founder that has lost its data goes on founding where none of the others says that it has any, though a quorum may
    /// have run.
    LossWithoutMajority,
    /// The same where a majority is prepared, though others are not heard.
    LossBesideSilence,
    /// A prepared pod founds as soon as one other founder is prepared.
    OnePreparedIsEnough,
    /// The list of whoever answers counts, whether or not it has the name that was dialled.
    ForeignByAnyUrl,
    /// A member that was added and not started yet is removed again.
    Livelock,
    /// The same, unless the pod happens to have heard two peers.
    Undecided,
}

impl Bug {
    /// What the pod does with this bug instead of its next move.
    pub(crate) fn twist(self, project: &Project, key: &Key, rule: Rule, next: Move) -> Move {
        let own = Mid { pod: key.pod, seq: 0 };
        let journal = key.disk.journal.as_ref();
        let stage = journal.map(|journal| &journal.stage);
        let found = Move::Start { new: true, id: own, learner: false };
        match (self, &next) {
            (Self::NewOnSilence, Move::Wait)
                if rule == Rule::RollCall && stage == Some(&Stage::Fresh) && project.is_founder(key.pod) =>
            {
                found
            }
            (Self::AdoptListed, Move::Journal(Stage::Removing(id), _)) if stage == Some(&Stage::Fresh) => {
                Move::Start { new: false, id: *id, learner: false }
            }
            (Self::OnePhase, Move::Journal(Stage::Prepared(_), _)) => found,
            (Self::AdoptLocal, _) if matches!(stage, Some(Stage::Intent | Stage::Fresh)) && key.disk.wal.is_none() => {
                match local_own(key, false) {
                    Some(id) if journal.is_some_and(|journal| !journal.excluded.contains(&id)) => {
                        Move::Journal(Stage::Joined(id, true), Vec::new())
                    }
                    _ => next,
                }
            }
            (Self::FoundEarly, Move::Wait) if rule == Rule::RollCall && is_prepared(stage) => found,
            (Self::RemoveWithoutQuorum, Move::Wait) => match (stage, local_own(key, true)) {
                (Some(Stage::Removing(id)), Some(listed)) if listed == *id => Move::Remove(*id),
                (Some(Stage::Fresh), Some(listed)) if key.disk.wal.is_none() => {
                    Move::Journal(Stage::Removing(listed), vec![listed])
                }
                _ => next,
            },
            (Self::ArchiveSpoken, Move::Start { id, .. }) => {
                let granted = match stage {
                    Some(Stage::Prepared(_)) => *id == own,
                    Some(Stage::Joined(joined, _)) => id == joined,
                    _ => false,
                };
                let unpublished = local_own(key, false) == Some(*id);
                if key.disk.wal.is_some() && granted && unpublished { Move::Archive(Some(*id), true) } else { next }
            }
            (Self::PromoterOnlyAtFirst, Move::Start { new, id, .. }) if key.disk.wal.is_some() => {
                Move::Start { new: *new, id: *id, learner: false }
            }
            (Self::VoterFromOneToTwo, Move::Add(_)) => Move::Add(false),
            (Self::OneRoundNoDisks, Move::Wait) if rule == Rule::RollCall && key.rounds == 1 => {
                let heard = (0..project.founders).map(|pod| match key.views.get(usize::from(pod)) {
                    _ if pod == key.pod => key.disk.generation,
                    Some(Some(View::Waiting { generation, kind: Kind::Blank | Kind::Prepared(_) })) => *generation,
                    _ => GONE,
                });
                Move::Journal(Stage::Prepared(heard.collect()), Vec::new())
            }
            (Self::OneRoundNoDisks, Move::Wait) if rule == Rule::DisksChanged => found,
            (Self::LeavingWaits, Move::Start { .. })
                if key.disk.wal.is_some()
                    && rule == Rule::DataRestart
                    && journal.is_some_and(|journal| journal.leaving) =>
            {
                Move::Wait
            }
            (Self::AddUnconfirmed, Move::Wait) if rule == Rule::ListUnconfirmed && stage == Some(&Stage::Intent) => {
                let listed = newest(key).is_some_and(|list| list.iter().any(|member| member.id.pod == key.pod));
                if listed { next } else { Move::Add(true) }
            }
            (Self::RemoveUnconfirmed, Move::Wait) if rule == Rule::ListUnconfirmed => match stage {
                Some(Stage::Removing(id)) => Move::Remove(*id),
                _ => next,
            },
            (Self::AbandonedUnconfirmed, Move::Wait)
                if rule == Rule::ListUnconfirmed && stage == Some(&Stage::Intent) =>
            {
                let absent = other_learner(key).filter(|learner| key.absent & 1 << learner.id.pod != 0);
                absent.map_or(next, |learner| Move::RemoveAbandoned(learner.id))
            }
            (Self::AbandonedAtOnce, Move::Wait) if rule == Rule::JoinWaits => {
                let unheard = other_learner(key).filter(|learner| key.views[usize::from(learner.id.pod)].is_none());
                unheard.map_or(next, |learner| Move::RemoveAbandoned(learner.id))
            }
            (Self::PromotesTheDead, Move::Wait) if rule == Rule::JoinWaits => {
                let started = other_learner(key).filter(|learner| learner.published);
                started.map_or(next, |learner| Move::Promote(learner.id))
            }
            (Self::FoundsBesideALoss, Move::Wait) if rule == Rule::RollCall && is_prepared(stage) => {
                let lost_or_prepared = |view: &Option<View>| {
                    matches!(view, Some(View::Waiting { kind: Kind::Lost | Kind::Prepared(_), .. }))
                };
                let others = key.views.iter().enumerate().filter(|(pod, _)| *pod != usize::from(key.pod));
                if others.map(|(_, view)| view).all(lost_or_prepared) { found } else { next }
            }
            (Self::LossWithoutMajority, Move::Wait) if rule == Rule::LossWaits && project.is_founder(key.pod) => {
                let mut others = said_by_founders(project, key);
                let without_data =
                    |kind: Option<&Kind>| matches!(kind, Some(Kind::Blank | Kind::Prepared(_) | Kind::Lost));
                if others.all(without_data) { begin_again(key, next) } else { next }
            }
            (Self::LossBesideSilence, Move::Wait) if rule == Rule::LossWaits && project.is_founder(key.pod) => {
                let prepared =
                    said_by_founders(project, key).filter(|kind| matches!(kind, Some(Kind::Prepared(_)))).count();
                if prepared * 2 >= usize::from(project.founders) { begin_again(key, next) } else { next }
            }
            (Self::OnePreparedIsEnough, Move::Wait) if rule == Rule::RollCall && is_prepared(stage) => {
                let one = |view: &View| matches!(view, View::Waiting { kind: Kind::Prepared(_), .. });
                if key.views.iter().flatten().any(one) { found } else { next }
            }
            (Self::Livelock, Move::Start { new: false, id, .. }) if key.disk.wal.is_none() => {
                Move::Journal(Stage::Removing(*id), vec![*id])
            }
            (Self::Undecided, Move::Start { new: false, id, .. })
                if key.disk.wal.is_none() && key.views.iter().flatten().count() < 2 =>
            {
                Move::Journal(Stage::Removing(*id), vec![*id])
            }
            _ => next,
        }
    }
}

fn is_prepared(stage: Option<&Stage>) -> bool {
    matches!(stage, Some(Stage::Prepared(_)))
}

/// What the other founders have said.
fn said_by_founders<'a>(project: &Project, key: &'a Key) -> impl Iterator<Item = Option<&'a Kind>> {
    (0..project.founders).filter(|pod| *pod != key.pod).map(|pod| match key.views.get(usize::from(pod)) {
        Some(Some(View::Waiting { kind, .. })) => Some(kind),
        _ => None,
    })
}

/// What is left is put aside as if it had never spoken.
fn begin_again(key: &Key, next: Move) -> Move {
    let began = key
        .disk
        .journal
        .as_ref()
        .is_some_and(|journal| matches!(journal.stage, Stage::Fresh | Stage::Prepared(_)) && !journal.was_member);
    if began { Move::Archive(key.disk.wal.as_ref().map(|wal| wal.id), true) } else { next }
}

/// Another pod's learner in the newest list.
fn other_learner(key: &Key) -> Option<&Mem> {
    newest(key)?.iter().find(|member| member.learner && member.id.pod != key.pod)
}

/// The pod's member in a peer's local list: any, or one that has not started.
fn local_own(key: &Key, started_too: bool) -> Option<Mid> {
    key.views.iter().flatten().find_map(|view| {
        let View::Etcd { local: Some((idx, _)), .. } = view else { return None };
        let config = key.configs.get(usize::from(*idx))?.as_ref()?;
        config.iter().find(|member| member.id.pod == key.pod && (started_too || !member.published)).map(|own| own.id)
    })
}

//! What the roll call has heard: whether all said "blank" or "prepared" in two rounds, the second begun after the
//! first was complete.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::intent::Plan;
use crate::names::{DiskId, PodName};
use crate::observation::{Answer, Kind, PeerView};

/// What was heard so far. Only answers that this process fetched count, and only while nobody takes them back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Hearing {
    first: Option<Round>,
    second: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Round {
    complete: u64,
    disks: BTreeMap<PodName, DiskId>,
}

impl Hearing {
    /// The disks that were heard twice, if all were.
    pub fn heard_twice(&self) -> Option<&BTreeMap<PodName, DiskId>> {
        self.first.as_ref().filter(|_| self.second).map(|round| &round.disks)
    }

    /// What is heard once these answers are there. `others` are all pods that have to speak, without this one;
    /// `now` is the number that the next question would get.
    pub fn after(&self, others: &BTreeSet<PodName>, plan: &Plan, peers: &BTreeMap<PodName, Answer>, now: u64) -> Self {
        let Some(disks) = all_blank(others, plan, peers) else {
            return Self::default();
        };
        match &self.first {
            Some(first) if first.disks == disks => {
                let later =
                    others.iter().all(|pod| peers.get(pod).is_some_and(|answer| answer.asked >= first.complete));
                Self { first: self.first.clone(), second: self.second || later }
            }
            _ => Self { first: Some(Round { complete: now, disks }), second: others.is_empty() },
        }
    }
}

fn all_blank(
    others: &BTreeSet<PodName>,
    plan: &Plan,
    peers: &BTreeMap<PodName, Answer>,
) -> Option<BTreeMap<PodName, DiskId>> {
    let disk = |pod: &PodName| match &peers.get(pod)?.view {
        PeerView::Waiting(said) if said.plan == *plan => {
            matches!(said.kind, Kind::Blank | Kind::Prepared(_)).then(|| (pod.clone(), said.disk_id.clone()))
        }
        _ => None,
    };
    others.iter().map(disk).collect()
}

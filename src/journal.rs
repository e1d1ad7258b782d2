//! What this program has promised on this disk: one record, synced before the act that it describes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::intent::Plan;
use crate::names::{ClusterId, DiskId, MemberId, PodName};

/// The journal. Written whole each time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// This disk.
    pub disk_id: DiskId,
    /// The pod that the disk belongs to.
    pub pod: PodName,
    /// Its namespace.
    pub namespace: String,
    /// Its headless service; empty where there is none.
    pub service: String,
    /// How far a founding or a join has come.
    pub stage: Stage,
    /// IDs that this disk must never adopt: the static one, and every own one that was seen or removed.
    #[serde(default)]
    pub excluded: BTreeSet<MemberId>,
    /// An archive was begun; gone once it is synced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archiving: Option<Archiving>,
    /// The cluster that the disk was last a member of, once the stage no longer says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<ClusterId>,
    /// Data of a member was archived here: never blank again.
    #[serde(default)]
    pub was_member: bool,
    /// This member is leaving its cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<Leaving>,
    /// The ID that the data volume has as well, where there are two volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pairing_id: Option<DiskId>,
    /// A WAL of this member was seen: what PREPARED or JOINED of that ID allowed is used up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal_seen: Option<MemberId>,
    /// The etcd that was started last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdBinary>,
    /// Starts with a WAL that no leader has confirmed since.
    #[serde(default)]
    pub unconfirmed_starts: u32,
    /// `--force-new-cluster` was used.
    #[serde(default)]
    pub forced_new_cluster: bool,
}

impl Journal {
    /// The journal of a disk that was never used.
    pub fn of_new_disk(disk_id: DiskId, pod: PodName, namespace: String, service: String) -> Self {
        Self {
            disk_id,
            pod,
            namespace,
            service,
            stage: Stage::Fresh,
            excluded: BTreeSet::new(),
            archiving: None,
            cluster_id: None,
            was_member: false,
            leaving: None,
            pairing_id: None,
            wal_seen: None,
            etcd: None,
            unconfirmed_starts: 0,
            forced_new_cluster: false,
        }
    }
}

impl Journal {
    /// A new stage is entered; these IDs are never adopted from now on.
    pub fn enter(&mut self, stage: Stage, exclude: &[MemberId]) {
        if matches!(stage, Stage::Prepared { .. } | Stage::Joined { .. }) {
            self.wal_seen = None;
        }
        if matches!(stage, Stage::Joined { .. }) {
            self.leaving = None;
        }
        self.excluded.extend(exclude);
        self.stage = stage;
    }

    /// An archive begins: that its WAL never spoke is known before anything is renamed.
    pub fn archive_begun(&mut self, archiving: Archiving) {
        if archiving.never_spoke {
            self.wal_seen = None;
        }
        self.archiving = Some(archiving);
    }

    /// What was begun to be archived is put aside.
    pub fn archived(&mut self) {
        let Some(archiving) = self.archiving.take() else { return };
        self.wal_seen = None;
        // The other half went with it, or is lost: two volumes are paired anew before the next first start.
        self.pairing_id = None;
        if archiving.never_spoke {
            return;
        }
        self.was_member = true;
        self.leaving = None;
        self.cluster_id = archiving.cluster_id.or(self.stage.cluster_id()).or(self.cluster_id);
        let own = match &self.stage {
            Stage::Prepared { static_id, .. } => Some(*static_id),
            Stage::Joined { member_id, .. } | Stage::Removing { member_id, .. } => Some(*member_id),
            Stage::Fresh | Stage::Intent { .. } => None,
        };
        self.excluded.extend(archiving.member_id.into_iter().chain(own));
        self.stage = Stage::Fresh;
        self.unconfirmed_starts = 0;
    }
}

/// How far a founding or a join has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "stage")]
pub enum Stage {
    /// Nothing was promised.
    Fresh,
    /// All were heard to be blank: the founding of this plan may be finished.
    Prepared {
        /// What is founded.
        plan: Plan,
        /// This member's ID in it.
        static_id: MemberId,
        /// The disks that it was heard of, the own one included.
        disks: BTreeMap<PodName, DiskId>,
    },
    /// A member is about to be added for this pod.
    Intent {
        /// To which cluster.
        cluster_id: ClusterId,
    },
    /// A member was added for this pod.
    Joined {
        /// To which cluster.
        cluster_id: ClusterId,
        /// Its ID.
        member_id: MemberId,
        /// It was added without a vote.
        learner: bool,
    },
    /// A member of this pod is about to be removed, or was.
    Removing {
        /// From which cluster.
        cluster_id: ClusterId,
        /// Its ID, which is never started again.
        member_id: MemberId,
    },
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fresh => write!(f, "fresh"),
            Self::Prepared { static_id, .. } => write!(f, "prepared, as the member {static_id}"),
            Self::Intent { cluster_id } => write!(f, "intent, to join the cluster {cluster_id}"),
            Self::Joined { member_id, .. } => write!(f, "joined, as the member {member_id}"),
            Self::Removing { member_id, .. } => write!(f, "removing, the member {member_id}"),
        }
    }
}

impl Stage {
    /// The cluster that the stage is about.
    pub fn cluster_id(&self) -> Option<ClusterId> {
        match self {
            Self::Fresh => None,
            Self::Prepared { plan, .. } => Some(plan.cluster_id),
            Self::Intent { cluster_id } | Self::Joined { cluster_id, .. } | Self::Removing { cluster_id, .. } => {
                Some(*cluster_id)
            }
        }
    }
}

/// Data that is being renamed aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archiving {
    /// Whose data, where the WAL told.
    pub member_id: Option<MemberId>,
    /// Of which cluster.
    pub cluster_id: Option<ClusterId>,
    /// What is renamed, and to what; each pair within one volume.
    pub moves: Vec<(PathBuf, PathBuf)>,
    /// Nothing that its member said counts: the WAL had neither an entry nor a state record, so that it never voted nor
    /// acknowledged, or no quorum of its cluster ever ran. The stage in the journal holds as if it had never been there.
    pub never_spoke: bool,
}

/// A member on its way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// The member.
    pub member_id: MemberId,
    /// Its cluster.
    pub cluster_id: ClusterId,
}

/// The etcd that was started last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcdBinary {
    /// What `etcd --version` said.
    pub version: String,
    /// Which file it was: size, modification time and inode.
    pub fingerprint: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId(7);

    fn journal(stage: Stage) -> Journal {
        let journal =
            Journal::of_new_disk(DiskId::from("d"), PodName::from("etcd-0"), "ns".to_owned(), "etcd".to_owned());
        Journal {
            stage,
            wal_seen: Some(MemberId(1)),
            leaving: Some(Leaving { member_id: MemberId(1), cluster_id: CLUSTER }),
            pairing_id: Some("p".into()),
            unconfirmed_starts: 3,
            ..journal
        }
    }

    fn joined(id: u64) -> Stage {
        Stage::Joined { cluster_id: CLUSTER, member_id: MemberId(id), learner: true }
    }

    fn archiving(never_spoke: bool) -> Archiving {
        Archiving { member_id: Some(MemberId(2)), cluster_id: None, moves: vec![], never_spoke }
    }

    #[test]
    fn a_member_that_may_start_first_has_no_wal_yet_and_is_not_on_its_way_out() {
        let mut journal = journal(Stage::Fresh);
        journal.enter(Stage::Intent { cluster_id: CLUSTER }, &[MemberId(4), MemberId(5)]);
        assert!(journal.wal_seen.is_some() && journal.leaving.is_some(), "an intent starts nothing");
        journal.enter(joined(6), &[]);
        assert_eq!((journal.wal_seen, &journal.leaving, &journal.stage), (None, &None, &joined(6)));
        assert_eq!(journal.excluded, BTreeSet::from([MemberId(4), MemberId(5)]), "for good");
    }

    #[test]
    fn what_is_archived_is_never_adopted_again() {
        let mut journal = journal(joined(6));
        journal.archive_begun(archiving(false));
        assert_eq!(journal.wal_seen, Some(MemberId(1)), "until it is done");
        journal.archived();
        assert_eq!(journal.excluded, BTreeSet::from([MemberId(2), MemberId(6)]));
        assert!(journal.was_member && journal.archiving.is_none() && journal.wal_seen.is_none());
        assert_eq!((journal.cluster_id, &journal.stage), (Some(CLUSTER), &Stage::Fresh));
        assert_eq!((&journal.leaving, &journal.pairing_id, journal.unconfirmed_starts), (&None, &None, 0));
        let done = journal.clone();
        journal.archived();
        assert_eq!(journal, done, "nothing was begun");
    }

    #[test]
    fn a_wal_that_never_spoke_leaves_the_stage_as_it_was() {
        let mut journal = journal(joined(6));
        journal.archive_begun(archiving(true));
        assert_eq!(journal.wal_seen, None, "known before anything is renamed");
        journal.archived();
        assert_eq!((&journal.stage, journal.was_member, journal.pairing_id.clone()), (&joined(6), false, None));
        assert!(journal.excluded.is_empty() && journal.archiving.is_none());
    }
}

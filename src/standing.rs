//! Where this pod stands, by its disk alone, and what it tells its peers of that.

use crate::intent::{Intent, Plan};
use crate::journal::{Journal, Stage};
use crate::names::{ClusterId, DiskId, MemberId, PodName, ProcessId};
use crate::observation::{Disk, JournalFile, Kind, Pairing, Statement, Wal, WalFacts};

/// The left column of the decision table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing<'a> {
    /// A WAL that etcd can start on.
    Wal(&'a WalFacts),
    /// A WAL without an entry or a state record, of the ID that the journal allowed: it was killed within
    /// milliseconds of its first start, and that ID has neither voted nor acknowledged anything.
    Unspoken(&'a WalFacts),
    /// Evidence of a loss.
    Lost(Loss),
    /// A member's data was archived here, or the journal is torn.
    WasMember,
    /// A member was added for this pod and has never run.
    Joined(ClusterId, MemberId),
    /// A member of this pod has to go.
    Removing(ClusterId, MemberId),
    /// A member may have been added for this pod.
    Intent(ClusterId),
    /// All were heard to be blank.
    Prepared(&'a Plan, MemberId),
    /// Nothing but a disk ID.
    Blank,
}

/// What was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// In words.
    pub what: String,
    /// Something of etcd's is left, which has to be archived before anything else is written there.
    pub leftovers: bool,
    /// There is a WAL that cannot be read: exit 65 instead of 69 where a loss is refused.
    pub unreadable: bool,
}

impl Loss {
    fn of(what: impl Into<String>, disk: &Disk) -> Self {
        let unreadable = matches!(disk.wal, Wal::Unreadable { .. });
        // A broken pairing is itself something that only an archive settles.
        let leftovers = disk.db || disk.wal != Wal::Absent || disk.pairing == Pairing::Broken;
        Self { what: what.into(), leftovers, unreadable }
    }
}

impl<'a> Standing<'a> {
    /// Reads it off the disk.
    pub fn of(disk: &'a Disk) -> Self {
        let journal = match &disk.journal {
            JournalFile::Valid(journal) => Some(journal),
            _ => None,
        };
        if disk.pairing == Pairing::Broken {
            return Self::Lost(Loss::of("one of its two volumes was lost or exchanged", disk));
        }
        match &disk.wal {
            Wal::Unreadable { path, reason } => {
                Self::Lost(Loss::of(format!("its WAL cannot be read: `{}` {reason}", path.display()), disk))
            }
            Wal::Present(facts) if !facts.spoke && journal.is_some_and(|journal| allows(journal, facts.member_id)) => {
                Self::Unspoken(facts)
            }
            Wal::Present(WalFacts { missing: Some(missing), .. }) => Self::Lost(Loss::of(missing, disk)),
            Wal::Present(facts) => Self::Wal(facts),
            Wal::Absent => match journal {
                Some(journal) => Self::without_wal(journal, disk),
                None if matches!(disk.journal, JournalFile::Torn(_)) => Self::WasMember,
                None if disk.db => Self::Lost(Loss::of("it has a db but no WAL", disk)),
                None => Self::Blank,
            },
        }
    }

    fn without_wal(journal: &'a Journal, disk: &Disk) -> Self {
        let used_up = |id: MemberId| journal.wal_seen == Some(id);
        let wal_gone = || Self::Lost(Loss::of("a member ran on it, and its WAL is gone", disk));
        match &journal.stage {
            Stage::Joined { member_id, .. } if used_up(*member_id) => wal_gone(),
            Stage::Joined { cluster_id, member_id, .. } => Self::Joined(*cluster_id, *member_id),
            Stage::Removing { cluster_id, member_id } => Self::Removing(*cluster_id, *member_id),
            Stage::Intent { cluster_id } => Self::Intent(*cluster_id),
            Stage::Prepared { static_id, .. } if used_up(*static_id) => wal_gone(),
            // A plan that changed while founding: the journal's counts where a peer runs it, which the decision looks
            // at; the statement says what this pod would found now.
            Stage::Prepared { plan, static_id, .. } => Self::Prepared(plan, *static_id),
            Stage::Fresh if journal.was_member => Self::WasMember,
            Stage::Fresh if journal.wal_seen.is_some() => wal_gone(),
            Stage::Fresh if disk.db => Self::Lost(Loss::of("it has a db but no WAL", disk)),
            Stage::Fresh => Self::Blank,
        }
    }

    /// What the peers are told.
    pub fn kind(&self, intent: &Intent, disk: &Disk) -> Kind {
        let by_stage = || match &disk.journal {
            JournalFile::Valid(Journal { stage: Stage::Prepared { plan, disks, .. }, .. }) if *plan == intent.plan => {
                if intent.hold {
                    Kind::Blank
                } else {
                    Kind::Prepared(disks.clone())
                }
            }
            // Another plan needs all to be blank again.
            JournalFile::Valid(Journal { stage: Stage::Prepared { .. }, .. }) => Kind::Blank,
            _ => Kind::WasMember,
        };
        // Half archived: the WAL may be gone while the journal still says PREPARED.
        if let JournalFile::Valid(Journal { archiving: Some(archiving), .. }) = &disk.journal {
            return if archiving.never_spoke { by_stage() } else { Kind::WasMember };
        }
        match self {
            Self::Wal(WalFacts { member_id, cluster_id, term, index, .. }) => {
                Kind::Data { member_id: *member_id, cluster_id: *cluster_id, term: *term, index: *index }
            }
            Self::Lost(_) => Kind::Lost,
            Self::Blank => Kind::Blank,
            Self::Unspoken(_) | Self::Prepared(..) => by_stage(),
            Self::WasMember | Self::Joined(..) | Self::Removing(..) | Self::Intent(_) => Kind::WasMember,
        }
    }
}

/// The journal allows a first start of this ID.
fn allows(journal: &Journal, id: MemberId) -> bool {
    match &journal.stage {
        Stage::Prepared { static_id, .. } => *static_id == id,
        Stage::Joined { member_id, .. } => *member_id == id,
        _ => false,
    }
}

/// The disk's own ID, once the journal has given it one.
pub fn disk_id(disk: &Disk) -> Option<&DiskId> {
    match &disk.journal {
        JournalFile::Valid(journal) => Some(&journal.disk_id),
        _ => None,
    }
}

/// This pod's statement; none before the disk has its ID.
pub fn statement(intent: &Intent, disk: &Disk, process_id: &ProcessId) -> Option<Statement> {
    // A disk that is another pod's speaks for nobody.
    let journal = match &disk.journal {
        JournalFile::Valid(journal) if journal.pod == intent.pod => journal,
        _ => return None,
    };
    Some(Statement {
        version: Statement::VERSION,
        pod: intent.pod.clone(),
        service: intent.service.clone().unwrap_or_default(),
        namespace: intent.namespace.clone(),
        disk_id: journal.disk_id.clone(),
        process_id: process_id.clone(),
        plan: intent.plan.clone(),
        kind: Standing::of(disk).kind(intent, disk),
    })
}

/// Whether the journal is some other pod's: its name, where there is one.
pub fn belongs_to(disk: &Disk, intent: &Intent) -> Option<PodName> {
    match &disk.journal {
        JournalFile::Valid(journal) if journal.pod != intent.pod || journal.namespace != intent.namespace => {
            Some(journal.pod.clone())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;

//! The disk's own journal: the one that it is given before anything is said of it, and the one that etcd starts with.

use crate::archive;
use crate::data_dir::{self, Paths};
use crate::exit::Fatal;
use crate::intent::Intent;
use crate::journal::Journal;
use crate::journal_file;
use crate::names::DiskId;
use crate::observation::{Disk, JournalFile, Wal};
use crate::plan::Start;

/// The journal that etcd starts with.
///
/// `force_new_cluster`: the setting names this pod. It is good for one start, whatever that was, and once more when it
/// was taken out in between: a template that keeps it forces nothing beside the cluster that has come of it.
pub(super) fn journal_at_start(mut journal: Journal, start: &Start, force_new_cluster: bool) -> Journal {
    if !start.first {
        journal.unconfirmed_starts = if start.confirmed { 0 } else { journal.unconfirmed_starts.saturating_add(1) };
    }
    if start.confirmed {
        journal.leaving = None;
    }
    journal.forced_new_cluster = force_new_cluster;
    journal
}

/// A new disk gets its ID before anything is said of it; a torn journal gives way to one that never counts as blank;
/// and a WAL that was not noted yet is.
pub(super) fn give_journal(intent: &Intent, paths: &Paths, disk: &mut Disk) -> Result<(), Fatal> {
    let service = intent.service.clone().unwrap_or_default();
    let new =
        || Journal::of_new_disk(DiskId(super::random_id()), intent.pod.clone(), intent.namespace.clone(), service);
    let mut journal = match &disk.journal {
        JournalFile::Valid(journal) => journal.clone(),
        // A volume with an archive has lost the one that had the journal: it never counts as blank either.
        JournalFile::Absent => Journal { was_member: archive::has_spoken(paths)?, ..new() },
        JournalFile::Torn(reason) => {
            tracing::warn!(reason, "the journal cannot be read; this disk counts as one that was a member's");
            Journal { was_member: true, ..new() }
        }
    };
    // Another pod's disk is not written to.
    if journal.pod != intent.pod || disk.misplaced_wal.is_some() {
        return Ok(());
    }
    if let Wal::Present(facts) = &disk.wal
        && facts.spoke
    {
        journal.wal_seen = Some(facts.member_id);
    }
    let journal = JournalFile::Valid(journal);
    if journal != disk.journal {
        if let JournalFile::Valid(journal) = &journal {
            data_dir::prepare(paths)?;
            journal_file::write(&paths.journal_dir, journal)?;
        }
        disk.journal = journal;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::tests::restart;
    use crate::names::{ClusterId, MemberId, PodName};

    #[test]
    fn a_volume_with_an_archive_never_counts_as_blank() {
        let volume = tempfile::tempdir().unwrap();
        let paths = Paths::locate(volume.path(), None).unwrap();
        let was_member = || {
            let mut disk = Disk::blank();
            give_journal(&crate::intent::tests::intent(0), &paths, &mut disk).unwrap();
            matches!(disk.journal, JournalFile::Valid(journal) if journal.was_member)
        };
        assert!(!was_member());
        std::fs::create_dir_all(paths.data_home.join("archive-ca34bd7ee5f01ef6-b10a53f2a7985b45-1-unspoken")).unwrap();
        assert!(!was_member(), "its member never voted nor acknowledged");
        std::fs::create_dir_all(paths.data_home.join("archive-ca34bd7ee5f01ef6-b10a53f2a7985b45-1")).unwrap();
        assert!(was_member());
    }

    #[test]
    fn force_new_cluster_is_used_up_by_any_start_and_again_at_hand_after_one_without_it() {
        let (disk_id, pod) = (DiskId::from("d"), PodName::from("etcd-0"));
        let new = Journal::of_new_disk(disk_id, pod, "ns".to_owned(), "etcd".to_owned());
        let join = Start { first: true, learner: true, ..restart(MemberId(1), ClusterId(1)) };
        let restart = Start { confirmed: true, ..restart(MemberId(1), ClusterId(1)) };
        let joined = journal_at_start(new, &join, true);
        assert!(joined.forced_new_cluster, "a new volume of the pod that the template still names");
        let restarted = journal_at_start(joined, &restart, true);
        assert!(restarted.forced_new_cluster);
        assert!(!journal_at_start(restarted, &restart, false).forced_new_cluster);
    }
}

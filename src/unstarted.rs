//! The mark of a first start that was allowed and has not happened: a file in the place of the WAL.
//!
//! Who hands etcd a configuration file instead of becoming it cannot watch for the WAL: it ends, or it may be killed.
//! So the allowance is journalled as used up ("WAL seen") before the file is handed over, and this mark, which was put
//! where the WAL goes, takes that back for as long as it lies there. etcd removes it itself: when it makes a WAL it
//! deletes what lies at its place and renames the new one there (`wal.Create`; tried on 3.4, 3.5, 3.6 and 3.7). And
//! whoever wipes the data wipes the mark, so that a lost WAL is never taken for one that never was.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use crate::data_dir::Paths;
use crate::disk_error::{DiskError, create_dir_synced, found, sync_dir};
use crate::failpoint;
use crate::names::MemberId;

/// The mark's name; etcd only looks for `*.wal`.
const NAME: &str = "never-started";

/// Marks that this member has not started yet. On return the mark has reached the disk.
///
/// # Errors
/// Where the WAL's directory cannot be made or written.
pub fn mark(paths: &Paths, member_id: MemberId) -> Result<(), DiskError> {
    create_dir_synced(&paths.wal_dir)?;
    let (path, temporary) = (place(paths), paths.wal_dir.join(format!("{NAME}.tmp")));
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(format!("{member_id}\n").as_bytes())?;
        file.sync_all()?;
        failpoint::reach("mark-before-rename");
        fs::rename(&temporary, &path)
    };
    failpoint::reach("mark-before-write");
    write().map_err(|error| DiskError::io("write", &path, error))?;
    failpoint::reach("mark-before-dir-sync");
    sync_dir(&paths.wal_dir)
}

/// The member that is marked, if one is.
///
/// # Errors
/// Where the mark cannot be read.
pub fn read(paths: &Paths) -> Result<Option<MemberId>, DiskError> {
    let path = place(paths);
    let text = found(fs::read_to_string(&path)).map_err(|error| DiskError::io("read", &path, error))?;
    Ok(text.and_then(|text| text.trim().parse().ok()))
}

fn place(paths: &Paths) -> PathBuf {
    paths.wal_dir.join(NAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::tests::journal;
    use crate::data_dir::{self, tests::put_wal};
    use crate::journal_file;
    use crate::observation::JournalFile;

    fn wal_seen(paths: &Paths) -> Option<MemberId> {
        match data_dir::observe(paths).unwrap().journal {
            JournalFile::Valid(journal) => journal.wal_seen,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_allowance_holds_until_the_wal_takes_the_place_of_the_mark_or_both_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::locate(&dir.path().join("data"), None).unwrap();
        assert_eq!(read(&paths).unwrap(), None);
        mark(&paths, MemberId(1)).unwrap();
        mark(&paths, MemberId(7)).unwrap();
        assert_eq!(read(&paths).unwrap(), Some(MemberId(7)));
        let handed_over = crate::journal::Journal { wal_seen: Some(MemberId(7)), ..journal() };
        journal_file::write(&paths.journal_dir, &handed_over).unwrap();
        assert_eq!(wal_seen(&paths), None, "etcd has not started");
        let other = crate::journal::Journal { wal_seen: Some(MemberId(8)), ..journal() };
        journal_file::write(&paths.journal_dir, &other).unwrap();
        assert_eq!(wal_seen(&paths), Some(MemberId(8)), "the mark is of another member");
        journal_file::write(&paths.journal_dir, &handed_over).unwrap();
        put_wal(&paths.wal_dir, &crate::wal::tests::sample());
        assert_eq!(wal_seen(&paths), Some(MemberId(7)), "a WAL beside the mark goes before it");
        fs::remove_dir_all(paths.data_dir.join("member")).unwrap();
        assert_eq!(wal_seen(&paths), Some(MemberId(7)), "the WAL is lost");
    }
}

//! The journal on disk: read, checked, and replaced as a whole so that a crash leaves the old one or the new one.
//!
//! The first line has the version and a CRC-32C of the rest; the rest is JSON, for whoever has to `cat` it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::disk_error::{DiskError, create_dir_synced, found, sync_dir};
use crate::failpoint;
use crate::journal::Journal;
use crate::observation::JournalFile;

/// The journal's name in its directory.
pub const NAME: &str = "journal";
/// No record is longer, in bytes.
const SIZE_MAX: u64 = 1 << 20;
/// The form of the records, in their first line.
const VERSION: &str = "v1";

/// Reads the journal in this directory. Damage is a value; the errors are those of access.
pub fn read(dir: &Path) -> Result<JournalFile, DiskError> {
    Ok(match read_record(&dir.join(NAME), "journal")? {
        Record::Absent => JournalFile::Absent,
        Record::Valid(journal) => JournalFile::Valid(journal),
        Record::Torn(reason) => JournalFile::Torn(reason),
    })
}

/// Replaces the journal in this directory, which is created where it is missing. On return it has reached the disk.
pub fn write(dir: &Path, journal: &Journal) -> Result<(), DiskError> {
    create_dir_synced(dir)?;
    let _lock = lock(dir);
    write_record(&dir.join(NAME), "journal", journal)
}

/// Changes a valid journal while nobody else does: the children that outlive the exec write to it as well.
///
/// Returns the journal as it is now; none where there is no valid one, and then nothing is written.
pub fn update(dir: &Path, change: impl FnOnce(&mut Journal)) -> Result<Option<Journal>, DiskError> {
    let _lock = lock(dir);
    let JournalFile::Valid(before) = read(dir)? else { return Ok(None) };
    let mut journal = before.clone();
    change(&mut journal);
    if journal != before {
        write_record(&dir.join(NAME), "journal", &journal)?;
    }
    Ok(Some(journal))
}

/// Best effort: some network file systems cannot lock a directory, and two writers are rare.
fn lock(dir: &Path) -> Option<Flock<File>> {
    Flock::lock(File::open(dir).ok()?, FlockArg::LockExclusive).ok()
}

/// What a file with one record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record<T> {
    Absent,
    Valid(T),
    Torn(String),
}

/// Reads a file with one record of this kind.
pub(crate) fn read_record<T: DeserializeOwned>(path: &Path, kind: &str) -> Result<Record<T>, DiskError> {
    let fail = |error| DiskError::io("read", path, error);
    let Some(file) = found(File::open(path)).map_err(fail)? else { return Ok(Record::Absent) };
    let mut content = Vec::new();
    match file.take(SIZE_MAX + 1).read_to_end(&mut content) {
        Ok(_) => {}
        Err(error) if crate::disk_error::errno(&error) == nix::errno::Errno::EIO => {
            return Ok(Record::Torn(format!("the disk cannot read `{}` ({error})", path.display())));
        }
        Err(error) => return Err(fail(error)),
    }
    Ok(match decode(&content, kind) {
        Ok(value) => Record::Valid(value),
        Err(reason) => Record::Torn(format!("`{}` {reason}", path.display())),
    })
}

/// Replaces a file with one record: temporary file, sync, rename, sync of the directory.
pub(crate) fn write_record<T: Serialize>(path: &Path, kind: &str, value: &T) -> Result<(), DiskError> {
    let content = encode(value, kind).map_err(|error| DiskError::io("write", path, error.into()))?;
    let temporary = temporary_of(path);
    failpoint::reach("journal-before-create");
    if let Err(error) = write_temporary(&temporary, &content) {
        // So that a full volume gets its bytes back; the next write overwrites it anyway.
        let _ = fs::remove_file(&temporary);
        return Err(DiskError::io("write", &temporary, error));
    }
    failpoint::reach("journal-before-rename");
    fs::rename(&temporary, path).map_err(|error| DiskError::io("replace", path, error))?;
    failpoint::reach("journal-before-dir-sync");
    if let Some(dir) = path.parent() {
        sync_dir(dir)?;
    }
    failpoint::reach("journal-after-dir-sync");
    Ok(())
}

fn write_temporary(temporary: &Path, content: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(temporary)?;
    failpoint::reach("journal-before-write");
    file.write_all(content.as_bytes())?;
    failpoint::reach("journal-before-sync");
    file.sync_all()
}

/// The one name for a record that is being written: what a crash leaves there, the next write replaces.
fn temporary_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    path.with_file_name(name)
}

fn encode<T: Serialize>(value: &T, kind: &str) -> serde_json::Result<String> {
    let mut json = serde_json::to_string_pretty(value)?;
    json.push('\n');
    let crc = crc32c::crc32c(json.as_bytes());
    Ok(format!("etcd-bootstrap {kind} {VERSION} crc32c={crc:08x}\n{json}"))
}

fn decode<T: DeserializeOwned>(content: &[u8], kind: &str) -> Result<T, String> {
    if content.len() as u64 > SIZE_MAX {
        return Err(format!("is longer than {SIZE_MAX} bytes"));
    }
    let text = std::str::from_utf8(content).map_err(|_| "is not text".to_owned())?;
    let (head, json) = text.split_once('\n').ok_or("has no first line that ends")?;
    let mut words = head.split(' ');
    if (words.next(), words.next()) != (Some("etcd-bootstrap"), Some(kind)) {
        return Err(format!("is not a {kind} of etcd-bootstrap"));
    }
    let version = words.next().unwrap_or_default();
    if version != VERSION {
        return Err(format!("is of version `{version}`, and this program knows {VERSION} only"));
    }
    let crc = words.next().and_then(|word| word.strip_prefix("crc32c=")).unwrap_or_default();
    let computed = format!("{:08x}", crc32c::crc32c(json.as_bytes()));
    if crc != computed {
        return Err(format!("says CRC {crc}, but has {computed}"));
    }
    serde_json::from_str(json).map_err(|error| format!("is not understood: {error}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::names::{DiskId, PodName};

    fn journal(disk: &str) -> Journal {
        Journal::of_new_disk(DiskId::from(disk), PodName::from("etcd-0"), "default".to_owned(), "etcd".to_owned())
    }

    #[test]
    fn what_was_written_is_read_and_nobody_else_may() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join("a/b");
        assert_eq!(read(&own).unwrap(), JournalFile::Absent);
        write(&own, &journal("first")).unwrap();
        write(&own, &journal("second")).unwrap();
        assert_eq!(read(&own).unwrap(), JournalFile::Valid(journal("second")));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&own), mode(&own.join(NAME))), (0o700, 0o600));
        let text = fs::read_to_string(own.join(NAME)).unwrap();
        assert!(text.starts_with("etcd-bootstrap journal v1 crc32c="), "{text}");
        assert!(text.contains("\n  \"pod\": \"etcd-0\",\n"), "an operator can read it: {text}");
    }

    #[test]
    fn what_a_crash_left_is_ignored_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("journal.tmp"), "etcd-bootstrap jour").unwrap();
        assert_eq!(read(dir.path()).unwrap(), JournalFile::Absent);
        write(dir.path(), &journal("new")).unwrap();
        assert!(!dir.path().join("journal.tmp").exists());
    }

    #[test]
    fn damage_is_torn_whatever_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        write(dir.path(), &journal("disk")).unwrap();
        let whole = fs::read(&path).unwrap();
        let torn = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            match read(dir.path()).unwrap() {
                JournalFile::Torn(reason) => reason,
                other => panic!("{other:?} of {:?}", String::from_utf8_lossy(bytes)),
            }
        };
        (0..whole.len()).for_each(|length| drop(torn(&whole[..length])));
        for place in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[place] ^= 1;
            torn(&flipped);
        }
        let text = String::from_utf8(whole).unwrap();
        assert!(torn(text.replace(" v1 ", " v2 ").as_bytes()).contains("of version `v2`"));
        assert!(torn(text.replace(" journal ", " pairing ").as_bytes()).contains("not a journal"));
        assert!(torn(&vec![b' '; 2 << 20]).contains("longer than"));
        let empty = encode(&serde_json::json!({}), "journal").unwrap();
        assert!(torn(empty.as_bytes()).contains("missing field"));
    }

    #[test]
    fn an_update_changes_what_is_there_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(update(dir.path(), |_| panic!("there is none")).unwrap(), None);
        write(dir.path(), &journal("disk")).unwrap();
        let written = fs::metadata(dir.path().join(NAME)).unwrap().modified().unwrap();
        update(dir.path(), |_| ()).unwrap();
        assert_eq!(fs::metadata(dir.path().join(NAME)).unwrap().modified().unwrap(), written);
        let changed = update(dir.path(), |journal| journal.unconfirmed_starts += 1).unwrap().unwrap();
        assert_eq!((changed.unconfirmed_starts, read(dir.path()).unwrap()), (1, JournalFile::Valid(changed)));
    }

    #[test]
    fn updates_of_two_writers_are_both_kept() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &journal("disk")).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..25).for_each(|_| drop(update(dir.path(), |journal| journal.unconfirmed_starts += 1)))
                });
            }
        });
        let JournalFile::Valid(journal) = read(dir.path()).unwrap() else { panic!() };
        assert_eq!(journal.unconfirmed_starts, 100);
    }

    #[test]
    fn a_directory_in_its_place_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(NAME)).unwrap();
        let error = read(dir.path()).unwrap_err();
        assert_eq!(error.exit_code, 65);
        assert!(error.message.contains("/journal`"), "{error}");
    }
}

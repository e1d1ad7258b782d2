//! The volumes as they are found: where things lie, what lies there, and whether two volumes belong together.
//!
//! `Observer::observe` changes nothing; `prepare` and `pair` are what is written before etcd ever is.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, eaccess};
use serde::{Deserialize, Serialize};

use crate::bolt;
use crate::disk_error::{self, DiskError, Volume, found};
use crate::failpoint;
use crate::journal::Journal;
use crate::journal_file::{self, Record};
use crate::names::DiskId;
use crate::observation::{Disk, JournalFile, Pairing, Wal, WalFacts};
use crate::unstarted;
use crate::wal::{self, Content, Depth, Log, Stamp};

/// This program's directory where the WAL is on the data volume; elsewhere the WAL directory's name is added.
pub const OWN_DIR: &str = ".etcd-bootstrap";
const PAIRING: &str = "pairing";

/// Where things lie; fixed for the life of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// `--data-dir`, without symbolic links.
    pub data_dir: PathBuf,
    /// `DATA/member`, without symbolic links.
    pub member_dir: PathBuf,
    /// `--wal-dir`, else `DATA/member/wal`, without symbolic links.
    pub wal_dir: PathBuf,
    /// The topmost directory of etcd's on the volume that has the database: the data directory, or its `member`
    /// where that is another volume.
    pub root: PathBuf,
    /// Where the journal lies, and the archives of the WAL's volume: always on the WAL's volume.
    pub journal_dir: PathBuf,
    /// Where the archives of the data volume lie, and its half of the pairing.
    pub data_home: PathBuf,
    /// The WAL directory as it is set, if that is a symbolic link.
    wal_link: Option<PathBuf>,
}

impl Paths {
    /// Finds out where things lie, and refuses (78) what etcd could not live with.
    pub fn locate(data_dir: &Path, wal_dir: Option<&Path>) -> Result<Self, DiskError> {
        let data_dir = disk_error::real_path(data_dir)?;
        let member_dir = disk_error::real_path(&data_dir.join("member"))?;
        let wal_as_set = wal_dir.map_or_else(|| member_dir.join("wal"), Path::to_path_buf);
        let wal_dir = disk_error::real_path(&wal_as_set)?;
        let data_volume = Volume::of(&data_dir)?;
        let member_is_inside = member_dir.starts_with(&data_dir) && Volume::of(&member_dir)? == data_volume;
        let root = if member_is_inside { data_dir.clone() } else { member_dir.clone() };
        let data_home = root.join(OWN_DIR);
        let beside_data = wal_dir.starts_with(&root) && Volume::of(&wal_dir)? == Volume::of(&root)?;
        let journal_dir = match (beside_data, wal_dir.parent(), wal_dir.file_name().and_then(|name| name.to_str())) {
            (true, ..) => data_home.clone(),
            (false, Some(parent), Some(name)) => parent.join(format!("{OWN_DIR}-{name}")),
            _ => return Err(deletes(&wal_dir, "the whole file system")),
        };
        let wal_link = fs::symlink_metadata(&wal_as_set).is_ok_and(|found| found.is_symlink()).then_some(wal_as_set);
        let paths = Self { data_dir, member_dir, wal_dir, root, journal_dir, data_home, wal_link };
        paths.refuse_wal_dir()?;
        Ok(paths)
    }

    /// When it makes a WAL, etcd deletes whatever lies in its directory, and renames another one into its place.
    fn refuse_wal_dir(&self) -> Result<(), DiskError> {
        if self.db().starts_with(&self.wal_dir) {
            return Err(deletes(&self.wal_dir, "the data directory"));
        }
        if self.journal_dir.starts_with(&self.wal_dir) || self.wal_dir.starts_with(&self.data_home) {
            return Err(deletes(&self.wal_dir, "this program's journal"));
        }
        if disk_error::is_mount_root(&self.wal_dir)? {
            let dir = self.wal_dir.display();
            return Err(DiskError::configuration(
                format!(
                    "the WAL directory `{dir}` is a mount point: etcd would delete what is on that volume, and could not start"
                ),
                format!("use a directory below it: --wal-dir={dir}/wal"),
            ));
        }
        Ok(())
    }

    /// etcd's database.
    pub fn db(&self) -> PathBuf {
        self.member_dir.join("snap").join("db")
    }

    /// WAL and database are on two volumes, of which one can be lost.
    pub fn are_two_volumes(&self) -> bool {
        self.journal_dir != self.data_home
    }

    /// Whether the data volume is still there, as far as that can be told beside a running etcd.
    pub fn has_data_volume(&self) -> Result<bool, DiskError> {
        Ok(!self.are_two_volumes() || disk_error::exists(&self.pairing_file())?)
    }

    fn pairing_file(&self) -> PathBuf {
        self.data_home.join(PAIRING)
    }
}

fn deletes(wal_dir: &Path, what: &str) -> DiskError {
    DiskError::configuration(
        format!(
            "the WAL directory `{}` holds {what}, which etcd would delete when it makes its WAL",
            wal_dir.display()
        ),
        "give --wal-dir a directory of its own",
    )
}

/// The data volume's half of a pairing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PairingRecord {
    /// The same as in the journal.
    id: DiskId,
    /// The journal's disk: tells a pairing that a crash interrupted from a lost WAL volume.
    disk_id: DiskId,
    /// Where the WAL was, so that a changed `--wal-dir` is told from a lost volume.
    wal_dir: PathBuf,
}

/// Looks at the volumes once.
pub fn observe(paths: &Paths) -> Result<Disk, DiskError> {
    Observer::new(paths.clone()).observe()
}

/// Looks at the volumes again and again, and reads the WAL only where it has changed.
#[derive(Debug)]
pub struct Observer {
    /// Where things lie.
    pub paths: Paths,
    read: Option<(Stamp, Log)>,
}

impl Observer {
    /// One that has not looked yet.
    pub fn new(paths: Paths) -> Self {
        Self { paths, read: None }
    }

    /// Looks at the volumes, and changes nothing.
    pub fn observe(&mut self) -> Result<Disk, DiskError> {
        let paths = &self.paths;
        let stamp = wal::stamp(&paths.wal_dir)?;
        let log = match self.read.take() {
            Some((before, log)) if before == stamp && !stamp.is_empty() => log,
            _ => wal::read(&paths.wal_dir, depth(paths, &stamp)?)?,
        };
        self.read = Some((stamp, log.clone()));
        disk_of(paths, log)
    }
}

/// All of the WAL is read where the last etcd may have died of it: where no leader has confirmed its start, or where
/// it never wrote to its WAL after this program had written to the journal.
fn depth(paths: &Paths, stamp: &Stamp) -> Result<Depth, DiskError> {
    let JournalFile::Valid(journal) = journal_file::read(&paths.journal_dir)? else { return Ok(Depth::Ends) };
    let written = fs::metadata(paths.journal_dir.join(journal_file::NAME)).and_then(|facts| facts.modified()).ok();
    let logged = stamp.last().and_then(|(_, _, modified)| *modified);
    let suspicious = journal.unconfirmed_starts > 0 || (written.is_some() && logged <= written);
    Ok(if suspicious { Depth::All } else { Depth::Ends })
}

fn disk_of(paths: &Paths, log: Log) -> Result<Disk, DiskError> {
    let db_file = paths.db();
    let db = found(fs::metadata(&db_file)).map_err(|error| DiskError::io("look at", &db_file, error))?.is_some()
        && !(log == Log::Absent && is_unused(paths)?);
    let mut journal = journal_file::read(&paths.journal_dir)?;
    if log == Log::Absent {
        take_back_unused(paths, &mut journal)?;
    }
    let pairing = journal_file::read_record::<PairingRecord>(&paths.pairing_file(), PAIRING)?;
    let misplaced_wal = if log == Log::Absent { misplaced_wal(paths, &pairing)? } else { None };
    if log == Log::Absent {
        refuse_link(paths)?;
    }
    if journal == JournalFile::Absent && misplaced_wal.is_none() {
        refuse_moved(paths, &pairing)?;
    }
    let wal = match log {
        Log::Absent => Wal::Absent,
        Log::Unreadable { path, reason } => Wal::Unreadable { path, reason },
        Log::Present(content) => Wal::Present(WalFacts {
            missing: missing(paths, &content, db, &journal)?,
            member_id: content.member_id,
            cluster_id: content.cluster_id,
            term: content.entry_term,
            index: content.index,
            commit: content.commit,
            spoke: content.spoke,
        }),
    };
    Ok(Disk { wal, db, pairing: judge(&journal, &pairing), journal, misplaced_wal })
}

/// What an etcd leaves that ended before it had a WAL, as it does where it cannot find its cluster: a database without a
/// word in it, and no snapshot. Such a disk is as good as empty.
fn is_unused(paths: &Paths) -> Result<bool, DiskError> {
    let database = bolt::read(&paths.db()).ok().flatten();
    let snap_dir = paths.member_dir.join("snap");
    Ok(database.is_some_and(|database| !database.used)
        && !has_file(&snap_dir, ".snap")?
        && !has_file(&snap_dir, ".snap.db")?)
}

/// The start that the journal has as used up has not happened: its mark still lies in the place of the WAL.
fn take_back_unused(paths: &Paths, journal: &mut JournalFile) -> Result<(), DiskError> {
    if let JournalFile::Valid(journal) = journal
        && journal.wal_seen.is_some()
        && unstarted::read(paths)? == journal.wal_seen
    {
        journal.wal_seen = None;
    }
    Ok(())
}

/// A WAL in another place where etcd may have written one: the default one, one that is commonly set, and the one
/// that the pairing names.
fn misplaced_wal(paths: &Paths, pairing: &Record<PairingRecord>) -> Result<Option<PathBuf>, DiskError> {
    let mut places = vec![paths.member_dir.join("wal"), paths.data_dir.join("wal")];
    if let Record::Valid(pairing) = pairing {
        places.push(pairing.wal_dir.clone());
    }
    for place in places {
        if disk_error::real_path(&place)? != paths.wal_dir && wal::exists(&place)? {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

fn refuse_link(paths: &Paths) -> Result<(), DiskError> {
    let Some(link) = &paths.wal_link else { return Ok(()) };
    Err(DiskError::configuration(
        format!(
            "the WAL directory `{}` is a symbolic link to `{}`, which has no WAL: etcd would replace the link by a directory",
            link.display(),
            paths.wal_dir.display()
        ),
        format!("set --wal-dir={}", paths.wal_dir.display()),
    ))
}

/// The journal of this member lies where other settings would look for it: not a new disk, and not a lost one.
fn refuse_moved(paths: &Paths, pairing: &Record<PairingRecord>) -> Result<(), DiskError> {
    let hint = "set --wal-dir back to what it was, or stop the pod and move WAL and journal to where it points now";
    if let Record::Valid(pairing) = pairing
        && disk_error::real_path(&pairing.wal_dir)? != paths.wal_dir
    {
        let (old, new) = (pairing.wal_dir.display(), paths.wal_dir.display());
        let message =
            format!("the data in `{}` had its WAL in `{old}`, but the settings say `{new}`", paths.root.display());
        return Err(DiskError::configuration(message, hint));
    }
    let other = paths.data_home.join(journal_file::NAME);
    if paths.are_two_volumes() && fs::exists(&other).map_err(|error| DiskError::io("look at", &other, error))? {
        let message = format!(
            "the journal of this member is `{}`, but with the WAL in `{}` it belongs into `{}`",
            other.display(),
            paths.wal_dir.display(),
            paths.journal_dir.display()
        );
        return Err(DiskError::configuration(message, hint));
    }
    Ok(())
}

/// Says what etcd would need beside this WAL and not find.
fn missing(paths: &Paths, content: &Content, db: bool, journal: &JournalFile) -> Result<Option<String>, DiskError> {
    let snap_dir = paths.member_dir.join("snap");
    // The first segments are thrown away once a snapshot has what was in them.
    let purged = content.segments.first().is_some_and(|segment| segment.first_index > 0);
    if !db {
        // A snapshot that a leader sent, which etcd renames to `db` when it starts.
        if has_file(&snap_dir, ".snap.db")? {
            return Ok(None);
        }
        let snapshot = wal::last_snapshot(content)?;
        let gone = paths.db();
        return Ok(match snapshot {
            Some((index, _)) => {
                Some(format!("the WAL has a snapshot at index {index}, and `{}` is gone", gone.display()))
            }
            None if purged => {
                Some(format!("the beginning of the WAL was thrown away, and `{}` is gone", gone.display()))
            }
            None => None,
        });
    }
    if purged && needs_snap_files(journal) && !has_file(&snap_dir, ".snap")? {
        return Ok(Some(format!(
            "the beginning of the WAL was thrown away, and all `{}/*.snap` are gone",
            snap_dir.display()
        )));
    }
    Ok(None)
}

/// etcd up to 3.6 cannot start on a WAL whose beginning was thrown away without a `.snap` file; 3.7 can.
fn needs_snap_files(journal: &JournalFile) -> bool {
    let JournalFile::Valid(Journal { etcd: Some(etcd), .. }) = journal else { return false };
    let mut numbers = etcd.version.split('.').map(|part| part.parse::<u32>().ok());
    matches!((numbers.next().flatten(), numbers.next().flatten()), (Some(3), Some(minor)) if minor <= 6)
}

fn has_file(dir: &Path, ending: &str) -> Result<bool, DiskError> {
    let fail = |error| DiskError::io("read the directory", dir, error);
    let Some(entries) = found(fs::read_dir(dir)).map_err(fail)? else { return Ok(false) };
    for entry in entries {
        if entry.map_err(fail)?.file_name().to_string_lossy().ends_with(ending) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the two halves belong together.
///
/// The data volume's half is written and synced first, then the journal's; both before the first exec. So after a
/// crash: neither half is there (nothing was paired); or only the data volume's, and it names the journal's disk
/// (nothing was paired either, and pairing starts anew); or both. A half on the journal's side alone is a loss.
fn judge(journal: &JournalFile, data: &Record<PairingRecord>) -> Pairing {
    let journal = match journal {
        JournalFile::Valid(journal) => Some(journal),
        JournalFile::Absent => None,
        // Nothing can be compared, and a torn journal is judged for itself.
        JournalFile::Torn(_) => return Pairing::NotNeeded,
    };
    let ours = journal.and_then(|journal| journal.pairing_id.as_ref());
    match (ours, data) {
        (None, Record::Absent) => Pairing::NotNeeded,
        (None, Record::Valid(half)) if journal.is_some_and(|journal| journal.disk_id == half.disk_id) => {
            Pairing::NotNeeded
        }
        (Some(ours), Record::Valid(half)) if *ours == half.id => Pairing::Matches,
        _ => Pairing::Broken,
    }
}

/// Pairs two volumes where that has to be and was not done: writes the data volume's half and puts its ID into the
/// journal, **which the caller then writes**, before the exec. True where the journal has changed.
pub fn pair(paths: &Paths, journal: &mut Journal) -> Result<bool, DiskError> {
    if !paths.are_two_volumes() || journal.pairing_id.is_some() {
        return Ok(false);
    }
    let id = DiskId(format!("{:016x}", rand::random::<u64>()));
    let half = PairingRecord { id: id.clone(), disk_id: journal.disk_id.clone(), wal_dir: paths.wal_dir.clone() };
    disk_error::create_dir_synced(&paths.data_home)?;
    failpoint::reach("pairing-before-data-half");
    journal_file::write_record(&paths.pairing_file(), PAIRING, &half)?;
    failpoint::reach("pairing-before-journal-half");
    journal.pairing_id = Some(id);
    Ok(true)
}

/// Checks that this user may write wherever this program and etcd will, as far as that exists.
pub fn check_writable(paths: &Paths) -> Result<(), DiskError> {
    let wal_parent = paths.wal_dir.parent().unwrap_or(&paths.wal_dir);
    let snap_dir = paths.member_dir.join("snap");
    let dirs = [
        &paths.data_dir,
        &paths.member_dir,
        &snap_dir,
        wal_parent,
        &paths.wal_dir,
        &paths.data_home,
        &paths.journal_dir,
    ];
    for dir in dirs {
        let Some(place) = dir.ancestors().find(|place| place.exists()) else { continue };
        if !place.is_dir() {
            let error = std::io::Error::from_raw_os_error(nix::errno::Errno::ENOTDIR as i32);
            return Err(DiskError::io("use the directory", place, error));
        }
        eaccess(place, AccessFlags::W_OK | AccessFlags::X_OK)
            .map_err(|errno| DiskError::io("write to", place, errno.into()))?;
    }
    Ok(())
}

/// Makes the volumes ready to be written: checks them, and creates what has to be there before the journal is.
pub fn prepare(paths: &Paths) -> Result<(), DiskError> {
    check_writable(paths)?;
    for dir in [&paths.data_dir, &paths.journal_dir] {
        disk_error::create_dir_synced(dir)?;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;

//! Renaming a member's data aside: planned, done so that a crash can be finished, and the older generation dropped
//! once the new one is safe. Nothing else deletes data.
//!
//! A generation is a directory `archive-CLUSTER-MEMBER-N` beside the journal, and one of the same name on the data
//! volume where that is another one. To bring it back: stop the pod and rename its contents to where they were.
//!
//! The order, of which the caller does the journal's part: `begin`; write the journal; `finish`; write the
//! journal; `prune`. A boot that finds `archiving` in the journal goes on at `finish`.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use crate::data_dir::{OWN_DIR, Paths};
use crate::disk_error::{DiskError, create_dir_synced, exists, found, sync_dir};
use crate::failpoint;
use crate::journal::Archiving;
use crate::names::{ClusterId, MemberId};

const PREFIX: &str = "archive-";
/// Nothing that was archived ever counted: it does not displace a generation that did.
const UNSPOKEN: &str = "-unspoken";

/// Plans an archive of everything of etcd's on the volumes; changes nothing. Fails where a rename could not do it.
pub fn begin(
    paths: &Paths,
    member_id: Option<MemberId>,
    cluster_id: Option<ClusterId>,
    never_spoke: bool,
) -> Result<Archiving, DiskError> {
    let name = next_name(paths, member_id, cluster_id, never_spoke)?;
    let on_data = paths.data_home.join(&name);
    let mut moves = Vec::new();
    if paths.root == paths.member_dir {
        // A mount root cannot be renamed, its contents can.
        for child in children(&paths.member_dir)? {
            moves.push((paths.member_dir.join(&child), on_data.join("member").join(&child)));
        }
    } else if exists(&paths.member_dir)? {
        moves.push((paths.member_dir.clone(), on_data.join("member")));
    }
    if !moves.iter().any(|(from, _)| paths.wal_dir.starts_with(from)) && exists(&paths.wal_dir)? {
        moves.push((paths.wal_dir.clone(), paths.journal_dir.join(&name).join("wal")));
    }
    let pairing = paths.data_home.join("pairing");
    if exists(&pairing)? {
        moves.push((pairing, on_data.join("pairing")));
    }
    refuse_mounts_below(&moves)?;
    Ok(Archiving { member_id, cluster_id, moves, never_spoke })
}

/// Does what is left to do of an archive. On return every rename has reached the disk.
pub fn finish(archiving: &Archiving) -> Result<(), DiskError> {
    for (from, to) in &archiving.moves {
        failpoint::reach("archive-before-move");
        finish_move(from, to)?;
        failpoint::reach("archive-after-move");
    }
    for (from, to) in &archiving.moves {
        for dir in [to.parent(), from.parent()].into_iter().flatten().filter(|dir| dir.is_dir()) {
            sync_dir(dir)?;
        }
    }
    failpoint::reach("archive-after-sync");
    Ok(())
}

fn finish_move(from: &Path, to: &Path) -> Result<(), DiskError> {
    if !exists(from)? {
        return Ok(());
    }
    if exists(to)? {
        // Only somebody else can have made it anew since: what it is, they have to say.
        return Err(DiskError::unusable(
            format!("`{}` was archived to `{}`, and is there again", from.display(), to.display()),
            format!("something else writes to this volume: find out what, and move `{}` away", from.display()),
        ));
    }
    if let Some(dir) = to.parent() {
        create_dir_synced(dir)?;
    }
    failpoint::reach("archive-before-rename");
    fs::rename(from, to).map_err(|error| DiskError::io("archive", from, error))?;
    failpoint::reach("archive-after-rename");
    Ok(())
}

/// Deletes older generations, once the journal says that this archive is done. Returns what was deleted.
pub fn prune(paths: &Paths, archived: &Archiving) -> Result<Vec<PathBuf>, DiskError> {
    let keep: Vec<&OsStr> = archived.moves.iter().filter_map(|(_, to)| generation_of(to)).collect();
    let safe = archived.moves.iter().any(|(_, to)| to.exists());
    let mut deleted = Vec::new();
    if !safe {
        return Ok(deleted);
    }
    for (home, name) in generations(paths)? {
        let displaced = !archived.never_spoke || name.ends_with(UNSPOKEN);
        if !displaced || keep.contains(&OsStr::new(&name)) {
            continue;
        }
        let old = home.join(name);
        failpoint::reach("archive-before-prune");
        fs::remove_dir_all(&old).map_err(|error| DiskError::io("delete the old archive", &old, error))?;
        failpoint::reach("archive-after-prune");
        deleted.push(old);
    }
    Ok(deleted)
}

/// Every archive that is kept.
pub fn all(paths: &Paths) -> Result<Vec<PathBuf>, DiskError> {
    Ok(generations(paths)?.into_iter().map(|(home, name)| home.join(name)).collect())
}

/// A member's data was put aside here that had voted or acknowledged.
pub fn has_spoken(paths: &Paths) -> Result<bool, DiskError> {
    Ok(generations(paths)?.iter().any(|(_, name)| !name.ends_with(UNSPOKEN)))
}

/// Where archives lie: beside the journal, and on the data volume.
fn homes(paths: &Paths) -> Vec<&Path> {
    let mut homes = vec![paths.journal_dir.as_path(), paths.data_home.as_path()];
    homes.dedup();
    homes
}

fn generations(paths: &Paths) -> Result<Vec<(PathBuf, String)>, DiskError> {
    let mut generations = Vec::new();
    for home in homes(paths) {
        let names = children_of(home)?.into_iter().filter_map(|name| name.into_string().ok());
        let archives = names.filter(|name| number_of(name).is_some());
        generations.extend(archives.map(|name| (home.to_owned(), name)));
    }
    Ok(generations)
}

fn generation_of(to: &Path) -> Option<&OsStr> {
    to.ancestors().filter_map(Path::file_name).find(|name| name.to_str().is_some_and(|name| number_of(name).is_some()))
}

/// N of `archive-CLUSTER-MEMBER-N`.
fn number_of(name: &str) -> Option<u64> {
    let parts: Vec<&str> = name.strip_prefix(PREFIX)?.trim_end_matches(UNSPOKEN).split('-').collect();
    let [_cluster, _member, number] = parts[..] else { return None };
    number.parse().ok()
}

fn next_name(
    paths: &Paths,
    member_id: Option<MemberId>,
    cluster_id: Option<ClusterId>,
    never_spoke: bool,
) -> Result<String, DiskError> {
    let last = generations(paths)?.iter().filter_map(|(_, name)| number_of(name)).max().unwrap_or(0);
    let (cluster, member) = (or_unknown(cluster_id), or_unknown(member_id));
    let suffix = if never_spoke { UNSPOKEN } else { "" };
    Ok(format!("{PREFIX}{cluster}-{member}-{}{suffix}", last.saturating_add(1)))
}

fn or_unknown(id: Option<impl Display>) -> String {
    id.map_or_else(|| "unknown".to_owned(), |id| id.to_string())
}

/// What etcd has in a directory that is a mount root.
fn children(dir: &Path) -> Result<Vec<std::ffi::OsString>, DiskError> {
    let ours = |name: &OsStr| name == "lost+found" || name.to_string_lossy().starts_with(OWN_DIR);
    Ok(children_of(dir)?.into_iter().filter(|name| !ours(name)).collect())
}

fn children_of(dir: &Path) -> Result<Vec<std::ffi::OsString>, DiskError> {
    let fail = |error| DiskError::io("read the directory", dir, error);
    let Some(entries) = found(fs::read_dir(dir)).map_err(fail)? else { return Ok(Vec::new()) };
    let mut names = entries.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>, _>>().map_err(fail)?;
    names.sort();
    Ok(names)
}

/// A rename would take a volume that is mounted below along, and etcd would not find it at its place again.
fn refuse_mounts_below(moves: &[(PathBuf, PathBuf)]) -> Result<(), DiskError> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts: Vec<PathBuf> =
        table.lines().filter_map(|line| line.split(' ').nth(4)).map(|text| PathBuf::from(unescape(text))).collect();
    for (from, _) in moves {
        if let Some(mount) = mounts.iter().find(|mount| mount.starts_with(from)) {
            return Err(DiskError::configuration(
                format!("`{}` cannot be archived: a volume is mounted at `{}`", from.display(), mount.display()),
                "mount the volumes at the data directory and above the WAL directory; or archive by hand",
            ));
        }
    }
    Ok(())
}

/// Undoes the octal escapes of the mount table: blank, tab, newline and backslash.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests;

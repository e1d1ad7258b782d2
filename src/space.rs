//! What `check` looks at on the volumes beside what a decision needs: the room that is left, how long they are kept,
//! and what was put aside.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use crate::archive;
use crate::checks::{Kept, Problem, Space, Volumes};
use crate::data_dir::{self, Paths};
use crate::disk_error::{DiskError, Volume};

/// Looks at the volumes; what cannot be looked at is a problem of theirs.
pub fn volumes(paths: &Paths) -> Volumes {
    let problem = data_dir::check_writable(paths).err().map(Problem::from);
    let mut volumes: Vec<(Volume, PathBuf)> = Vec::new();
    for place in [&paths.root, &paths.wal_dir] {
        if let Ok(volume) = Volume::of(place)
            && !volumes.iter().any(|(known, _)| *known == volume)
        {
            volumes.push((volume, place.clone()));
        }
    }
    let spaces = volumes.into_iter().filter_map(|(volume, place)| space(volume, place)).collect();
    let archives = archive::all(paths).unwrap_or_default();
    let archives: BTreeMap<PathBuf, u64> = archives.into_iter().map(|path| (path.clone(), size(&path))).collect();
    Volumes { problem, spaces, archives }
}

fn space(volume: Volume, path: PathBuf) -> Option<Space> {
    let existing = path.ancestors().find(|place| place.exists())?;
    let facts = statfs(existing).ok()?;
    let kept = match Volume::of(Path::new("/")) {
        Ok(root) if root == volume => Kept::WithContainer,
        _ if facts.filesystem_type() == TMPFS_MAGIC => Kept::InMemory,
        _ => Kept::Mounted,
    };
    let free_bytes = facts.blocks_available().saturating_mul(u64::try_from(facts.block_size()).unwrap_or_default());
    Some(Space { path, free_bytes, kept })
}

/// The bytes in the files of a directory; what cannot be read counts as nothing.
fn size(path: &Path) -> u64 {
    let Ok(facts) = fs::symlink_metadata(path) else { return 0 };
    if !facts.is_dir() {
        return facts.len();
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| size(&entry.path())).sum()
}

impl From<DiskError> for Problem {
    fn from(error: DiskError) -> Self {
        let cause = error.source.as_ref().map(|source| format!(": {source}")).unwrap_or_default();
        Self { exit_code: error.exit_code, message: format!("{}{cause}", error.message), hint: error.hint }
    }
}

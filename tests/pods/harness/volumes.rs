//! The volumes of a pod: directories of the host that outlive containers and pods.

use std::fs;
use std::path::{Path, PathBuf};

use super::tools;

/// A copy of a volume at one moment.
pub struct SavedVolume {
    pub mount_point: String,
    pub dir: PathBuf,
}

/// Where a pod's volume lies on the host.
pub fn directory(pod_dir: &Path, mount_point: &str) -> PathBuf {
    let name = mount_point.trim_matches('/').replace('/', "_");
    pod_dir.join("volumes").join(name)
}

/// Removes what is in the directory, not the directory: it may be mounted.
pub fn wipe(dir: &Path) {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    for entry in entries.flatten() {
        let path = entry.path();
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.unwrap_or_else(|e| panic!("failed to remove {}: {e}", path.display()));
    }
}

/// Copies all of `from` into `to`, which is created; holes stay holes.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap_or_else(|e| panic!("{}: {e}", to.display()));
    let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
    tools::run(&["cp", "-aT", "--sparse=always", &from, &to]).expect("failed to copy a volume");
}

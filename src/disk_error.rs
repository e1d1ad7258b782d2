//! What can go wrong on a volume, in words for an operator, and the few file operations that have to last.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::failpoint;

/// The exit code for data or a volume that cannot be used (`EX_DATAERR`).
pub const EXIT_UNUSABLE: u8 = 65;
/// The exit code for a setting that cannot work (`EX_CONFIG`).
pub const EXIT_CONFIGURATION: u8 = 78;

/// A volume that cannot be read or written as it has to be.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct DiskError {
    /// The exit code: 65 where the disk is at fault, 78 where a setting is.
    pub exit_code: u8,
    /// What was tried and where; without the text of `source`.
    pub message: String,
    /// What an operator can do about it.
    pub hint: String,
    /// What the system said, where it said something.
    pub source: Option<io::Error>,
}

impl DiskError {
    /// A setting that cannot work.
    pub fn configuration(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit_code: EXIT_CONFIGURATION, message: message.into(), hint: hint.into(), source: None }
    }

    /// Something on the disk that cannot be used.
    pub fn unusable(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit_code: EXIT_UNUSABLE, message: message.into(), hint: hint.into(), source: None }
    }

    /// A call that failed; `doing` completes "failed to … `PATH`".
    pub fn io(doing: &str, path: &Path, source: io::Error) -> Self {
        let mut message = format!("failed to {doing} `{}`", path.display());
        let (exit_code, hint) = match errno(&source) {
            Errno::EACCES | Errno::EPERM => {
                message.push_str(&format!(": {}", who_may(path)));
                (
                    EXIT_CONFIGURATION,
                    "set securityContext.fsGroup (or runAsUser) so that this user may use the volume, or chown it",
                )
            }
            Errno::EROFS => (
                EXIT_UNUSABLE,
                "the volume is mounted read-only: look for readOnly in the pod's volumes, and for I/O errors in the node's log",
            ),
            Errno::ENOSPC | Errno::EDQUOT => (
                EXIT_UNUSABLE,
                "the volume is full: enlarge its claim, or delete an archive in `.etcd-bootstrap` that is no longer wanted",
            ),
            Errno::ENOTDIR => {
                (EXIT_CONFIGURATION, "a file lies where a directory should be: check --data-dir and --wal-dir")
            }
            Errno::EISDIR => (EXIT_UNUSABLE, "a directory lies where a file should be: move it away"),
            Errno::EXDEV | Errno::EBUSY => (
                EXIT_CONFIGURATION,
                "a mount point lies in the way: mount the volume at the data directory or above it",
            ),
            Errno::ELOOP => (EXIT_CONFIGURATION, "the symbolic links lead nowhere: give the real path"),
            _ => (EXIT_UNUSABLE, "look at the node's log and at the volume"),
        };
        Self { exit_code, message, hint: hint.to_owned(), source: Some(source) }
    }
}

/// The error number of a failed call; 0 where it has none.
pub fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

/// Who this process is, and whose the nearest directory or file is that exists and can be looked at.
fn who_may(path: &Path) -> String {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let owner = path.ancestors().find_map(|place| Some((place, fs::metadata(place).ok()?)));
    let Some((place, found)) = owner else { return format!("this process is user {uid}, group {gid}") };
    let (owner, group, mode) = (found.uid(), found.gid(), found.mode() & 0o7777);
    format!("this process is user {uid}, group {gid}; `{}` is of {owner}:{group}, mode {mode:04o}", place.display())
}

/// What there is, or nothing.
pub fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether something lies there, a symbolic link included.
pub fn exists(path: &Path) -> Result<bool, DiskError> {
    let facts = found(fs::symlink_metadata(path)).map_err(|error| DiskError::io("look at", path, error))?;
    Ok(facts.is_some())
}

/// Makes a rename, a new file or a removal in a directory last.
pub fn sync_dir(dir: &Path) -> Result<(), DiskError> {
    let open = File::open(dir).and_then(|dir| dir.sync_all());
    match open {
        // Some network file systems cannot sync a directory; etcd lives with that too.
        Err(error) if errno(&error) == Errno::EINVAL => Ok(()),
        other => other.map_err(|error| DiskError::io("sync the directory", dir, error)),
    }
}

/// Creates a directory and its parents where they are missing, with mode 0700, and makes them last.
pub fn create_dir_synced(dir: &Path) -> Result<(), DiskError> {
    let missing: Vec<&Path> = dir
        .ancestors()
        .take_while(|place| fs::metadata(place).is_err_and(|e| e.kind() == io::ErrorKind::NotFound))
        .collect();
    for place in missing.into_iter().rev() {
        match fs::DirBuilder::new().mode(0o700).create(place) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(DiskError::io("create the directory", place, error));
            }
            _ => {}
        }
        failpoint::reach("dir-before-sync");
        if let Some(parent) = place.parent() {
            sync_dir(parent)?;
        }
    }
    if !fs::metadata(dir).map_err(|error| DiskError::io("look at", dir, error))?.is_dir() {
        return Err(DiskError::io("use the directory", dir, io::Error::from_raw_os_error(Errno::ENOTDIR as i32)));
    }
    Ok(())
}

/// Which file system a place is on, as far as a rename and a lost volume are concerned.
///
/// The device alone does not tell: two hostPath or local volumes are often two bind mounts of one file system, and
/// a rename between them fails all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    device: u64,
    mount: Option<u64>,
}

impl Volume {
    /// The volume of a directory or file; where it does not exist yet, of the nearest parent that does.
    pub fn of(path: &Path) -> Result<Self, DiskError> {
        for place in path.ancestors() {
            match found(Self::of_existing(place)) {
                Ok(Some(volume)) => return Ok(volume),
                Ok(None) => {}
                Err(error) => return Err(DiskError::io("look at", place, error)),
            }
        }
        Err(DiskError::configuration(format!("`{}` is not an absolute path", path.display()), "give an absolute path"))
    }

    fn of_existing(path: &Path) -> io::Result<Self> {
        use std::os::fd::AsRawFd;
        use std::os::unix::fs::OpenOptionsExt;

        let flags = nix::fcntl::OFlag::O_PATH.bits();
        let handle = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let device = handle.metadata()?.dev();
        // Without /proc the device has to do.
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", handle.as_raw_fd())).unwrap_or_default();
        let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
        Ok(Self { device, mount })
    }
}

/// Whether a file system is mounted right here. What does not exist is no mount root.
pub fn is_mount_root(dir: &Path) -> Result<bool, DiskError> {
    let pair = Volume::of_existing(dir).and_then(|own| Ok((own, Volume::of_existing(&dir.join(".."))?)));
    match found(pair) {
        Ok(Some((own, above))) => Ok(own != above || dir == Path::new("/")),
        Ok(None) => Ok(false),
        Err(error) => Err(DiskError::io("look at", dir, error)),
    }
}

/// The real path: symbolic links resolved as far as the path exists, `.` and `..` gone.
pub fn real_path(path: &Path) -> Result<PathBuf, DiskError> {
    let fail = |error| DiskError::io("resolve", path, error);
    let absolute = std::path::absolute(path).map_err(fail)?;
    for place in absolute.ancestors() {
        if let Some(real) = found(fs::canonicalize(place)).map_err(fail)? {
            let rest = absolute.strip_prefix(place).unwrap_or(Path::new(""));
            if rest.components().any(|part| part.as_os_str() == "..") {
                return Err(DiskError::configuration(
                    format!("`{}` has `..` below a directory that does not exist", path.display()),
                    "give a plain path",
                ));
            }
            return Ok(if rest.as_os_str().is_empty() { real } else { real.join(rest) });
        }
    }
    Ok(absolute)
}

//! Whether an etcd has this disk: by the locks that etcd itself takes, and by its peer port.
//!
//! bbolt holds a `flock` on the database from before the WAL is looked for; each segment of the WAL carries an open file
//! description lock. And before it touches its disk, every etcd listens on its peer port: who holds that port keeps
//! an etcd off that has read its configuration and has no lock yet (tried on 3.4, 3.5, 3.6 and 3.7).

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv6Addr, TcpListener};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use nix::libc;

use crate::data_dir::Paths;
use crate::disk_error::{DiskError, found};
use crate::names::Url;

/// Whether an etcd holds the database or a segment of the WAL.
///
/// # Errors
/// Where that cannot be told.
pub fn held(paths: &Paths) -> Result<bool, DiskError> {
    if database_is_locked(&paths.db())? {
        return Ok(true);
    }
    let fail = |error| DiskError::io("read the WAL directory", &paths.wal_dir, error);
    let Some(entries) = found(fs::read_dir(&paths.wal_dir)).map_err(fail)? else { return Ok(false) };
    for entry in entries {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|extension| extension == "wal") && segment_is_locked(&path)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// There is no way to ask for a `flock` but to try. bbolt tries again for as long as somebody else has it.
fn database_is_locked(path: &Path) -> Result<bool, DiskError> {
    let Some(file) = opened(path)? else { return Ok(false) };
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_free) => Ok(false),
        Err((_, Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, errno)) => Err(DiskError::io("look at the lock of", path, errno.into())),
    }
}

/// Asked for only, never taken: etcd dies of a segment that somebody else has locked.
fn segment_is_locked(path: &Path) -> Result<bool, DiskError> {
    let Some(file) = opened(path)? else { return Ok(false) };
    let (l_type, l_whence) = (libc::F_WRLCK as libc::c_short, libc::SEEK_SET as libc::c_short);
    let mut lock = libc::flock { l_type, l_whence, l_start: 0, l_len: 0, l_pid: 0 };
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock))
        .map_err(|errno| DiskError::io("look at the lock of", path, errno.into()))?;
    Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
}

/// None where it has just been removed.
fn opened(path: &Path) -> Result<Option<File>, DiskError> {
    found(File::open(path)).map_err(|error| DiskError::io("open", path, error))
}

/// Whether nobody listens on these URLs.
pub fn port_is_free(urls: &[Url]) -> bool {
    let taken = |url: &Url| {
        let host: IpAddr = url.host.parse().unwrap_or(Ipv6Addr::UNSPECIFIED.into());
        matches!(TcpListener::bind((host, url.port)), Err(error) if error.kind() == io::ErrorKind::AddrInUse)
    };
    !urls.iter().any(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_lock_of_etcd_tells_and_looking_leaves_none_behind() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::locate(dir.path(), None).unwrap();
        assert!(!held(&paths).unwrap(), "nothing is there");
        crate::data_dir::tests::put_db(dir.path());
        crate::data_dir::tests::put_wal(&paths.wal_dir, &crate::wal::tests::sample());
        assert!(!held(&paths).unwrap());
        let database = Flock::lock(File::open(paths.db()).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
        assert!(held(&paths).unwrap());
        drop(database);
        assert!(!held(&paths).unwrap());
        let segment = fs::read_dir(&paths.wal_dir).unwrap().next().unwrap().unwrap().path();
        let segment = fs::OpenOptions::new().write(true).open(segment).unwrap();
        let lock = libc::flock { l_type: libc::F_WRLCK as _, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
        fcntl(&segment, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
        assert!(held(&paths).unwrap());
        assert!(held(&paths).unwrap(), "looking has not taken it away");
        drop(segment);
        assert!(!held(&paths).unwrap());
    }

    #[test]
    fn a_port_is_free_until_somebody_listens_anywhere_on_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = |host: &str| vec![format!("http://{host}:{port}").parse::<Url>().unwrap()];
        assert!(!port_is_free(&url("0.0.0.0")) && !port_is_free(&url("127.0.0.1")));
        drop(listener);
        assert!(port_is_free(&url("0.0.0.0")));
    }
}

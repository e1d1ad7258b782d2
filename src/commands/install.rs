//! `install`: copies this program into a directory that etcd's container shares.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::exit::{Exit, Fatal};

/// Copies the running program there, in one step and as often as it is called.
///
/// # Errors
/// Where the directory cannot be written.
pub fn install(directory: &Path) -> Result<(), Fatal> {
    let target = directory.join("etcd-bootstrap");
    let temporary = directory.join(".etcd-bootstrap.tmp");
    let copy = || {
        fs::create_dir_all(directory)?;
        fs::copy("/proc/self/exe", &temporary)?;
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755))?;
        fs::File::open(&temporary)?.sync_all()?;
        fs::rename(&temporary, &target)
    };
    copy().map_err(|error: std::io::Error| {
        Fatal::new(Exit::Data, format!("failed to copy this program to `{}`: {error}", target.display()))
            .hint("mount a volume there that this user may write to, an emptyDir for example")
    })
}

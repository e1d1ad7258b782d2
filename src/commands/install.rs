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
        fs::rename(&temporary, &target)?;
        fs::File::open(directory)?.sync_all()
    };
    copy().map_err(|error: std::io::Error| {
        Fatal::new(Exit::Data, format!("failed to copy this program to `{}`: {error}", target.display()))
            .hint("mount a volume there that this user may write to, an emptyDir for example")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_there_in_one_step_however_often_it_is_called() {
        let dir = tempfile::TempDir::new().unwrap();
        let shared = dir.path().join("a/shared/volume");
        install(&shared).unwrap();
        // What a crash has left, and an older program.
        fs::write(shared.join(".etcd-bootstrap.tmp"), "half of a program, and longer than nothing").unwrap();
        fs::write(shared.join("etcd-bootstrap"), "an older one").unwrap();
        install(&shared).unwrap();
        let names: Vec<_> = fs::read_dir(&shared).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["etcd-bootstrap"]);
        let facts = fs::metadata(shared.join("etcd-bootstrap")).unwrap();
        assert_eq!(facts.permissions().mode() & 0o7777, 0o755);
        assert_eq!(facts.len(), fs::metadata("/proc/self/exe").unwrap().len());
        assert!(install(Path::new("/proc/self/nowhere")).unwrap_err().message.contains("/proc/self/nowhere"));
    }
}

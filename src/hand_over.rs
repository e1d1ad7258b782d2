//! Hands etcd a configuration file instead of becoming it, for `render` and `sidecar`.

use std::path::Path;

use nix::unistd::{AccessFlags, eaccess};

use crate::data_dir::Paths;
use crate::etcd_command;
use crate::exit::{Exit, Fatal};
use crate::failpoint;
use crate::launch;
use crate::settings::Settings;
use crate::startup::{Ready, Startup};
use crate::unstarted;

/// Checks that the file can be written, before anything is registered for an etcd that would not get it.
///
/// # Errors
/// Exit code 78: its directory is missing, not writable, or one that etcd deletes or an archive takes along.
pub fn check(output: &Path, paths: &Paths) -> Result<(), Fatal> {
    let refuse = |reason: String| {
        Fatal::new(Exit::Config, format!("etcd's configuration file cannot be `{}`: {reason}", output.display()))
            .hint("mount an emptyDir in both containers and put the file there: --output=/run/etcd/etcd.yaml")
    };
    let dir = output.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = dir.canonicalize().map_err(|error| refuse(format!("`{}`: {error}", dir.display())))?;
    if dir.starts_with(&paths.member_dir) || dir.starts_with(&paths.wal_dir) {
        return Err(refuse(format!("what is in `{}` is etcd's", dir.display())));
    }
    eaccess(&dir, AccessFlags::W_OK | AccessFlags::X_OK)
        .map_err(|errno| refuse(format!("`{}` cannot be written to: {}", dir.display(), errno.desc())))
}

/// Writes what has to be on the disk, frees the ports, and only then writes the file: who starts etcd may be quick.
///
/// A first start is journalled as used up here already, and marked as not happened ([`unstarted`]): nobody may be there
/// to see the WAL.
///
/// # Errors
/// Where the disk or the file cannot be written, or the file has no word for a flag.
pub async fn hand_over(startup: Startup, ready: Ready, settings: &Settings, output: &Path) -> Result<(), Fatal> {
    let paths = startup.paths().clone();
    let (start, mut journal) = (ready.start, ready.journal);
    let text = etcd_command::config_text(settings, &start)?;
    if start.first {
        unstarted::mark(&paths, start.member_id)?;
        journal.wal_seen = Some(start.member_id);
    }
    launch::settle(&paths, journal, &ready.journal_on_disk)?;
    startup.close().await;
    failpoint::reach("hand-over-before-file");
    launch::write_config(output, &text)?;
    failpoint::reach("hand-over-after-file");
    tracing::info!(
        rule = %ready.decision.rule,
        member_id = %start.member_id,
        cluster_id = %start.cluster_id,
        "etcd may start: {} (--config-file={})",
        ready.decision.why,
        output.display()
    );
    Ok(())
}

//! The last things before the exec: the journal as etcd starts with it, free ports, and the child that outlives it.

use std::ffi::OsString;
use std::path::Path;

use crate::after_start::{self, Duties};
use crate::config_file;
use crate::data_dir::{self, Paths};
use crate::etcd_command::{self, EtcdCommand};
use crate::exec;
use crate::exit::{Exit, Fatal};
use crate::failpoint;
use crate::journal::Journal;
use crate::journal_file;
use crate::settings::Settings;
use crate::startup::{Ready, Startup};

/// Writes what has to be on the disk, frees the ports, and starts the child; what is left is the exec.
///
/// # Errors
/// Where the disk cannot be written or the child not be started.
pub async fn launch(
    startup: Startup,
    ready: Ready,
    settings: &Settings,
    own_args: &[String],
) -> Result<EtcdCommand, Fatal> {
    let paths = startup.paths().clone();
    settle(&paths, ready.journal, &ready.journal_on_disk)?;
    let command =
        etcd_command::command(settings, &ready.start, std::env::vars_os(), &paths.journal_dir.join("etcd.yaml"));
    if let Some((path, text)) = &command.config_file {
        failpoint::reach("config-before-write");
        write_config(path, text)?;
        failpoint::reach("config-after-write");
    }
    failpoint::around("close-before", "close-after", startup.close()).await;
    let start = &ready.start;
    tracing::info!(
        rule = %ready.decision.rule,
        member_id = %start.member_id,
        cluster_id = %start.cluster_id,
        "starting etcd: {} ({} {})",
        ready.decision.why,
        command.program.display(),
        command.args.join(" ")
    );
    let duties = Duties {
        note_wal: start.first,
        member_id: start.member_id,
        confirm: !start.confirmed || start.learner || ready.unsaid,
    };
    if duties.note_wal || duties.confirm {
        failpoint::reach("spawn-before");
        exec::spawn_after_exec_child(after_start::arguments(&duties, own_args), std::env::vars_os()).map_err(
            |error| Fatal::new(Exit::Exec, format!("failed to start the child that outlives the exec: {error}")),
        )?;
        failpoint::reach("spawn-after");
    }
    Ok(command)
}

/// Pairs the volumes, and writes the journal that etcd starts with.
///
/// # Errors
/// Where the disk cannot be written.
pub fn settle(paths: &Paths, mut journal: Journal, on_disk: &Journal) -> Result<(), Fatal> {
    data_dir::pair(paths, &mut journal)?;
    if journal != *on_disk {
        journal_file::write(&paths.journal_dir, &journal)?;
    }
    Ok(())
}

/// Becomes etcd.
pub fn become_etcd(command: EtcdCommand) -> Fatal {
    failpoint::reach("exec-before");
    let args: Vec<OsString> = command.args.into_iter().map(OsString::from).collect();
    exec::exec(&command.program, &args, command.env)
}

pub(crate) fn write_config(path: &Path, text: &str) -> Result<(), Fatal> {
    config_file::write(path, text).map_err(|error| {
        Fatal::new(Exit::Data, format!("failed to write etcd's configuration file `{}`: {error}", path.display()))
    })
}

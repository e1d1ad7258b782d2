//! `check`: a preflight. One line for each finding, with its fix; it changes nothing.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::plan::look;
use crate::checks::{Facts, Finding, Problem, Topic, Volumes, exit_code, findings};
use crate::cli::Output;
use crate::data_dir::{self, Paths};
use crate::disk_error::DiskError;
use crate::exec;
use crate::exit::{Exit, Fatal};
use crate::observation::Disk;
use crate::settings::Settings;
use crate::space;
use crate::tls::Tls;

/// How long it looks where `BOOTSTRAP_TIMEOUT` says nothing.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Looks at everything, and prints what there is to say. Ends with 0, or with what `run` would end with.
///
/// # Errors
/// Where DNS cannot be asked at all.
pub async fn check(settings: &Settings, output: Output) -> Result<Exit, Fatal> {
    if let Err(fatal) = Tls::load(settings) {
        return Ok(refused(&fatal, output));
    }
    let (disk, volumes) = match disk(settings) {
        Ok((paths, disk)) => (Some(disk), space::volumes(&paths)),
        Err(error) => (None, Volumes { problem: Some(error.into()), ..Volumes::default() }),
    };
    let at_most = settings.intent.timeout.unwrap_or(TIMEOUT);
    let status = look(settings, disk.clone().unwrap_or_else(Disk::blank), at_most).await?;
    let facts = Facts {
        intent: &settings.intent,
        etcd: &settings.etcd_settings,
        settings_warnings: &settings.warnings,
        program: settings.etcd_here.as_deref().and_then(program),
        volumes,
        seen: &status.observation,
        decision: disk.is_some().then_some(&status.decision),
    };
    Ok(print(&findings(&facts), output))
}

/// The finding of settings that cannot be read: there is nothing else to look at.
pub fn refused(fatal: &Fatal, output: Output) -> Exit {
    print(&[Finding::of_problem(Topic::Settings, &Problem::from(fatal))], output)
}

fn disk(settings: &Settings) -> Result<(Paths, Disk), DiskError> {
    let paths = Paths::locate(&settings.data_dir, settings.wal_dir.as_deref())?;
    let disk = data_dir::observe(&paths)?;
    Ok((paths, disk))
}

fn program(etcd: &Path) -> Option<Problem> {
    exec::would_fail(etcd).map(|fatal| Problem::from(&fatal))
}

impl From<&Fatal> for Problem {
    fn from(fatal: &Fatal) -> Self {
        Self { exit_code: fatal.exit.code(), message: fatal.message.clone(), hint: fatal.hint.clone() }
    }
}

/// As JSON shows it.
#[derive(Serialize)]
struct Report<'a> {
    exit_code: u8,
    findings: &'a [Finding],
}

fn print(findings: &[Finding], output: Output) -> Exit {
    let exit_code = exit_code(findings);
    match output {
        Output::Text => findings.iter().for_each(|finding| println!("{finding}")),
        Output::Json => {
            println!("{}", serde_json::to_string_pretty(&Report { exit_code, findings }).unwrap_or_default())
        }
    }
    Exit::of_code(exit_code)
}

//! The etcd of this image: which file it is, which version, and what another version has left on the disk for it.
//!
//! A file that the journal remembers is not asked again, so that an ordinary restart pays nothing.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use tokio::io::AsyncReadExt;
use tokio::process::ChildStdout;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::bolt;
use crate::data_dir::Paths;
use crate::disk_error::DiskError;
use crate::exec;
use crate::exit::Fatal;
use crate::journal::EtcdBinary;
use crate::observation::{DataVersions, Disk, Image, JournalFile, Wal};
use crate::signals::{self, OwnChild};
use crate::version::Minor;
use crate::wal::{self, Depth, Log, Replays};

/// How long `etcd --version` may take; some 20 ms are usual.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// More than etcd says about itself, in bytes.
const ANSWER_BYTES_MAX: u64 = 4 << 10;

/// The program that this process will become.
pub struct Binary {
    program: PathBuf,
    /// The journal remembers another one, or none.
    changed: bool,
    /// This process will become it: nothing should be done for a program that cannot be executed.
    pub required: bool,
    state: State,
}

enum State {
    Asking { fingerprint: String, answer: JoinHandle<Result<String, Unknown>> },
    Known(Option<EtcdBinary>),
}

/// Why a version is not known.
#[derive(Debug, thiserror::Error)]
enum Unknown {
    /// The program cannot be executed at all.
    #[error("it cannot be executed: {0}")]
    Exec(io::Error),
    /// It did not say its version.
    #[error("{0}")]
    Silent(String),
}

impl Binary {
    /// Looks at the file, and asks it for its version in a child unless the journal remembers that. Without a file
    /// nothing is known, whatever the journal remembers: the other container's image may have changed.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn look(program: Option<&Path>, disk: &Disk) -> Self {
        let Some(program) = program else {
            tracing::info!("the version of the other container's etcd is not known: nothing is compared with it");
            return Self { program: PathBuf::new(), changed: false, required: false, state: State::Known(None) };
        };
        let remembered = match &disk.journal {
            JournalFile::Valid(journal) => journal.etcd.clone(),
            JournalFile::Absent | JournalFile::Torn(_) => None,
        };
        // Where it is not there, the child says so.
        let fingerprint = fingerprint(program).unwrap_or_default();
        let program = program.to_owned();
        if remembered.as_ref().is_some_and(|known| known.fingerprint == fingerprint) {
            return Self { program, changed: false, required: false, state: State::Known(remembered) };
        }
        // It runs while everything else begins.
        let child = start(&program);
        let answer = tokio::spawn(async move { hear(child?).await });
        Self { program, changed: true, required: false, state: State::Asking { fingerprint, answer } }
    }

    /// Whether the version is known, or known not to be told.
    pub fn is_known(&self) -> bool {
        matches!(self.state, State::Known(_))
    }

    /// Which etcd it is, as far as that is known by now.
    pub fn now_known(&self) -> Option<&EtcdBinary> {
        match &self.state {
            State::Known(known) => known.as_ref(),
            State::Asking { .. } => None,
        }
    }

    /// Which etcd it is; none where it does not say. Waits for the child.
    ///
    /// # Errors
    /// Where it is required and cannot be executed (71).
    pub async fn known(&mut self) -> Result<Option<EtcdBinary>, Fatal> {
        let (fingerprint, answer) = match &mut self.state {
            State::Known(known) => return Ok(known.clone()),
            State::Asking { fingerprint, answer } => (fingerprint.clone(), answer.await),
        };
        let known = match answer.unwrap_or_else(|error| Err(Unknown::Silent(error.to_string()))) {
            Ok(version) => Some(EtcdBinary { version, fingerprint }),
            Err(Unknown::Exec(error)) if self.required => {
                return Err(exec::failure(&self.program, error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)));
            }
            Err(unknown) => {
                let program = self.program.display();
                tracing::warn!(
                    "`{program} --version` does not tell a version ({unknown}): nothing is compared with it"
                );
                None
            }
        };
        self.state = State::Known(known.clone());
        Ok(known)
    }

    /// All that a decision needs: the version, and where another etcd was here before, or this one did not get to
    /// work, what the data says.
    ///
    /// # Errors
    /// As [`Self::known`], and where the disk cannot be read.
    pub async fn image(&mut self, paths: &Paths, disk: &Disk) -> Result<Image, Fatal> {
        let version = self.known().await?.map(|etcd| etcd.version);
        let unconfirmed = match &disk.journal {
            JournalFile::Valid(journal) => journal.unconfirmed_starts > 0,
            JournalFile::Absent | JournalFile::Torn(_) => false,
        };
        let look = (self.changed || unconfirmed) && matches!(disk.wal, Wal::Present(_));
        let data = match version.as_ref().and_then(|version| version.parse().ok()).filter(|_| look) {
            Some(version) => Some(data_versions(paths, version)?),
            None => None,
        };
        Ok(Image { version, data })
    }
}

/// What tells one file from another. Not the device: an overlay gets a new number with each container.
fn fingerprint(program: &Path) -> io::Result<String> {
    let facts = fs::metadata(program)?;
    Ok(format!("{}-{}.{:09}-{}", facts.size(), facts.mtime(), facts.mtime_nsec(), facts.ino()))
}

/// Asks the program for its version.
fn start(program: &Path) -> Result<OwnChild, Unknown> {
    let mut command = Command::new(program);
    // No ETCD_ variable: a bad one must not keep it from telling. For one line Go needs neither its collector nor threads.
    command
        .arg("--version")
        .env_clear()
        .envs([("GOGC", "off"), ("GOMAXPROCS", "1")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    signals::spawn(&mut command).map_err(Unknown::Exec)
}

/// Its answer.
async fn hear(mut own: OwnChild) -> Result<String, Unknown> {
    let silent = |error: io::Error| Unknown::Silent(error.to_string());
    let mut text = String::new();
    let read = match own.child.stdout.take().map(ChildStdout::from_std) {
        Some(Ok(stdout)) => {
            let mut stdout = stdout.take(ANSWER_BYTES_MAX);
            let read = timeout(ANSWER_TIMEOUT, stdout.read_to_string(&mut text)).await;
            read.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(|_| ())
        }
        Some(Err(error)) => Err(error),
        None => Err(io::ErrorKind::BrokenPipe.into()),
    };
    // It has ended, or is not needed any more.
    let _ = own.child.kill();
    let _ = own.child.wait();
    read.map_err(silent)?;
    let line = text.lines().find_map(|line| line.strip_prefix("etcd Version: "));
    line.map(|version| version.trim().to_owned()).ok_or_else(|| {
        let first: String = text.lines().next().unwrap_or_default().chars().take(80).collect();
        Unknown::Silent(format!("it says `{first}`"))
    })
}

fn data_versions(paths: &Paths, version: Minor) -> Result<DataVersions, DiskError> {
    // What cannot be read is for etcd to judge.
    let database = bolt::read(&paths.db()).ok().flatten().unwrap_or_default();
    let replays = match version {
        _ if version >= Minor::V3_7 => Some(Replays::None),
        _ if version >= Minor::V3_6 => Some(Replays::Membership),
        _ => None,
    };
    let unreplayable = match (replays, replays.map(|_| wal::read(&paths.wal_dir, Depth::Ends)).transpose()?) {
        (Some(replays), Some(Log::Present(content))) => wal::unreplayable(&content, replays)?,
        _ => None,
    };
    Ok(DataVersions { cluster: database.cluster_version, storage: database.storage_version, unreplayable })
}

#[cfg(test)]
mod tests;

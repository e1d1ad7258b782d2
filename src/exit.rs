//! How the program ends: the exit codes, and the one sentence that says why.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::disk_error::DiskError;

/// Where the kubelet looks for the sentence that `kubectl describe pod` shows.
pub const TERMINATION_LOG: &str = "/dev/termination-log";

/// What the kubelet reads of it, in bytes.
const TERMINATION_LOG_BYTES_MAX: usize = 4096;

/// The exit codes: those of sysexits.h, and 128 plus the number of a signal. After the exec it is etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Done (plan, check and the like).
    Done = 0,
    /// The command line is wrong.
    Usage = 64,
    /// What lies on the disk cannot be used.
    Data = 65,
    /// Refused: an operator must decide.
    Refused = 69,
    /// etcd could not be executed, or the system failed.
    Exec = 71,
    /// The time is up; a restart may help.
    TimedOut = 75,
    /// The peers reject this pod (TLS, authentication).
    Rejected = 77,
    /// A setting is wrong.
    Config = 78,
    /// SIGINT.
    Interrupted = 130,
    /// SIGTERM.
    Terminated = 143,
}

impl Exit {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Done,
        Self::Usage,
        Self::Data,
        Self::Refused,
        Self::Exec,
        Self::TimedOut,
        Self::Rejected,
        Self::Config,
        Self::Interrupted,
        Self::Terminated,
    ];

    /// The number.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The exit of this number; [`Exit::Refused`] for a number that is none, for something did end the program.
    pub fn of_code(code: u8) -> Self {
        Self::ALL.into_iter().find(|exit| exit.code() == code).unwrap_or(Self::Refused)
    }

    /// What it means, for the help text.
    pub fn description(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Usage => "usage",
            Self::Data => "unusable data on disk",
            Self::Refused => "refused, an operator must decide",
            Self::Exec => "etcd could not be executed",
            Self::TimedOut => "timed out waiting, a restart may help",
            Self::Rejected => "peers reject this pod (TLS, authentication)",
            Self::Config => "bad configuration",
            Self::Interrupted => "interrupted (SIGINT)",
            Self::Terminated => "terminated (SIGTERM)",
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.code(), self.description())
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why the program ends before etcd runs.
///
/// `message` names the thing and the cause in one sentence; whoever makes it puts the chain of causes in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fatal {
    /// With which code.
    pub exit: Exit,
    /// What is wrong.
    pub message: String,
    /// What the operator can do about it; empty where there is nothing to say.
    pub hint: String,
}

impl From<DiskError> for Fatal {
    fn from(error: DiskError) -> Self {
        let cause = error.source.as_ref().map(|source| format!(": {source}")).unwrap_or_default();
        Self::new(Exit::of_code(error.exit_code), format!("{}{cause}", error.message)).hint(error.hint)
    }
}

impl Fatal {
    /// An end with this code and sentence, and without a hint.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: String::new() }
    }

    /// The same with what can be done about it.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }

    /// `error: …`, and `hint: …` on a line of its own.
    pub fn text(&self) -> String {
        let hint = if self.hint.is_empty() { String::new() } else { format!("\nhint: {}", self.hint) };
        format!("error: {}{hint}", self.message)
    }

    /// Says it once on stderr and once in the termination log, and gives the code to end with.
    ///
    /// Neither can fail the exit: a full disk or a closed stderr must not change the code.
    pub fn report(&self, termination_log: &Path) -> ExitCode {
        let text = self.text();
        let _closed = writeln!(io::stderr().lock(), "{text}");
        if let Err(error) = write_termination_log(termination_log, &text) {
            tracing::debug!(path = %termination_log.display(), %error, "no termination message");
        }
        self.exit.into()
    }
}

/// Replaces what an earlier end of the container left there. Outside Kubernetes the file is made where that is
/// allowed, and missing where it is not.
fn write_termination_log(path: &Path, text: &str) -> io::Result<()> {
    let end = (0..=text.len().min(TERMINATION_LOG_BYTES_MAX)).rev().find(|end| text.is_char_boundary(*end));
    let text = &text[..end.unwrap_or_default()];
    OpenOptions::new().write(true).create(true).truncate(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_that_the_readme_lists() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(codes, [0, 64, 65, 69, 71, 75, 77, 78, 130, 143]);
        assert_eq!(Exit::of_code(78), Exit::Config);
        assert_eq!(Exit::of_code(3), Exit::Refused);
        assert_eq!(Exit::TimedOut.to_string(), "75 (timed out waiting, a restart may help)");
    }

    #[test]
    fn the_sentence_goes_to_the_termination_log_and_replaces_the_last_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("termination-log");
        std::fs::write(&path, "x".repeat(9000)).unwrap();
        Fatal::new(Exit::Config, "`--name` is missing").hint("set it").report(&path);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "error: `--name` is missing\nhint: set it");
    }

    #[test]
    fn a_long_sentence_is_cut_between_characters() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("termination-log");
        Fatal::new(Exit::Refused, "ä".repeat(4000)).report(&path);
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(written.len(), 4095, "`error: ` is 7 bytes, each ä two: an odd number fits");
    }

    #[test]
    fn nowhere_to_write_is_no_failure() {
        let code = Fatal::new(Exit::Data, "torn").report(Path::new("/nonexistent/termination-log"));
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(65)));
    }
}

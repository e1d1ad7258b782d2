//! The decision that etcd was started by, kept beside etcd's configuration file: it outlives this process, as etcd does.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::config_file;
use crate::exit::{Exit, Fatal};
use crate::plan::Decision;

/// What is added to the configuration file's name.
const SUFFIX: &str = ".decision";

/// A decision that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Its rule.
    pub rule: String,
    /// Why.
    pub why: String,
    /// When, in RFC 3339.
    pub at: String,
}

impl Taken {
    /// The decision is taken now.
    pub fn now(decision: &Decision) -> Self {
        let at = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        Self { rule: decision.rule.to_string(), why: decision.why.clone(), at }
    }

    /// Writes it beside this configuration file, in one step.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, output: &Path) -> Result<(), Fatal> {
        let path = place(output);
        let fail = |error: String| {
            Fatal::new(Exit::Data, format!("failed to write what was decided to `{}`: {error}", path.display()))
        };
        let text = serde_json::to_string(self).map_err(|error| fail(error.to_string()))?;
        config_file::write(&path, &(text + "\n")).map_err(|error| fail(error.to_string()))
    }

    /// What an earlier life of this process has written beside this configuration file; it is for people only.
    pub fn read(output: &Path) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(place(output)).ok()?).ok()
    }
}

fn place(output: &Path) -> PathBuf {
    let mut path = output.as_os_str().to_owned();
    path.push(SUFFIX);
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::waiting;

    #[test]
    fn a_decision_is_read_back_as_it_was_written_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("etcd.yaml");
        assert_eq!(Taken::read(&output), None);
        let taken = Taken::now(&waiting().decision);
        taken.write(&output).unwrap();
        assert_eq!(Taken::read(&output), Some(taken));
        assert!(!output.exists());
        fs::write(place(&output), "{").unwrap();
        assert_eq!(Taken::read(&output), None);
    }
}

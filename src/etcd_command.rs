//! What is exec'd in the end: etcd's complete arguments, its environment, and its configuration file if it has one.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::config_file::ConfigFile;
use crate::flags::{Origin, READ_BY_ETCD_ITSELF};
use crate::known_flags::known_flag;
use crate::names::{ClusterId, MemberId};
use crate::plan::{InitialClusterState, Start};
use crate::settings::{Settings, SettingsError};

/// How etcd is started.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments, without its own name; every setting once, as `--NAME=VALUE`.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// A configuration file to write first ([`crate::config_file::write`]), where the settings came from one.
    pub config_file: Option<(PathBuf, String)>,
}

impl std::fmt::Debug for EtcdCommand {
    /// Without the environment's values: some are secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&OsString> = self.env.iter().map(|(name, _)| name).collect();
        let path = self.config_file.as_ref().map(|(path, _)| path);
        f.debug_struct("EtcdCommand")
            .field("program", &self.program)
            .field("args", &self.args)
            .field("env", &names)
            .field("config_file", &path)
            .finish()
    }
}

/// Settings that the decision computes; what was given is replaced.
const DECIDED: [&str; 4] = ["initial-cluster", "initial-cluster-state", "force-new-cluster", "config-file"];

/// The command that starts etcd so. `env` is this process's environment; `config_path` is where a merged
/// configuration file goes, if the settings came from one.
///
/// A setting that not every version of etcd has stays in the environment where it was given there: etcd warns of a
/// variable that it does not know, and dies of such a flag.
pub fn command(
    settings: &Settings,
    start: &Start,
    env: impl IntoIterator<Item = (OsString, OsString)>,
    config_path: &Path,
) -> EtcdCommand {
    let mut env: Vec<(OsString, OsString)> = env.into_iter().filter(|(name, _)| passes(name)).collect();
    let program = settings.etcd.clone();
    if let Some(file) = &settings.config_file {
        let mut file = file.clone();
        file.remove("force-new-cluster");
        let added = settings.etcd_settings.iter().filter(|(_, setting)| setting.origin != Origin::File);
        for (flag, setting) in added {
            file.set(flag, &setting.value);
        }
        for (name, value) in decided(settings, start) {
            if let Some(flag) = known_flag(name) {
                file.set(flag, &value);
            }
        }
        let args = vec![format!("--config-file={}", config_path.display())];
        return EtcdCommand { program, args, env, config_file: Some((config_path.to_owned(), file.text())) };
    }
    let mut args = Vec::new();
    for (flag, setting) in settings.etcd_settings.iter().filter(|(flag, _)| !DECIDED.contains(&flag.name)) {
        if setting.origin == Origin::Variable && !flag.everywhere {
            env.push((flag.variable().into(), setting.value.clone().into()));
        } else {
            args.push(format!("--{}={}", flag.name, setting.value));
        }
    }
    args.extend(decided(settings, start).into_iter().map(|(name, value)| format!("--{name}={value}")));
    args.extend(settings.etcd_settings.unknown().iter().map(|(name, value)| format!("--{name}={value}")));
    EtcdCommand { program, args, env, config_file: None }
}

/// The text of the configuration file that starts etcd so, for `render` and `sidecar`.
///
/// The file outlives the decision: the kubelet starts etcd with it again and again. Where there is a WAL, it can do
/// nothing but restart: etcd does not look at `initial-cluster` then, and without a WAL it refuses one that does not
/// have its own name ("couldn't find local name"), whatever the state.
///
/// # Errors
/// Exit code 78: a flag that etcd's configuration file has no word for.
pub fn config_text(settings: &Settings, start: &Start) -> Result<String, SettingsError> {
    let mut start = start.clone();
    if !start.first {
        start.initial_cluster = Some(format!("not-{}=http://0.0.0.0:1", settings.intent.name));
    }
    file_text(settings, &start)
}

/// The text that can do nothing but restart, whatever member the WAL is of.
///
/// # Errors
/// Exit code 78: a flag that etcd's configuration file has no word for.
pub fn restart_only_text(settings: &Settings) -> Result<String, SettingsError> {
    let restart = Start {
        state: InitialClusterState::Existing,
        initial_cluster: None,
        member_id: MemberId(0),
        cluster_id: ClusterId(0),
        first: false,
        learner: false,
        confirmed: false,
        force_new_cluster: false,
    };
    config_text(settings, &restart)
}

fn file_text(settings: &Settings, start: &Start) -> Result<String, SettingsError> {
    if settings.config_file.is_some() {
        let command = command(settings, start, [], Path::new(""));
        return Ok(command.config_file.map(|(_, text)| text).unwrap_or_default());
    }
    let mut etcd_settings = settings.etcd_settings.clone();
    DECIDED.iter().for_each(|name| _ = etcd_settings.remove(name));
    for (name, value) in decided(settings, start) {
        etcd_settings.set(name, value);
    }
    Ok(ConfigFile::from_settings(&etcd_settings)?.text())
}

fn decided(settings: &Settings, start: &Start) -> Vec<(&'static str, String)> {
    let given = || settings.etcd_settings.get("initial-cluster").map(str::to_owned);
    let initial_cluster = start.initial_cluster.clone().or_else(given);
    let initial_cluster = initial_cluster.unwrap_or_else(|| settings.intent.plan.initial_cluster());
    let mut decided =
        vec![("initial-cluster", initial_cluster), ("initial-cluster-state", start.state.as_str().to_owned())];
    if start.force_new_cluster {
        decided.push(("force-new-cluster", "true".to_owned()));
    }
    decided
}

/// Whether etcd gets this variable: none that would shadow its flags, be logged with its value, or is this program's.
fn passes(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    READ_BY_ETCD_ITSELF.contains(&&*name) || !(name.starts_with("ETCD_") || name.starts_with("BOOTSTRAP_"))
}

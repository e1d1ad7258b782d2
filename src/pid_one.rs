//! What a command beside PID 1 (a preStop hook, `kubectl exec`) takes from it: etcd's flags, which stand in the
//! container's args and not in the command's own, and the container's log, which its output does not reach.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

use crate::cli::{self, Invocation, Verb};
use crate::known_flags::flag_of_variable;
use crate::options;

/// Where the kernel shows PID 1's arguments, and its standard error.
const CMDLINE: &str = "/proc/1/cmdline";
const STDERR: &str = "/proc/1/fd/2";

/// Takes PID 1's flags of etcd, where the command has none of its own and wants some; then the variables that they were
/// made from say nothing more.
pub fn complete(given: &mut Invocation, env: &mut BTreeMap<String, String>) {
    let looks_at_etcd = match given.verb {
        Verb::Plan { .. } | Verb::Check { .. } | Verb::Status { .. } | Verb::Promote | Verb::Ready | Verb::Leave => {
            true
        }
        Verb::Run | Verb::Render { .. } | Verb::Sidecar { .. } | Verb::Install { .. } | Verb::Print(_) => false,
    };
    if !looks_at_etcd || !given.etcd_args.is_empty() || std::process::id() == 1 {
        return;
    }
    if let Ok(cmdline) = fs::read(CMDLINE) {
        take(given, &cmdline, &std::env::current_exe().unwrap_or_default(), env);
    }
}

/// A second writer of the container's log; none where that cannot be opened.
pub fn log() -> Option<File> {
    // A full or closed pipe must not hold up the pod's end.
    OpenOptions::new().append(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(STDERR).ok()
}

/// `own` is this program. PID 1 is etcd, which this program has given complete flags, or this program before that.
fn take(given: &mut Invocation, cmdline: &[u8], own: &Path, env: &mut BTreeMap<String, String>) {
    let text = String::from_utf8_lossy(cmdline);
    let mut words = text.strip_suffix('\0').unwrap_or(&text).split('\0').map(str::to_owned);
    let program = words.next().unwrap_or_default();
    let args: Vec<String> = words.collect();
    let etcd = given.option(options::ETCD).unwrap_or("etcd");
    let is = |path: &Path| Path::new(&program).file_name().is_some_and(|name| Some(name) == path.file_name());
    if is(Path::new(etcd)) {
        take_from_etcd(given, args, env);
    } else if is(own)
        && let Ok(before) = cli::parse(&args, env)
    {
        for (name, option) in before.options {
            given.options.entry(name).or_insert(option);
        }
        given.etcd_args = before.etcd_args;
        given.beside_etcd = before.beside_etcd;
    }
}

/// What etcd has was computed. It lists those that were there when it was started, which need not be the founders: these
/// are as the size says, unless all is in a file.
fn take_from_etcd(given: &mut Invocation, mut args: Vec<String>, env: &mut BTreeMap<String, String>) {
    let has = |args: &[String], flag: &str| args.iter().any(|arg| arg.starts_with(&format!("--{flag}")));
    let has_file = has(&args, "config-file");
    if has_file {
        given.options.remove(options::INITIAL_CLUSTER_SIZE);
    } else if given.option(options::INITIAL_CLUSTER_SIZE).is_some() {
        args.retain(|arg| !arg.starts_with("--initial-cluster="));
    }
    env.retain(|variable, _| {
        flag_of_variable(variable).is_none_or(|flag| !has_file && !has(&args, &format!("{}=", flag.name)))
    });
    given.etcd_args = args;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// What becomes of `leave` and this environment beside a PID 1 of this command line.
    fn beside(line: &str, env: &[(&str, &str)]) -> (Invocation, BTreeMap<String, String>) {
        let mut env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut leave = cli::parse(&words("leave"), &env).unwrap();
        let cmdline: String = words(line).iter().map(|word| format!("{word}\0")).collect();
        take(&mut leave, cmdline.as_bytes(), Path::new("/usr/local/bin/etcd-bootstrap"), &mut env);
        (leave, env)
    }

    fn args_beside(line: &str, env: &[(&str, &str)]) -> Vec<String> {
        beside(line, env).0.etcd_args
    }

    #[test]
    fn etcds_flags_are_taken_from_etcd() {
        let line = "/usr/local/bin/etcd --name=etcd-3 --data-dir=/data --initial-cluster=a=http://a:1";
        let all = words("--name=etcd-3 --data-dir=/data --initial-cluster=a=http://a:1");
        assert_eq!(args_beside(line, &[]), all);
        // The founders are those that the settings name, not those that etcd was started with.
        assert_eq!(args_beside(line, &[("BOOTSTRAP_INITIAL_CLUSTER_SIZE", "3")]), all[..2]);
        let (file, _) = beside("etcd --config-file=/data/etcd.yaml", &[("BOOTSTRAP_INITIAL_CLUSTER_SIZE", "3")]);
        assert_eq!((file.option(options::INITIAL_CLUSTER_SIZE), file.etcd_args.len()), (None, 1));
        assert_eq!(args_beside("/opt/my-etcd --name=x", &[("BOOTSTRAP_ETCD", "/opt/my-etcd")]).len(), 1);
    }

    #[test]
    fn variables_that_are_flags_by_now_say_nothing_more() {
        let env = [("ETCD_DATA_DIR", "/data"), ("ETCD_WAL_DIR", "/wal"), ("ETCD_VERSION", "3.6.0"), ("HOME", "/")];
        let left = |line: &str| beside(line, &env).1.into_keys().collect::<Vec<_>>();
        assert_eq!(left("etcd --data-dir=/data"), ["ETCD_VERSION", "ETCD_WAL_DIR", "HOME"]);
        assert!(!left("etcd --config-file /data/etcd.yaml").contains(&"ETCD_WAL_DIR".to_owned()));
        assert_eq!(left("/pause").len(), 4);
    }

    #[test]
    fn a_waiting_entrypoint_has_them_as_the_manifest_does() {
        assert_eq!(args_beside("etcd-bootstrap --name=x", &[]), words("--name=x"));
        let line = "/bin/etcd-bootstrap run --service=etcd --timeout=9 -- --name=x";
        let (given, _) = beside(line, &[("BOOTSTRAP_TIMEOUT", "5")]);
        assert_eq!(given.etcd_args, words("--name=x"));
        assert_eq!((given.option(options::SERVICE), given.option(options::TIMEOUT)), (Some("etcd"), Some("5")));
        assert_eq!((given.verb, given.beside_etcd), (Verb::Leave, false));
        assert!(beside("/etcd-bootstrap sidecar --output=/config/etcd.yaml", &[]).0.beside_etcd);
    }

    #[test]
    fn of_anything_else_nothing_is_taken() {
        for line in ["/pause", "sh -c etcd", "", "etcd-bootstrap nonsense"] {
            assert_eq!(args_beside(line, &[]), words(""), "{line}");
        }
    }
}

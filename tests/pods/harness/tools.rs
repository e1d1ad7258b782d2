//! What the harness needs of the machine, and running a command to its end.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// Program and Debian package.
const TOOLS: [(&str, &str); 8] = [
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("pivot_root", "util-linux"),
    ("mount", "mount"),
    ("sh", "dash"),
    ("env", "coreutils"),
];

const EXTRA_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The PATH that programs of the harness are looked up on.
pub fn search_path() -> String {
    match std::env::var("PATH") {
        Ok(path) if !path.is_empty() => format!("{path}:{EXTRA_PATH}"),
        _ => EXTRA_PATH.to_owned(),
    }
}

/// Where a program is, if it is anywhere on the PATH.
pub fn find_program(name: &str) -> Option<PathBuf> {
    search_path().split(':').map(|dir| PathBuf::from(dir).join(name)).find(|path| path.is_file())
}

/// Panics with one sentence that says what to do where this machine cannot run pods.
pub fn require() {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    if let Some(sentence) = MISSING.get_or_init(what_is_missing) {
        panic!("{sentence}");
    }
}

fn what_is_missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("the pods tests create namespaces and bridges: run them as root (sudo -E make test)".to_owned());
    }
    for (tool, package) in TOOLS {
        if find_program(tool).is_none() {
            return Some(format!("the pods tests need `{tool}`: apt-get install {package}"));
        }
    }
    let probe = std::thread::spawn(|| nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET));
    match probe.join() {
        Ok(Ok(())) => None,
        _ => Some(
            "the pods tests may not create a network namespace here: run them with CAP_SYS_ADMIN (docker run --privileged)"
                .to_owned(),
        ),
    }
}

/// Runs a command to its end in the calling thread's namespaces.
pub fn run(argv: &[&str]) -> Result<String, String> {
    run_with_input(argv, "")
}

/// As [`run`], with something on its standard input.
pub fn run_with_input(argv: &[&str], input: &str) -> Result<String, String> {
    let output = output(argv, input)?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("`{}` ended with {}: {}", argv.join(" "), output.status, format!("{}{}", stderr, stdout).trim()))
}

/// As [`run`], with everything that came out.
pub fn output(argv: &[&str], input: &str) -> Result<Output, String> {
    let (program, args) = argv.split_first().ok_or("an empty command")?;
    let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
    let mut child = Command::new(program)
        .args(args)
        .env("PATH", search_path())
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("failed to run `{program}`: {e}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(|e| format!("failed to write to `{program}`: {e}"))?;
    }
    child.wait_with_output().map_err(|e| format!("failed to wait for `{program}`: {e}"))
}

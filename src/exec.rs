//! Becoming etcd, and the one child that may outlive it.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};

use crate::exit::{Exit, Fatal};

/// This very program, even where its file was replaced or is hidden by a mount.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Replaces this process by `program` with these arguments (without the program's own name) and exactly these
/// variables. Comes back only where that failed.
///
/// Nothing of ours is inherited: each socket and file of std and tokio is closed on exec, caught signals go back
/// to their default ([`Signals::install`](crate::signals::Signals::install) has made the ignored ones caught), and
/// the mask of blocked signals is emptied here. Everything that has to be dropped or flushed is dropped before.
///
/// Not `CommandExt::exec`: it has left the mask as it is since Rust 1.66, and it is an `execvp`, which hands a
/// program of another architecture to `/bin/sh` and so hides what is wrong.
pub fn exec<I>(program: &Path, args: &[OsString], env: I) -> Fatal
where
    I: IntoIterator<Item = (OsString, OsString)>,
{
    if let Err(error) = SigSet::empty().thread_set_mask() {
        tracing::debug!(%error, "the signal mask stays as it was inherited");
    }
    match execve(program, args, env) {
        Ok(never) => match never {},
        Err(errno) => failure(program, errno),
    }
}

/// A NUL byte inside of a text is EINVAL, as it cannot be passed.
fn execve<I>(program: &Path, args: &[OsString], env: I) -> Result<Infallible, Errno>
where
    I: IntoIterator<Item = (OsString, OsString)>,
{
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno::EINVAL);
    let path = text(program.as_os_str().as_bytes())?;
    let argv = std::iter::once(program.as_os_str()).chain(args.iter().map(OsString::as_os_str));
    let argv: Vec<CString> = argv.map(|arg| text(arg.as_bytes())).collect::<Result<_, _>>()?;
    let variable = |(name, value): (OsString, OsString)| text(&[name.as_bytes(), b"=", value.as_bytes()].concat());
    let env: Vec<CString> = env.into_iter().map(variable).collect::<Result<_, _>>()?;
    nix::unistd::execve(&path, &argv, &env)
}

/// Why this program could not be executed, as far as that can be told without doing it.
pub fn would_fail(program: &Path) -> Option<Fatal> {
    match nix::unistd::eaccess(program, nix::unistd::AccessFlags::X_OK) {
        Ok(()) if program.is_dir() => Some(failure(program, Errno::EACCES)),
        Ok(()) => None,
        Err(errno) => Some(failure(program, errno)),
    }
}

/// Why a program could not be executed, with what helps.
pub fn failure(program: &Path, errno: Errno) -> Fatal {
    let path = program.display();
    let fatal = Fatal::new(Exit::Exec, format!("failed to execute `{path}`: {}", errno.desc()));
    match errno {
        Errno::ENOENT if program.exists() => fatal.hint(format!(
            "the file is there, but its interpreter or dynamic linker is not: this image needs a static `{path}`"
        )),
        Errno::ENOENT => fatal.hint(format!(
            "this image has no `{path}`: set BOOTSTRAP_ETCD to where it is, or copy etcd into the image"
        )),
        Errno::EACCES => fatal.hint(format!(
            "`{path}` needs mode 0755, on a volume that is not mounted noexec, and a user who may reach it"
        )),
        Errno::ENOEXEC => fatal.hint(format!(
            "`{path}` is no program for this machine ({}): take the image of its architecture",
            std::env::consts::ARCH
        )),
        Errno::E2BIG => fatal.hint("the arguments and variables are too long together: take fewer of them"),
        _ => fatal,
    }
}

/// Starts this program anew as a short-lived child that goes on when this process has become etcd. It writes to
/// the same stdout and stderr, and has none of our sockets. Gives its process ID.
///
/// It has a process group of its own, so that what a terminal or a supervisor sends to etcd's group does not end it
/// before its work is done; it should call [`die_with_parent`] first. Nobody waits for it, so when it ends before
/// etcd it stays as a zombie. Call this on the thread that execs later: [`die_with_parent`] means that thread.
///
/// # Errors
/// Where no process could be started.
pub fn spawn_after_exec_child<A, I>(args: A, env: I) -> io::Result<u32>
where
    A: IntoIterator,
    A::Item: AsRef<OsStr>,
    I: IntoIterator<Item = (OsString, OsString)>,
{
    Command::new(OWN_PROGRAM)
        .arg0(env!("CARGO_PKG_NAME"))
        .args(args)
        .env_clear()
        .envs(env)
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .map(|child| child.id())
}

/// Ends this process (SIGKILL) when its parent ends; an exec of the parent is no end.
///
/// In a container the kernel does that by itself when PID 1 ends. This is for everywhere else.
///
/// # Errors
/// Where the kernel refuses it.
pub fn die_with_parent() -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Output;
    use std::time::Duration;

    use super::*;

    /// Set where an ignored test below runs as a process of another test; otherwise it does nothing.
    const IS_PROCESS: &str = "TEST_IS_A_PROCESS";

    fn is_process() -> bool {
        std::env::var_os(IS_PROCESS).is_some()
    }

    /// Runs one of the ignored tests below as a process of its own: what it execs or spawns is its output.
    fn as_process(test: &str, env: &[(&str, &str)]) -> Output {
        let name = format!("exec::tests::{test}");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([&name, "--exact", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env(IS_PROCESS, "1").envs(env.iter().copied()).output().unwrap()
    }

    /// libtest writes on the same line.
    fn word_after<'a>(label: &str, text: &'a str) -> &'a str {
        text.split(label).nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn arguments_and_environment_are_exactly_those_given() {
        let output = as_process("exec_env", &[("LEAKED", "1")]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.ends_with("args=a b\nETCD_NAME=etcd-0\n"), "{text}");
    }

    #[test]
    #[ignore = "a process of arguments_and_environment_are_exactly_those_given"]
    fn exec_env() {
        if !is_process() {
            return;
        }
        let script = "echo \"args=$1 $2\"; exec env -u PWD -u _ -u SHLVL -u OLDPWD";
        let args = ["-c", script, "sh", "a", "b"].map(OsString::from);
        panic!("{}", exec(Path::new("/bin/sh"), &args, [("ETCD_NAME".into(), "etcd-0".into())]));
    }

    #[test]
    fn each_failure_has_its_hint() {
        let dir = tempfile::tempdir().unwrap();
        let program = |name: &str, content: &[u8], mode: u32| {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let missing = dir.path().join("missing");
        for (path, hint) in [
            (missing, "BOOTSTRAP_ETCD"),
            (program("mode", b"#!/bin/sh\n", 0o644), "0755"),
            (program("foreign", b"\x7fELF\x02\x01\x01 of another machine", 0o755), std::env::consts::ARCH),
            (program("dynamic", b"#!/nonexistent/ld.so\n", 0o755), "static"),
        ] {
            let fatal = exec(&path, &[], []);
            assert_eq!(fatal.exit, Exit::Exec);
            assert!(fatal.message.contains(path.to_str().unwrap()), "{fatal}");
            assert!(fatal.hint.contains(hint), "{}: {}", path.display(), fatal.hint);
        }
    }

    /// A child has 0, 1, 2 and what it opened itself, although the parent serves, is connected and has a runtime.
    #[test]
    fn a_child_that_outlives_the_exec_holds_none_of_our_sockets() {
        let output = as_process("spawn_child", &[]);
        let text = String::from_utf8(output.stdout).unwrap();
        let fds = text.split("CHILD FDS").nth(1).unwrap_or_else(|| panic!("{text}"));
        assert!(fds.contains("0=/dev/null") && !fds.contains("socket") && !fds.contains("eventpoll"), "{text}");
        assert!(text.contains("EXECED"), "{text}");
        assert_ne!(word_after("CHILD GROUP ", &text), word_after("PARENT GROUP ", &text));
    }

    #[test]
    #[ignore = "the parent of a_child_that_outlives_the_exec_holds_none_of_our_sockets"]
    fn spawn_child() {
        if !is_process() {
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let urls = ["http://[::]:0".parse().unwrap()];
            let server = crate::http_server::Server::bind(&urls, &crate::http_server::Security::Plain, |_| {
                std::future::pending()
            })
            .unwrap();
            let port = server.addresses()[0].port();
            let _client = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            let args = ["exec::tests::child", "--exact", "--ignored", "--nocapture", "--test-threads=1"];
            spawn_after_exec_child(args, [(IS_PROCESS.into(), "1".into())]).unwrap();
        });
        println!("PARENT GROUP {}", nix::unistd::getpgrp());
        let script = "sleep 0.5; echo EXECED";
        panic!("{}", exec(Path::new("/bin/sh"), &["-c".into(), script.into()], std::env::vars_os()));
    }

    #[test]
    #[ignore = "the child of spawn_child"]
    fn child() {
        if !is_process() {
            return;
        }
        die_with_parent().unwrap();
        std::thread::sleep(Duration::from_millis(200));
        println!("CHILD GROUP {}", nix::unistd::getpgrp());
        let mut fds = String::new();
        for fd in fs::read_dir("/proc/self/fd").unwrap() {
            let path = fd.unwrap().path();
            if let Ok(target) = fs::read_link(&path) {
                fds += &format!(" {}={}", path.file_name().unwrap().display(), target.display());
            }
        }
        println!("CHILD FDS{fds}");
    }

    #[test]
    fn a_child_ends_with_its_parent() {
        let output = as_process("parent_that_ends", &[]);
        assert_eq!(output.status.signal(), None);
        let text = String::from_utf8(output.stdout).unwrap();
        let pid = word_after("CHILD ", &text);
        let gone = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            let status = fs::read_to_string(format!("/proc/{pid}/status"));
            status.map_or(true, |status| status.contains("State:\tZ"))
        });
        assert!(gone, "process {pid} lives on");
    }

    #[test]
    #[ignore = "the parent of a_child_ends_with_its_parent"]
    fn parent_that_ends() {
        if !is_process() {
            return;
        }
        let args = ["exec::tests::child_that_stays", "--exact", "--ignored", "--nocapture", "--test-threads=1"];
        let child = spawn_after_exec_child(args, [(IS_PROCESS.into(), "1".into())]).unwrap();
        println!("CHILD {child}");
        std::thread::sleep(Duration::from_millis(500));
    }

    #[test]
    #[ignore = "the child of parent_that_ends"]
    fn child_that_stays() {
        if !is_process() {
            return;
        }
        die_with_parent().unwrap();
        std::thread::sleep(Duration::from_secs(60));
    }
}

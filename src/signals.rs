//! The signals of PID 1: what ends the program at once, the reaping of orphans, and a clean state for etcd.
//!
//! The kernel drops every signal that PID 1 has no handler for, so a program that does nothing here could only be
//! ended by SIGKILL, after the whole grace period.

use std::collections::BTreeSet;
use std::io;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::SigSet;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Exit;

/// How long a child of our own may stay dead before the reaper looks again for orphans behind it.
const REAP_AGAIN: Duration = Duration::from_millis(50);

/// Linux has 64 signals.
const SIGNAL_MAX: i32 = 64;

/// Our own children, whom somebody here waits for.
static OWN_CHILDREN: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// The handlers of this process. Make it first thing, for a signal that comes before is lost on PID 1.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    child: Signal,
}

impl Signals {
    /// Empties the mask of blocked signals, takes SIGTERM, SIGINT and SIGCHLD, and makes every signal that was
    /// inherited as ignored a caught one: what is caught has its default back after an exec, what is ignored stays
    /// ignored, and etcd would never see it. (`std` makes SIGPIPE such a one in every Rust program.)
    ///
    /// Threads that exist before keep their masks: call it before any is made.
    ///
    /// # Errors
    /// Where a handler cannot be installed.
    ///
    /// # Panics
    /// Outside a tokio runtime that has its I/O driver.
    pub fn install() -> io::Result<Self> {
        SigSet::empty().thread_set_mask()?;
        let signals = Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            child: signal(SignalKind::child())?,
        };
        for number in ignored() {
            // The handler stays when the stream is dropped. libc keeps a few signals to itself, and a synchronous
            // fault (SIGSEGV) cannot be caught so: the kernel does not let a process ignore a fault anyway.
            let forbidden = [nix::libc::SIGILL, nix::libc::SIGFPE, nix::libc::SIGSEGV].contains(&number);
            if forbidden || signal(SignalKind::from_raw(number)).is_err() {
                tracing::debug!(signal = number, "was inherited as ignored, and stays so");
            }
        }
        Ok(signals)
    }

    /// Resolves when the program has to end, to the code that it has to end with. Reaps orphans meanwhile.
    ///
    /// Select on it around everything that waits, and end with `std::process::exit` rather than by returning where
    /// a blocking thread may still be busy. It can be dropped and called again without losing a signal.
    pub async fn ended(&mut self) -> Exit {
        let mut again = !reap_orphans();
        loop {
            tokio::select! {
                biased;
                Some(()) = self.terminate.recv() => return Exit::Terminated,
                Some(()) = self.interrupt.recv() => return Exit::Interrupted,
                Some(()) = self.child.recv() => again = !reap_orphans(),
                () = tokio::time::sleep(REAP_AGAIN), if again => again = !reap_orphans(),
            }
        }
    }

    /// Whether a signal has come that ends the program, as the last look before the exec.
    pub async fn ended_already(&mut self) -> Option<Exit> {
        // The first turn lets the driver hand over what the handler has noted.
        tokio::task::yield_now().await;
        tokio::time::timeout(Duration::ZERO, self.ended()).await.ok()
    }
}

/// The numbers of the ignored signals of this process.
fn ignored() -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    (1..=SIGNAL_MAX).filter(|number| mask >> (number - 1) & 1 == 1).collect()
}

/// A child of our own, which the reaper leaves to whoever holds this.
#[derive(Debug)]
pub struct OwnChild {
    /// The child.
    pub child: Child,
    pid: i32,
}

impl Drop for OwnChild {
    fn drop(&mut self) {
        own_children().remove(&self.pid);
    }
}

/// Starts a child whose exit status is wanted. Every child of this program is started so, or is reaped as if it
/// were an orphan.
///
/// # Errors
/// Where it cannot be started.
pub fn spawn(command: &mut Command) -> io::Result<OwnChild> {
    // The reaper takes the same lock, so that it cannot see the child before its number is known.
    let mut own = own_children();
    let child = command.spawn()?;
    let pid = child.id().cast_signed();
    own.insert(pid);
    Ok(OwnChild { child, pid })
}

fn own_children() -> MutexGuard<'static, BTreeSet<i32>> {
    OWN_CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reaps children that have ended and that nobody here waits for: orphans that the kernel has given to PID 1.
/// False where one of our own stands before others in the kernel's queue, so that another look is needed.
fn reap_orphans() -> bool {
    let own = own_children();
    loop {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let pid = match waitid(Id::All, look) {
            Ok(status) => match status.pid() {
                Some(pid) => pid,
                None => return true,
            },
            Err(Errno::EINTR) => continue,
            Err(_) => return true,
        };
        if own.contains(&pid.as_raw()) {
            return false;
        }
        reap(pid);
    }
}

fn reap(pid: Pid) {
    match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, code)) => tracing::debug!(%pid, code, "reaped an orphan"),
        other => tracing::debug!(%pid, ?other, "reaped an orphan"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Output, Stdio};
    use std::time::Instant;

    use super::*;

    /// Set where an ignored test below runs as a process of another test; otherwise it does nothing.
    const IS_PROCESS: &str = "TEST_IS_A_PROCESS";

    fn is_process() -> bool {
        std::env::var_os(IS_PROCESS).is_some()
    }

    /// Runs one of the ignored tests below as a process of its own; through a shell that ignores some signals.
    fn as_process(test: &str, shell: &str) -> Output {
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("{shell} exec \"$0\" \"$@\"")]).arg(program);
        command.arg(format!("signals::tests::{test}"));
        command.args(["--exact", "--ignored", "--nocapture", "--test-threads=1"]).stdin(Stdio::null());
        command.env(IS_PROCESS, "1").output().unwrap()
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// Signal sets as `/proc` has them, after the exec.
    fn sets(output: &Output) -> Vec<(String, u64)> {
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        let sets = text.lines().filter(|line| ["SigB", "SigI", "SigC"].contains(&line.get(..4).unwrap_or_default()));
        sets.map(|line| {
            let (name, set) = line.split_once(':').unwrap();
            (name.to_owned(), u64::from_str_radix(set.trim(), 16).unwrap())
        })
        .collect()
    }

    const IGNORE: &str = "trap '' TERM INT HUP USR1 QUIT;";

    #[test]
    fn etcd_gets_no_ignored_and_no_blocked_signal() {
        // The shell cannot block; the mask of this thread is inherited, by the shell and by what it execs.
        let blocked: SigSet = [nix::libc::SIGTERM, nix::libc::SIGINT, nix::libc::SIGHUP]
            .into_iter()
            .map(|number| nix::sys::signal::Signal::try_from(number).unwrap())
            .collect();
        blocked.thread_block().unwrap();
        let dirty = as_process("exec_without_install", IGNORE);
        let clean = as_process("exec_after_install", IGNORE);
        blocked.thread_unblock().unwrap();

        let bits = |numbers: &[i32]| numbers.iter().fold(0, |set, number| set | 1_u64 << (number - 1));
        let dirty = sets(&dirty);
        assert_eq!(dirty[0], ("SigBlk".to_owned(), bits(&[1, 2, 15])), "the test blocks");
        assert_eq!(dirty[1].1 & bits(&[1, 2, 3, 10, 13, 15]), bits(&[1, 2, 3, 10, 13, 15]), "the test ignores");
        // libc keeps 32 to 34 to itself: where one of these was inherited as ignored, nobody can mend it.
        let free = |(name, set): (String, u64)| (name, set & !bits(&[32, 33, 34]));
        let clean: Vec<_> = sets(&clean).into_iter().map(free).collect();
        assert_eq!(clean, ["SigBlk", "SigIgn", "SigCgt"].map(|name| (name.to_owned(), 0)));
    }

    fn exec_cat() -> ! {
        panic!("{}", crate::exec::exec(Path::new("/bin/cat"), &["/proc/self/status".into()], std::env::vars_os()));
    }

    #[test]
    #[ignore = "a process of etcd_gets_no_ignored_and_no_blocked_signal"]
    fn exec_after_install() {
        if !is_process() {
            return;
        }
        let runtime = runtime();
        let signals = runtime.block_on(async { Signals::install().unwrap() });
        drop((signals, runtime));
        println!();
        exec_cat();
    }

    #[test]
    #[ignore = "a process of etcd_gets_no_ignored_and_no_blocked_signal"]
    fn exec_without_install() {
        if !is_process() {
            return;
        }
        println!();
        let never = nix::unistd::execv(c"/bin/cat", &[c"cat", c"/proc/self/status"]);
        panic!("{never:?}");
    }

    /// What PID 1 meets: SIGTERM and SIGINT, ignored and blocked by whoever started it, while it waits.
    #[test]
    fn a_signal_ends_it_within_100_ms_even_where_it_was_ignored() {
        for (name, code) in [("TERM", 143), ("INT", 130)] {
            let kill = format!("trap '' TERM INT; pid=$$; (sleep 0.5; kill -{name} $pid) & ");
            let output = as_process("wait_for_the_end", &kill);
            assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stdout));
        }
    }

    #[test]
    #[ignore = "a process of a_signal_ends_it_within_100_ms_even_where_it_was_ignored"]
    fn wait_for_the_end() {
        if !is_process() {
            return;
        }
        let runtime = runtime();
        let exit = runtime.block_on(async {
            let mut signals = Signals::install().unwrap();
            tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_secs(60)));
            assert_eq!(signals.ended_already().await, None);
            let start = Instant::now();
            let exit = tokio::time::timeout(Duration::from_secs(5), signals.ended()).await.unwrap();
            assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
            exit
        });
        std::process::exit(exit.code().into());
    }

    #[test]
    fn a_signal_that_came_while_nobody_asked_is_not_lost() {
        let output = as_process("asks_late", "");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    #[test]
    #[ignore = "a process of a_signal_that_came_while_nobody_asked_is_not_lost"]
    fn asks_late() {
        if !is_process() {
            return;
        }
        runtime().block_on(async {
            let mut signals = Signals::install().unwrap();
            let _dropped = tokio::time::timeout(Duration::from_millis(5), signals.ended()).await;
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
            assert_eq!(signals.ended_already().await, Some(Exit::Terminated));
        });
    }

    #[test]
    fn orphans_are_reaped_and_own_children_are_left_alone() {
        let output = as_process("reap", "");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    #[ignore = "a process of orphans_are_reaped_and_own_children_are_left_alone"]
    fn reap() {
        if !is_process() {
            return;
        }
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        runtime().block_on(async {
            let mut signals = Signals::install().unwrap();
            let mut own = spawn(Command::new("/bin/sh").args(["-c", "exit 7"])).unwrap();
            let mut orphans =
                spawn(Command::new("/bin/sh").args(["-c", "for i in 1 2 3; do sleep 0.1 & done"])).unwrap();
            let waiting = tokio::time::timeout(Duration::from_millis(500), signals.ended());
            assert!(waiting.await.is_err());
            // Both of our own are still there to be waited for, with their status, although they ended first.
            assert_eq!(own.child.wait().unwrap().code(), Some(7));
            assert!(orphans.child.wait().unwrap().success());
            drop((own, orphans));
            let waiting = tokio::time::timeout(Duration::from_millis(200), signals.ended());
            assert!(waiting.await.is_err());
            assert_eq!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Err(Errno::ECHILD), "a zombie is left");
        });
    }
}

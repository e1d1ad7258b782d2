//! Points at which a test can kill the process, before and after each effect. Compiled in for tests only.
//!
//! With the feature `failpoints`: `ETCD_BOOTSTRAP_FAILPOINT=NAME` or `NAME:N` ends the process with SIGKILL when it
//! reaches NAME (for the N-th time), and `ETCD_BOOTSTRAP_FAILPOINTS_LOG=FILE` collects the names of the points that
//! were reached, one a line, so that a test can enumerate them. `ETCD_BOOTSTRAP_FAILPOINT_HOLD=NAME` makes it stay at
//! NAME, the first time, until that file is gone. The points of the child that outlives the exec have `child/` before
//! their names. Without the feature nothing is compiled.

use std::future::Future;

/// Carries out an effect between two points, `before` and `after`.
pub async fn around<T>(before: &str, after: &str, effect: impl Future<Output = T>) -> T {
    reach(before);
    let done = effect.await;
    reach(after);
    done
}

/// Says that the process is at this point.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn reach(_name: &str) {}

/// Says that the process is at this point.
#[cfg(feature = "failpoints")]
pub fn reach(name: &str) {
    use std::sync::atomic::{AtomicU32, Ordering};
    static REACHED: AtomicU32 = AtomicU32::new(0);

    let name = if is_child() { format!("child/{name}") } else { name.to_owned() };
    if let Ok(log) = std::env::var("ETCD_BOOTSTRAP_FAILPOINTS_LOG") {
        append(&log, &name);
    }
    if std::env::var("ETCD_BOOTSTRAP_FAILPOINT_HOLD").is_ok_and(|hold| hold == name) {
        stay();
    }
    let Ok(wanted) = std::env::var("ETCD_BOOTSTRAP_FAILPOINT") else { return };
    let (wanted, times) = match wanted.rsplit_once(':') {
        Some((wanted, times)) => (wanted.to_owned(), times.parse().unwrap_or(1)),
        None => (wanted, 1),
    };
    if wanted == name && REACHED.fetch_add(1, Ordering::SeqCst) + 1 == times {
        kill_self();
    }
}

#[cfg(feature = "failpoints")]
fn stay() {
    static STAYED: std::sync::Once = std::sync::Once::new();
    let log = std::env::var("ETCD_BOOTSTRAP_FAILPOINTS_LOG").unwrap_or_default();
    STAYED.call_once(|| {
        while std::path::Path::new(&log).exists() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    });
}

#[cfg(feature = "failpoints")]
fn is_child() -> bool {
    std::env::args().nth(1).is_some_and(|command| command == crate::after_start::COMMAND)
}

#[cfg(feature = "failpoints")]
fn append(log: &str, name: &str) {
    use std::io::Write;

    let file = std::fs::OpenOptions::new().create(true).append(true).open(log);
    // One write, so that the lines of two processes do not mix.
    if let Err(error) = file.and_then(|mut file| file.write_all(format!("{name}\n").as_bytes())) {
        eprintln!("failpoints: failed to write `{log}`: {error}");
    }
}

#[cfg(feature = "failpoints")]
fn kill_self() -> ! {
    // PID 1 of a namespace is deaf to its own SIGKILL: then an abrupt end that runs no clean-up has to do.
    let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL);
    std::process::abort();
}

#[cfg(test)]
#[cfg(feature = "failpoints")]
mod tests;

//! Points at which a test can kill the process, before and after each effect. Compiled in for tests only.
//!
//! With the feature `failpoints`: `ETCD_BOOTSTRAP_FAILPOINT=NAME` or `NAME:N` ends the process with SIGKILL when it
//! reaches NAME (for the N-th time), and `ETCD_BOOTSTRAP_FAILPOINTS_LOG=FILE` collects the names of the points that
//! were reached, one a line, so that a test can enumerate them. Without the feature nothing is compiled.

/// Says that the process is at this point.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn reach(_name: &str) {}

/// Says that the process is at this point.
#[cfg(feature = "failpoints")]
pub fn reach(name: &str) {
    use std::sync::atomic::{AtomicU32, Ordering};
    static REACHED: AtomicU32 = AtomicU32::new(0);

    if let Ok(log) = std::env::var("ETCD_BOOTSTRAP_FAILPOINTS_LOG") {
        append(&log, name);
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

//! Waiting for a condition with a deadline: no scenario sleeps for a fixed time.

use std::time::{Duration, Instant};

use super::PAUSE;

/// Polls until `poll` succeeds; panics with its last reason when the deadline has passed.
#[track_caller]
pub fn eventually<T>(deadline: Duration, what: &str, poll: impl FnMut() -> Result<T, String>) -> T {
    match try_eventually(deadline, poll) {
        Ok(value) => value,
        Err(reason) => panic!("{what}: not within {deadline:?}: {reason}"),
    }
}

/// As [`eventually`], but hands the last reason back.
pub fn try_eventually<T>(deadline: Duration, mut poll: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let end = Instant::now() + deadline;
    loop {
        let reason = match poll() {
            Ok(value) => return Ok(value),
            Err(reason) => reason,
        };
        if Instant::now() >= end {
            return Err(reason);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Polls for the whole duration and panics as soon as the condition does not hold.
#[track_caller]
pub fn stays(duration: Duration, what: &str, mut poll: impl FnMut() -> Result<(), String>) {
    let begin = Instant::now();
    while begin.elapsed() < duration {
        if let Err(reason) = poll() {
            panic!("{what}: no longer so after {:?}: {reason}", begin.elapsed());
        }
        std::thread::sleep(PAUSE);
    }
}

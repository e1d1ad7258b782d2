//! How many packets this pod may send to DNS: at most two a second, averaged over any minute.
//!
//! A bucket of [`BURST`] tokens that refills at [`REFILL_PER_SECOND`]; each packet takes one, retries included, so
//! no minute can see more than `BURST + 60 s x REFILL_PER_SECOND` = 116 of them, the first one after the start too.
//! What is only polled for leaves a reserve, so that whoever has a reason to ask need not wait.

use std::time::Duration;

/// The most tokens that the bucket holds, and what it starts with.
pub const BURST: f64 = 20.0;
/// Tokens that come back each second.
pub const REFILL_PER_SECOND: f64 = 1.6;

/// Why a question is asked, which says how much of the reserve it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Time has passed.
    Poll,
    /// Something has happened: a peer has dialled this pod, or could not be dialled.
    Kick,
    /// A membership call or an exec waits for the answer.
    Fresh,
}

impl Urgency {
    /// The tokens that must be left over after one has been taken.
    pub fn reserve(self) -> f64 {
        match self {
            Self::Poll => 6.0,
            Self::Kick => 2.0,
            Self::Fresh => 0.0,
        }
    }
}

/// A token bucket. It has no clock: `now` is the time since any fixed moment.
#[derive(Clone, Debug)]
pub struct Bucket {
    capacity: f64,
    refill_per_second: f64,
    level: f64,
    at: Duration,
}

impl Default for Bucket {
    fn default() -> Self {
        Self::new(BURST, REFILL_PER_SECOND)
    }
}

impl Bucket {
    /// A full bucket.
    pub fn new(capacity: f64, refill_per_second: f64) -> Self {
        Self { capacity, refill_per_second, level: capacity, at: Duration::ZERO }
    }

    /// The tokens that are there.
    pub fn level(&self, now: Duration) -> f64 {
        let refilled = now.saturating_sub(self.at).as_secs_f64() * self.refill_per_second;
        (self.level + refilled).min(self.capacity)
    }

    /// How long until a token may be taken that leaves `reserve`; zero is now.
    pub fn wait(&self, now: Duration, reserve: f64) -> Duration {
        let lacking = reserve + 1.0 - self.level(now);
        if lacking <= 0.0 {
            return Duration::ZERO;
        }
        // Rounded up, so that whoever waits that long finds the token.
        Duration::from_secs_f64(lacking / self.refill_per_second) + Duration::from_micros(1)
    }

    /// Takes a token, or says how long until there is one that leaves `reserve`.
    pub fn take(&mut self, now: Duration, reserve: f64) -> Result<(), Duration> {
        let wait = self.wait(now, reserve);
        if wait > Duration::ZERO {
            return Err(wait);
        }
        self.level = self.level(now) - 1.0;
        self.at = self.at.max(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_reserve_is_kept_for_those_who_have_a_reason() {
        let mut bucket = Bucket::default();
        let now = Duration::ZERO;
        let polls = (0..100).filter(|_| bucket.take(now, Urgency::Poll.reserve()).is_ok()).count();
        let kicks = (0..100).filter(|_| bucket.take(now, Urgency::Kick.reserve()).is_ok()).count();
        let fresh = (0..100).filter(|_| bucket.take(now, Urgency::Fresh.reserve()).is_ok()).count();
        assert_eq!((polls, kicks, fresh), (14, 4, 2));
        let wait = bucket.take(now, 0.0).unwrap_err();
        assert!((wait.as_secs_f64() - 1.0 / REFILL_PER_SECOND).abs() < 1e-3, "{wait:?}");
        assert!(bucket.take(now + wait, 0.0).is_ok());
    }

    proptest! {
        /// Whoever asks however often and for whatever reason: no window of a minute sees more than 120 packets.
        #[test]
        fn no_minute_sees_more_than_two_a_second(asks in prop::collection::vec((0u64..400, 0usize..3), 1..3000)) {
            let mut bucket = Bucket::default();
            let mut now = Duration::ZERO;
            let mut sent = Vec::new();
            for (pause_ms, urgency) in asks {
                now += Duration::from_millis(pause_ms);
                let urgency = [Urgency::Poll, Urgency::Kick, Urgency::Fresh][urgency];
                if bucket.take(now, urgency.reserve()).is_ok() {
                    sent.push(now);
                }
            }
            let mut first = 0;
            for (last, at) in sent.iter().enumerate() {
                while *at - sent[first] > Duration::from_secs(60) {
                    first += 1;
                }
                prop_assert!(last - first < 120, "{} packets in a minute", last - first + 1);
            }
        }
    }
}

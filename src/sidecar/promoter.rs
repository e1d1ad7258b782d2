//! Promotes the own learner beside a running etcd, and notices when a leader lists the member as a voter.

use std::time::Duration;

use tokio::time::Instant;

use crate::after_start;
use crate::etcd::Access;
use crate::observation::Observation;
use crate::own_etcd::OwnEtcd;
use crate::peers::PeerClient;

/// A learner is promoted once it is in sync; it is tried again soon at first.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Tries at its own pace.
pub struct Promoter {
    next_try: Instant,
    pause: Duration,
    done: bool,
}

impl Promoter {
    /// One that has everything to do.
    pub fn new() -> Self {
        Self { next_try: Instant::now(), pause: PAUSE_MIN, done: false }
    }

    /// A leader has listed the member as a voter.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Does what is to be done now. True where a leader lists the member as a voter.
    pub async fn look(&mut self, seen: &Observation, own: &OwnEtcd, client: &PeerClient, access: &Access) -> bool {
        let Some(member_id) = own.member_id() else {
            self.done = false;
            return false;
        };
        let Some(list) = crate::cluster::newest_of_all(seen) else { return false };
        match crate::cluster::by_id(&list.members, member_id) {
            Some(listed) if !listed.is_learner => {
                self.done = true;
                return true;
            }
            Some(_) if Instant::now() >= self.next_try => {}
            _ => return false,
        }
        match after_start::promote(list, member_id, client, access, seen).await {
            Ok(()) => tracing::info!(%member_id, "this member is a voter now"),
            Err(failure) => tracing::debug!(%member_id, %failure, "not promoted yet"),
        }
        self.next_try = Instant::now() + self.pause.mul_f64(rand::random_range(0.75..1.25));
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        false
    }
}

impl Default for Promoter {
    fn default() -> Self {
        Self::new()
    }
}

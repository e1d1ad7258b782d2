//! A client that writes numbered keys without pause and remembers what was acknowledged.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use etcd_client::Client;

use super::client::{connect, runtime};
use super::pod::Pod;
use super::wait::eventually;
use super::world::World;

/// One attempt at one member; shorter than an election, so that gaps are the cluster's.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(500);
const PACE: Duration = Duration::from_millis(5);

/// What a writer has got acknowledged.
#[derive(Clone, Debug)]
pub struct Written {
    pub prefix: String,
    /// The numbers of the acknowledged keys; a key's value is its number.
    pub acknowledged: Vec<u64>,
    pub attempts_failed: u64,
    pub last_failure: Option<String>,
    /// Between two acknowledgements, or since the last one.
    pub longest_gap: Duration,
    /// The number of the key before that gap.
    pub longest_gap_after: u64,
}

impl Written {
    pub fn key(&self, number: u64) -> String {
        format!("{}{number:08}", self.prefix)
    }
}

struct Shared {
    targets: Mutex<Vec<Pod>>,
    stop: AtomicBool,
    acknowledged: AtomicU64,
}

pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Written>>,
}

impl Writer {
    pub fn start(world: &World, targets: &[&Pod]) -> Self {
        Self::start_with_prefix(world, targets, "w/")
    }

    /// For several writers, or a writer of a second cluster's life.
    pub fn start_with_prefix(world: &World, targets: &[&Pod], prefix: &str) -> Self {
        Self::start_with_pace(world, targets, prefix, PACE)
    }

    /// With its own pause between two writes.
    pub fn start_with_pace(world: &World, targets: &[&Pod], prefix: &str, pace: Duration) -> Self {
        let shared = Arc::new(Shared {
            targets: Mutex::default(),
            stop: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
        });
        let written = Written {
            prefix: prefix.to_owned(),
            acknowledged: Vec::new(),
            attempts_failed: 0,
            last_failure: None,
            longest_gap: Duration::ZERO,
            longest_gap_after: 0,
        };
        let node = Arc::clone(world.node());
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                node.netns.enter();
                runtime().block_on(write(&shared, written, pace))
            }
        });
        let writer = Self { shared, thread: Some(thread) };
        writer.targets(targets);
        writer
    }

    /// From now on it writes to these pods.
    pub fn targets(&self, pods: &[&Pod]) {
        let pods = pods.iter().map(|pod| (*pod).clone()).collect();
        *self.shared.targets.lock().expect("no holder panics") = pods;
    }

    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits for so many more acknowledgements.
    #[track_caller]
    pub fn wait_for(&self, more: u64, deadline: Duration) {
        let wanted = self.acknowledged() + more;
        eventually(deadline, &format!("{more} more writes"), || {
            let now = self.acknowledged();
            let enough = (now >= wanted).then_some(());
            enough.ok_or_else(|| format!("{now} of {wanted} are acknowledged"))
        });
    }

    pub fn stop(mut self) -> Written {
        self.shared.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("a writer stops once");
        thread.join().expect("the writer's thread died")
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Writes one number after the other; a number is tried again until it is acknowledged.
async fn write(shared: &Shared, mut written: Written, pace: Duration) -> Written {
    let mut clients = HashMap::new();
    let mut last = Instant::now();
    let mut number = 1;
    let mut turn = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let targets = shared.targets.lock().expect("no holder panics").clone();
        let Some(pod) = targets.get(turn % targets.len().max(1)) else {
            tokio::time::sleep(pace).await;
            continue;
        };
        match attempt(&mut clients, pod, &written.key(number), number).await {
            Ok(()) => {
                written.note_gap(last.elapsed());
                last = Instant::now();
                written.acknowledged.push(number);
                shared.acknowledged.store(number, Ordering::Relaxed);
                number += 1;
            }
            Err(reason) => {
                written.attempts_failed += 1;
                written.last_failure = Some(reason);
                turn += 1;
            }
        }
        tokio::time::sleep(pace).await;
    }
    written.note_gap(last.elapsed());
    written
}

impl Written {
    fn note_gap(&mut self, gap: Duration) {
        if gap > self.longest_gap {
            self.longest_gap = gap;
            self.longest_gap_after = self.acknowledged.last().copied().unwrap_or(0);
        }
    }
}

async fn attempt(clients: &mut HashMap<IpAddr, Client>, pod: &Pod, key: &str, number: u64) -> Result<(), String> {
    let address = pod.addresses().first().copied();
    let address = address.ok_or_else(|| format!("{} is not there", pod.name()))?;
    let put = async {
        let mut client = match clients.get(&address) {
            Some(client) => client.clone(),
            None => connect(pod).await?,
        };
        let put = client.put(key, number.to_string(), None).await;
        put.map(|_| client).map_err(|e| format!("{}: {e}", pod.name()))
    };
    match tokio::time::timeout(ATTEMPT_TIMEOUT, put).await {
        Ok(Ok(client)) => {
            clients.insert(address, client);
            Ok(())
        }
        Ok(Err(reason)) => {
            clients.remove(&address);
            Err(reason)
        }
        Err(_) => {
            clients.remove(&address);
            Err(format!("{}: no answer within {ATTEMPT_TIMEOUT:?}", pod.name()))
        }
    }
}

//! One isolated cluster: a node's network, its DNS and its pods. Dropping it removes everything.

use std::fs;
use std::net::SocketAddr;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once};
use std::time::Duration;

use super::dns::Dns;
use super::http::{self, HttpAnswer};
use super::netns::Netns;
use super::network::{self, Family};
use super::partitions::{Partitions, PodId};
use super::pod::Pod;
use super::spec::PodSpec;
use super::tools;

const DIRECTORY_PREFIX: &str = "etcd-bootstrap-pods-";
const LOG_LINES_ON_PANIC: usize = 60;

static WORLDS: AtomicU32 = AtomicU32::new(0);

/// What pods share; kept alive by each of them.
pub(crate) struct Node {
    pub(crate) netns: Arc<Netns>,
    pub(crate) family: Family,
    pub(crate) dns: Dns,
    partitions: Mutex<Partitions>,
    addresses_given: AtomicU32,
    directories_made: AtomicU32,
    dir: PathBuf,
}

impl Node {
    pub(crate) fn next_address(&self) -> u32 {
        self.addresses_given.fetch_add(1, Ordering::Relaxed)
    }

    /// A new directory of this world on the host.
    pub(crate) fn new_directory(&self, name: &str) -> PathBuf {
        let number = self.directories_made.fetch_add(1, Ordering::Relaxed);
        let dir = self.dir.join(format!("{name}-{number}"));
        fs::create_dir_all(&dir).expect("failed to make a directory of the world");
        dir
    }

    /// Changes who reaches whom, and the node's rules with it.
    pub(crate) fn repartition(&self, change: impl FnOnce(&mut Partitions)) {
        let mut partitions = self.partitions.lock().expect("no holder panics");
        change(&mut partitions);
        partitions.apply(&self.netns);
    }
}

pub struct World {
    node: Arc<Node>,
    pods: Mutex<Vec<Pod>>,
}

impl World {
    pub fn new(family: Family) -> Self {
        tools::require();
        static SWEEP: Once = Once::new();
        SWEEP.call_once(sweep_leftovers);
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{DIRECTORY_PREFIX}{}-{number}", std::process::id());
        let dir = base_directory().join(name);
        fs::create_dir_all(&dir).expect("failed to make the world's directory");
        let netns = Arc::new(network::new_node(family));
        let dns = Dns::start(&netns, &family.dns_addresses());
        let node = Node {
            netns,
            family,
            dns,
            partitions: Mutex::default(),
            addresses_given: AtomicU32::new(0),
            directories_made: AtomicU32::new(0),
            dir,
        };
        Self { node: Arc::new(node), pods: Mutex::default() }
    }

    pub fn v4() -> Self {
        Self::new(Family::V4)
    }

    pub fn v6() -> Self {
        Self::new(Family::V6)
    }

    pub fn dual() -> Self {
        Self::new(Family::Dual)
    }

    fn all_pods(&self) -> MutexGuard<'_, Vec<Pod>> {
        match self.pods.lock() {
            Ok(pods) => pods,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    /// A pod, not yet started.
    pub fn pod(&self, spec: PodSpec) -> Pod {
        let mut pods = self.all_pods();
        let id = PodId::try_from(pods.len()).expect("not that many pods");
        let pod = Pod::new(id, spec, Arc::clone(&self.node));
        assert!(pods.iter().all(|known| known.key() != pod.key()), "there is a pod {} already", pod.key());
        pods.push(pod.clone());
        pod
    }

    /// Pods `SET-ORDINAL`, not yet started.
    pub fn pods(
        &self,
        set: &str,
        ordinals: impl RangeBounds<u32> + Iterator<Item = u32>,
        template: impl Fn(PodSpec) -> PodSpec,
    ) -> Vec<Pod> {
        ordinals.map(|ordinal| self.pod(template(PodSpec::new(&format!("{set}-{ordinal}"))))).collect()
    }

    pub fn dns(&self) -> &Dns {
        &self.node.dns
    }

    pub fn family(&self) -> Family {
        self.node.family
    }

    /// Nothing gets from one group to the other any more, silently; the DNS answers both.
    pub fn partition(&self, group: &[&Pod], others: &[&Pod]) {
        self.node.repartition(|partitions| {
            for a in group {
                for b in others {
                    partitions.cut(a.id(), b.id());
                }
            }
        });
    }

    /// Every pod reaches every pod and the DNS again.
    pub fn heal(&self) {
        for pod in self.all_pods().iter() {
            pod.heal();
        }
        self.node.repartition(Partitions::clear);
    }

    /// Runs `work` on a thread inside the node's network namespace.
    pub fn in_node<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.node.netns.run(work)
    }

    /// A command inside the node's network namespace.
    pub fn run(&self, argv: &[&str]) -> Result<String, String> {
        self.in_node(|| tools::run(argv))
    }

    pub fn http_get(&self, address: SocketAddr, path: &str, deadline: Duration) -> Result<HttpAnswer, String> {
        self.in_node(|| http::get(address, None, path, deadline))
    }

    /// Where the world's files are.
    pub fn directory(&self) -> &Path {
        &self.node.dir
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    fn print_logs(&self) {
        for pod in self.all_pods().iter() {
            println!("{}", pod.log_tail(LOG_LINES_ON_PANIC));
        }
        println!("--- the DNS server's last queries");
        println!("{}", self.node.dns.log_tail(LOG_LINES_ON_PANIC));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_logs();
        }
        for pod in self.all_pods().drain(..) {
            pod.destroy();
        }
        self.node.dns.stop();
        if let Err(e) = fs::remove_dir_all(&self.node.dir) {
            eprintln!("failed to remove {}: {e}", self.node.dir.display());
        }
    }
}

fn base_directory() -> PathBuf {
    match std::env::var_os("TEST_PODS_DIR") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => std::env::temp_dir(),
    }
}

/// Removes the files of test processes that were killed; nothing else of theirs outlived them.
pub fn sweep_leftovers() {
    for entry in fs::read_dir(base_directory()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(DIRECTORY_PREFIX) else {
            continue;
        };
        let process = rest.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(process).exists() {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

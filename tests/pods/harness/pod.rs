//! A pod: its network, its volumes and the container that runs in it.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::container::{Container, Exit};
use super::dns::FaultId;
use super::network::PodNetwork;
use super::partitions::PodId;
use super::process;
use super::spec::PodSpec;
use super::volumes;
use super::wait::eventually;
use super::world::Node;

const FREEZE_DEADLINE: Duration = Duration::from_secs(5);

/// A handle; clones are the same pod.
#[derive(Clone)]
pub struct Pod {
    inner: Arc<Inner>,
}

struct Inner {
    id: PodId,
    name: String,
    key: String,
    dir: PathBuf,
    node: Arc<Node>,
    state: Mutex<State>,
}

struct State {
    spec: PodSpec,
    network: Option<Arc<PodNetwork>>,
    addresses: Vec<IpAddr>,
    container: Option<Arc<Container>>,
    containers_started: u32,
    dns_cut: Option<FaultId>,
}

impl Pod {
    pub(crate) fn new(id: PodId, spec: PodSpec, node: Arc<Node>) -> Self {
        let dir = node.new_directory(&spec.name);
        for place in ["root", "etc", "files", "volumes"] {
            fs::create_dir_all(dir.join(place)).expect("failed to make a pod's directory");
        }
        let inner = Inner {
            id,
            name: spec.name.clone(),
            key: format!("{}.{}.{}", spec.name, spec.service, spec.namespace),
            dir,
            node,
            state: Mutex::new(State {
                spec,
                network: None,
                addresses: Vec::new(),
                container: None,
                containers_started: 0,
                dns_cut: None,
            }),
        };
        let pod = Self { inner: Arc::new(inner) };
        for mount_point in pod.spec().volumes {
            fs::create_dir_all(pod.volume_dir(&mount_point)).expect("failed to make a volume");
        }
        pod
    }

    fn state(&self) -> MutexGuard<'_, State> {
        match self.inner.state.lock() {
            Ok(state) => state,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.inner.node
    }

    pub(crate) fn id(&self) -> PodId {
        self.inner.id
    }

    /// `POD.SERVICE.NAMESPACE`: pods of several services may share a name.
    pub(crate) fn key(&self) -> String {
        self.inner.key.clone()
    }

    pub fn name(&self) -> String {
        self.inner.name.clone()
    }

    pub fn spec(&self) -> PodSpec {
        self.state().spec.clone()
    }

    /// Changes what the next start runs.
    pub fn edit(&self, change: impl FnOnce(&mut PodSpec)) {
        change(&mut self.state().spec);
    }

    /// The present addresses, IPv4 first; none where the pod is gone.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let state = self.state();
        let network = state.network.as_ref();
        network.map_or(Vec::new(), |network| network.addresses.clone())
    }

    pub fn address(&self) -> IpAddr {
        let first = self.addresses().first().copied();
        first.unwrap_or_else(|| panic!("{} has no address: it is not there", self.name()))
    }

    /// The name server in the pod's resolv.conf.
    pub fn dns_server(&self) -> IpAddr {
        self.inner.node.family.dns_addresses()[0]
    }

    // --- life

    /// Starts it as a new pod: new address, new record, the same volumes.
    pub fn start(&self) {
        let number = self.inner.node.next_address();
        self.create(self.inner.node.family.pod_addresses(number));
        self.start_container();
    }

    /// As [`Pod::start`], with the address that it had before.
    pub fn start_keeping_address(&self) {
        let addresses = self.state().addresses.clone();
        assert!(!addresses.is_empty(), "{} never had an address", self.name());
        self.create(addresses);
        self.start_container();
    }

    /// Ends the container if it runs, and starts one in the same pod: same address and network.
    pub fn restart_container(&self) {
        assert!(self.exists(), "{} is not there: start() it", self.name());
        if let Some(container) = self.container() {
            container.kill();
        }
        self.start_container();
    }

    /// Deletes the pod, if it is there, and starts it as a new one.
    pub fn restart(&self) {
        self.kill();
        self.start();
    }

    /// SIGKILL of all processes; the container is dead, the pod keeps its network and record.
    pub fn crash_container(&self) {
        if let Some(container) = self.container() {
            container.kill();
        }
    }

    /// SIGKILL of all processes; the pod is gone, and its record goes.
    pub fn kill(&self) {
        self.crash_container();
        self.remove();
    }

    /// SIGTERM to PID 1, and SIGKILL after the grace period; then the pod is gone.
    pub fn stop(&self, grace: Duration) -> Exit {
        let container = self.container();
        let container = container.unwrap_or_else(|| panic!("{} never ran", self.name()));
        container.signal(Signal::SIGTERM);
        if container.wait_for_exit(grace).is_none() {
            container.kill();
        }
        self.remove();
        container.exit().expect("it has ended")
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(container) = self.container() {
            container.signal(signal);
        }
    }

    /// SIGSTOP of every process; returns once each of their threads has stopped.
    #[track_caller]
    pub fn freeze(&self) {
        let Some(container) = self.container() else {
            return;
        };
        container.signal_all(Signal::SIGSTOP);
        eventually(FREEZE_DEADLINE, "every process stopped", || {
            let mut pids = container.processes();
            pids.retain(|&pid| !process::is_stopped(pid));
            let stopped = pids.is_empty().then_some(());
            stopped.ok_or_else(|| format!("{pids:?} still run"))
        });
    }

    pub fn thaw(&self) {
        if let Some(container) = self.container() {
            container.signal_all(Signal::SIGCONT);
        }
    }

    fn create(&self, addresses: Vec<IpAddr>) {
        assert!(!self.exists(), "{} is there already", self.name());
        let node = &self.inner.node;
        let link = format!("pod{}", self.inner.id);
        node.repartition(|partitions| partitions.set_addresses(self.inner.id, addresses.clone()));
        let network = PodNetwork::new(&node.netns, node.family, link, addresses.clone());
        let mut state = self.state();
        state.network = Some(Arc::new(network));
        state.addresses.clone_from(&addresses);
        drop(state);
        node.dns.publish(self, &addresses);
    }

    fn start_container(&self) {
        let mut state = self.state();
        let network = state.network.clone().expect("the pod has been created");
        super::pod_files::write(&self.inner.dir, &state.spec, self.inner.node.family, &network.addresses);
        state.containers_started += 1;
        let log = self.log_path(state.containers_started);
        let container = Container::start(&self.inner.dir, &state.spec, &network, log);
        state.container = Some(Arc::new(container));
    }

    fn remove(&self) {
        let Some(network) = self.state().network.take() else {
            return;
        };
        let node = &self.inner.node;
        node.dns.withdraw(self);
        network.remove(&node.netns);
        node.repartition(|partitions| partitions.set_addresses(self.inner.id, Vec::new()));
    }

    /// For the world's end, also after a panic: no step may fail.
    pub(crate) fn destroy(&self) {
        let mut state = self.state();
        if let Some(container) = state.container.take() {
            container.kill();
        }
        if let Some(network) = state.network.take() {
            network.remove(&self.inner.node.netns);
        }
    }

    // --- what it does

    /// Whether the pod exists, with a running container or without.
    pub fn exists(&self) -> bool {
        self.state().network.is_some()
    }

    pub(crate) fn log_path(&self, container: u32) -> PathBuf {
        self.inner.dir.join(format!("log-{container}"))
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.inner.dir
    }

    pub(crate) fn containers_started(&self) -> u32 {
        self.state().containers_started
    }

    pub(crate) fn container(&self) -> Option<Arc<Container>> {
        self.state().container.clone()
    }

    pub(crate) fn network(&self) -> Option<Arc<PodNetwork>> {
        self.state().network.clone()
    }

    pub(crate) fn set_dns_cut(&self, fault: Option<FaultId>) -> Option<FaultId> {
        std::mem::replace(&mut self.state().dns_cut, fault)
    }

    // --- volumes and files

    pub fn volume_dir(&self, mount_point: &str) -> PathBuf {
        volumes::directory(&self.inner.dir, mount_point)
    }

    /// Removes all that is on the pod's volumes, running or not.
    pub fn wipe(&self) {
        for mount_point in self.spec().volumes {
            self.wipe_volume(&mount_point);
        }
    }

    pub fn wipe_volume(&self, mount_point: &str) {
        volumes::wipe(&self.volume_dir(mount_point));
    }

    /// Copies a volume as it is now.
    pub fn save_volume(&self, mount_point: &str) -> volumes::SavedVolume {
        let dir = self.inner.node.new_directory("saved");
        volumes::copy(&self.volume_dir(mount_point), &dir);
        volumes::SavedVolume { mount_point: mount_point.to_owned(), dir }
    }

    pub fn restore_volume(&self, saved: &volumes::SavedVolume) {
        let dir = self.volume_dir(&saved.mount_point);
        volumes::wipe(&dir);
        volumes::copy(&saved.dir, &dir);
    }
}

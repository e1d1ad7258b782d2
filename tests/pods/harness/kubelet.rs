//! A pod of two containers, and a kubelet in miniature for it: the native sidecar first, etcd once the sidecar's startup
//! probe has passed, and each of the two again when it has ended.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::container::{Container, Exit};
use super::pod::Pod;
use super::spec::PodSpec;

const PERIOD: Duration = Duration::from_millis(50);

/// A pod whose own container is the sidecar. Dropping it ends its etcd.
pub struct SidecarPod {
    pub pod: Pod,
    shared: Arc<Shared>,
    kubelet: Option<JoinHandle<()>>,
}

struct Shared {
    etcd_spec: PodSpec,
    /// Where the startup probe asks.
    probe: (u16, &'static str),
    stop: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    etcd: Option<Arc<Container>>,
    etcds_started: u32,
    sidecars_restarted: u32,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SidecarPod {
    /// `etcd_spec` is etcd's container: its command and environment.
    pub fn new(pod: Pod, etcd_spec: PodSpec, probe: (u16, &'static str)) -> Self {
        let shared = Shared { etcd_spec, probe, stop: AtomicBool::new(false), state: Mutex::default() };
        Self { pod, shared: Arc::new(shared), kubelet: None }
    }

    /// As a new pod on its old volumes, but for emptyDirs.
    pub fn start(&mut self) {
        self.pod.start();
        self.shared.stop.store(false, Ordering::SeqCst);
        let (pod, shared) = (self.pod.clone(), Arc::clone(&self.shared));
        self.kubelet = Some(std::thread::spawn(move || run(&pod, &shared)));
    }

    /// The pod is deleted, with SIGKILL; so is what is in its emptyDir.
    pub fn kill(&mut self, empty_dir: &str) {
        self.end_etcd();
        self.pod.kill();
        self.pod.wipe_volume(empty_dir);
    }

    /// SIGKILL of the sidecar alone. It is back in a moment.
    pub fn kill_sidecar(&self) {
        self.pod.crash_container();
    }

    /// SIGKILL of etcd alone. It is back in a moment.
    pub fn kill_etcd(&self) {
        let etcd = self.shared.state().etcd.clone();
        if let Some(etcd) = etcd {
            etcd.kill();
        }
    }

    /// How often etcd was started, and the sidecar again, in all lives of the pod.
    pub fn starts(&self) -> (u32, u32) {
        let state = self.shared.state();
        (state.etcds_started, state.sidecars_restarted)
    }

    pub fn etcd_runs(&self) -> bool {
        self.shared.state().etcd.as_ref().is_some_and(|etcd| etcd.exit().is_none())
    }

    /// What the present or last etcd wrote.
    pub fn etcd_logs(&self) -> String {
        let bytes = std::fs::read(etcd_log(&self.pod, self.starts().0)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// As the kubelet ends a pod: SIGTERM to etcd, and to the sidecar once etcd is gone.
    pub fn terminate(&mut self, grace: Duration) -> Exit {
        self.end_kubelet();
        if let Some(etcd) = self.shared.state().etcd.take() {
            etcd.signal(Signal::SIGTERM);
            if etcd.wait_for_exit(grace).is_none() {
                etcd.kill();
            }
        }
        self.pod.stop(grace)
    }

    fn end_kubelet(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(kubelet) = self.kubelet.take() {
            kubelet.join().ok();
        }
    }

    fn end_etcd(&mut self) {
        self.end_kubelet();
        if let Some(etcd) = self.shared.state().etcd.take() {
            etcd.kill();
        }
    }
}

impl Drop for SidecarPod {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.etcd_logs();
            let tail: Vec<&str> = log.lines().rev().take(15).collect();
            println!("--- etcd of {} ({:?} starts)", self.pod.name(), self.starts());
            tail.iter().rev().for_each(|line| println!("{line}"));
        }
        self.end_etcd();
    }
}

fn etcd_log(pod: &Pod, number: u32) -> PathBuf {
    pod.directory().join(format!("log-etcd-{number}"))
}

fn run(pod: &Pod, shared: &Shared) {
    let mut started = false;
    while !shared.stop.load(Ordering::SeqCst) {
        if let Some(exit) = pod.exit() {
            println!("the sidecar of {} ended: {exit:?} {}", pod.name(), pod.termination_message());
            shared.state().sidecars_restarted += 1;
            pod.restart_container();
        }
        let (port, path) = shared.probe;
        started = started || pod.http_get(port, path).is_ok_and(|answer| answer.status == 200);
        let runs = shared.state().etcd.as_ref().is_some_and(|etcd| etcd.exit().is_none());
        if started
            && !runs
            && let Some(network) = pod.network()
        {
            let mut state = shared.state();
            state.etcds_started += 1;
            let log = etcd_log(pod, state.etcds_started);
            let etcd = Container::start(pod.directory(), &shared.etcd_spec, &network, log);
            state.etcd = Some(Arc::new(etcd));
        }
        std::thread::sleep(PERIOD);
    }
}

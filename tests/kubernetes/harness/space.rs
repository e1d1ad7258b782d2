//! A namespace for one scenario, and what is applied to it.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde_json::Value;

use super::kubectl::{kubectl, kubectl_json};
use super::overlay::Overlay;
use super::pods::Pod;
use super::wait::eventually;
use super::{Member, SOON};

static NODES: RwLock<()> = RwLock::new(());
static DEFAULT_NAMESPACE: Mutex<()> = Mutex::new(());

/// The right to use the cluster beside other scenarios; none where there is no cluster.
pub fn cluster() -> Option<RwLockReadGuard<'static, ()>> {
    is_there().then(|| NODES.read().unwrap_or_else(PoisonError::into_inner))
}

/// The right to use the cluster alone, to take a node from it.
pub fn cluster_alone() -> Option<RwLockWriteGuard<'static, ()>> {
    is_there().then(|| NODES.write().unwrap_or_else(PoisonError::into_inner))
}

/// Whether a cluster was asked for; a run that asks for one does not pass without.
fn is_there() -> bool {
    if std::env::var_os("TEST_KUBERNETES").is_none() {
        println!("SKIPPED: it needs a cluster; `make test-kubernetes` uses the one that KUBECONFIG names");
        return false;
    }
    let named = std::env::var_os("KUBECONFIG").is_some_and(|path| !path.is_empty());
    assert!(named, "KUBECONFIG is not set: it names the cluster to test on");
    true
}

/// Whether what takes long is asked for as well.
pub fn is_long() -> bool {
    std::env::var_os("TEST_LONG").is_some()
}

pub struct Space {
    pub namespace: String,
    /// The right to use `default`; any other namespace was made for the scenario, and goes with it.
    default: Option<MutexGuard<'static, ()>>,
}

impl Space {
    /// A new namespace of this name, under Kubernetes' strictest standard for pods.
    pub fn new(name: &str) -> Self {
        let space = Self::unrestricted(name);
        let label = "pod-security.kubernetes.io/enforce=restricted";
        kubectl(&["label", "namespace", &space.namespace, label], "").unwrap();
        space
    }

    /// A new namespace in which pods may be as they like.
    pub fn unrestricted(name: &str) -> Self {
        let namespace = format!("etcd-bootstrap-{name}");
        kubectl(&["delete", "namespace", &namespace, "--ignore-not-found", "--timeout=120s"], "").unwrap();
        kubectl(&["create", "namespace", &namespace], "").unwrap();
        Self { namespace, default: None }
    }

    /// The namespace `default`, for what has its name written down: one scenario after the other. It has to have no etcd.
    pub fn default_namespace() -> Self {
        let turn = DEFAULT_NAMESPACE.lock().unwrap_or_else(PoisonError::into_inner);
        let space = Self { namespace: "default".to_owned(), default: Some(turn) };
        let found = space.kubectl(&["get", "statefulset,pvc,service", "-l", "app=etcd", "-o", "name"]).unwrap();
        assert_eq!(found.trim(), "", "the namespace `default` has an etcd already: it is left alone");
        let found = space.kubectl(&["get", "statefulset/etcd", "--ignore-not-found", "-o", "name"]).unwrap();
        assert_eq!(found.trim(), "", "the namespace `default` has an etcd already: it is left alone");
        space
    }

    pub fn kubectl(&self, args: &[&str]) -> Result<String, String> {
        kubectl(&[&["-n", &self.namespace], args].concat(), "")
    }

    pub fn json(&self, args: &[&str]) -> Result<Value, String> {
        kubectl_json(&[&["-n", &self.namespace], args].concat())
    }

    pub fn apply(&self, overlay: &Overlay) {
        self.apply_text(&overlay.build(&self.namespace));
    }

    /// A server-side apply, as `kubectl apply --server-side -f -`.
    pub fn apply_text(&self, manifests: &str) {
        let args = ["-n", &self.namespace, "apply", "--server-side", "--force-conflicts", "-f", "-"];
        kubectl(&args, manifests).unwrap();
    }

    pub fn pod(&self, ordinal: u32) -> Pod<'_> {
        Pod { space: self, name: format!("etcd-{ordinal}") }
    }

    pub fn pods(&self, count: u32) -> Vec<Pod<'_>> {
        (0..count).map(|ordinal| self.pod(ordinal)).collect()
    }

    pub fn scale(&self, replicas: u32) {
        self.kubectl(&["scale", "statefulset/etcd", &format!("--replicas={replicas}")]).unwrap();
    }

    pub fn members(&self) -> Result<Vec<Member>, String> {
        let listed: Vec<_> = (0..9).filter_map(|ordinal| self.pod(ordinal).members().ok()).collect();
        listed.into_iter().next().ok_or_else(|| "no pod gives a member list".to_owned())
    }

    /// Waits until the first `count` pods are ready, and are the cluster's voters, all of them and nobody else.
    #[track_caller]
    pub fn wait_for_voters(&self, count: u32) -> Vec<Member> {
        eventually(SOON, &format!("{} has {count} voters", self.namespace), || {
            let pods = self.pods(count);
            pods.iter().try_for_each(Pod::is_ready)?;
            let members = pods.first().ok_or("no pods")?.members()?;
            let voters = members.iter().filter(|member| member.started() && !member.learner).count();
            if voters == pods.len() && members.len() == pods.len() { Ok(members) } else { Err(format!("{members:?}")) }
        })
    }

    /// Waits for the StatefulSet's roll-out.
    #[track_caller]
    pub fn wait_for_rollout(&self) {
        let timeout = format!("--timeout={}s", 2 * SOON.as_secs());
        self.kubectl(&["rollout", "status", "statefulset/etcd", &timeout]).unwrap();
    }

    /// How often containers were restarted in these pods.
    pub fn restarts(&self, count: u32) -> Vec<u64> {
        self.pods(count).iter().map(|pod| pod.restarts().unwrap()).collect()
    }

    /// Which pods there are, by their UIDs.
    pub fn uids(&self, count: u32) -> Vec<String> {
        self.pods(count).iter().map(|pod| pod.uid().unwrap()).collect()
    }

    /// What somebody needs to know who reads the output of a failed scenario.
    fn report(&self) {
        for args in [
            &["get", "pods", "-o", "wide"][..],
            &["get", "events", "--sort-by=.lastTimestamp"],
            &["logs", "-l", "app.kubernetes.io/name=etcd", "--prefix", "--tail=12", "--all-containers"],
            &["logs", "-l", "app=etcd", "--prefix", "--tail=12", "--all-containers"],
        ] {
            let said = self.kubectl(args).unwrap_or_else(|error| error);
            let lines: Vec<&str> = said.lines().collect();
            println!("--- {} {}", self.namespace, args.join(" "));
            println!("{}", lines[lines.len().saturating_sub(80)..].join("\n"));
        }
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.report();
        }
        let ended = if self.default.is_none() {
            kubectl(&["delete", "namespace", &self.namespace, "--wait=false"], "")
        } else {
            self.kubectl(&["delete", "statefulset/etcd", "service/etcd", "pod/writer", "--ignore-not-found"])
                .and_then(|_| self.kubectl(&["delete", "pod,pvc", "-l", "app=etcd", "--timeout=60s"]))
        };
        if let Err(error) = ended {
            println!("{error}");
        }
    }
}

//! Pod templates: as the manifests have them, and as etcd's own documentation has them.

use std::time::Duration;

use crate::harness::*;

/// Long enough for everything that must come, on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

/// The entrypoint with its defaults, for a cluster that these many pods found.
pub fn entrypoint(spec: PodSpec, size: u32) -> PodSpec {
    spec.binary(env!("CARGO_BIN_EXE_etcd-bootstrap"))
        .command([
            "etcd-bootstrap",
            "--data-dir=/data/etcd",
            "--listen-metrics-urls=http://0.0.0.0:2381",
            "--heartbeat-interval=50",
            "--election-timeout=500",
        ])
        .env("SERVICE_NAME", "etcd")
        .env("K8S_NAMESPACE", "default")
        .env("BOOTSTRAP_INITIAL_CLUSTER_SIZE", &size.to_string())
        .env("BOOTSTRAP_LOG", "info,etcd_bootstrap=debug")
        .env("BOOTSTRAP_LOG_FORMAT", "text")
}

/// The args and the environment of the manifest in etcd's documentation, with `command` changed.
pub fn documented(spec: PodSpec) -> PodSpec {
    let name = spec.name.clone();
    let peers: Vec<String> = (0..3).map(|n| format!("etcd-{n}=http://etcd-{n}.etcd:2380")).collect();
    spec.binary(env!("CARGO_BIN_EXE_etcd-bootstrap"))
        .ports([("etcd-client", 2379), ("etcd-server", 2380), ("etcd-metrics", 8080)])
        .command([
            "etcd-bootstrap".to_owned(),
            format!("--name={name}"),
            "--data-dir=/data".to_owned(),
            "--wal-dir=/data/wal".to_owned(),
            "--listen-peer-urls=http://0.0.0.0:2380".to_owned(),
            "--listen-client-urls=http://0.0.0.0:2379".to_owned(),
            format!("--advertise-client-urls=http://{name}.etcd:2379"),
            "--initial-cluster-state=new".to_owned(),
            "--initial-cluster-token=etcd-default".to_owned(),
            format!("--initial-cluster={}", peers.join(",")),
            format!("--initial-advertise-peer-urls=http://{name}.etcd:2380"),
            "--listen-metrics-urls=http://0.0.0.0:8080".to_owned(),
        ])
        .env("K8S_NAMESPACE", "default")
        .env("SERVICE_NAME", "etcd")
        .env("ETCDCTL_ENDPOINTS", &format!("{name}.etcd:2379"))
        .env("URI_SCHEME", "http")
}

/// Pods of one StatefulSet, not started.
pub fn stateful_set(world: &World, count: u32, size: u32) -> Vec<Pod> {
    world.pods("etcd", 0..count, |spec| entrypoint(spec, size))
}

/// References, as most helpers take them.
pub fn all(pods: &[Pod]) -> Vec<&Pod> {
    pods.iter().collect()
}

/// A cluster of this size, running.
pub fn founded(world: &World, size: u32) -> Vec<Pod> {
    let pods = stateful_set(world, size, size);
    pods.iter().for_each(Pod::start);
    wait_for_voters(&all(&pods), size as usize, SOON);
    pods
}

//! Pod templates: as the manifests have them, and as etcd's own documentation has them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::harness::*;

/// Long enough for everything that must come, on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

/// `TEST_TLS=1`: every scenario over mutual TLS.
pub fn over_tls() -> bool {
    std::env::var_os("TEST_TLS").is_some()
}

/// The scheme of both ports.
pub fn scheme() -> &'static str {
    if over_tls() { "https" } else { "http" }
}

/// The entrypoint with its defaults, for a cluster that these many pods found.
pub fn entrypoint(spec: PodSpec, size: u32) -> PodSpec {
    let spec = plain_entrypoint(spec, size);
    if over_tls() { spec.mutual_tls() } else { spec }
}

/// Without TLS, whatever `TEST_TLS` says.
pub fn plain_entrypoint(spec: PodSpec, size: u32) -> PodSpec {
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
    let scheme = scheme();
    let peers: Vec<String> = (0..3).map(|n| format!("etcd-{n}={scheme}://etcd-{n}.etcd:2380")).collect();
    let spec = if over_tls() { spec.mutual_tls() } else { spec };
    spec.binary(env!("CARGO_BIN_EXE_etcd-bootstrap"))
        .ports([("etcd-client", 2379), ("etcd-server", 2380), ("etcd-metrics", 8080)])
        .command([
            "etcd-bootstrap".to_owned(),
            format!("--name={name}"),
            "--data-dir=/data".to_owned(),
            "--wal-dir=/data/wal".to_owned(),
            format!("--listen-peer-urls={scheme}://0.0.0.0:2380"),
            format!("--listen-client-urls={scheme}://0.0.0.0:2379"),
            format!("--advertise-client-urls={scheme}://{name}.etcd:2379"),
            "--initial-cluster-state=new".to_owned(),
            "--initial-cluster-token=etcd-default".to_owned(),
            format!("--initial-cluster={}", peers.join(",")),
            format!("--initial-advertise-peer-urls={scheme}://{name}.etcd:2380"),
            "--listen-metrics-urls=http://0.0.0.0:8080".to_owned(),
        ])
        .env("K8S_NAMESPACE", "default")
        .env("SERVICE_NAME", "etcd")
        .env("ETCDCTL_ENDPOINTS", &format!("{name}.etcd:2379"))
        .env("URI_SCHEME", scheme)
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
    founded_on(world, size, &default_etcd())
}

/// The same of this etcd.
pub fn founded_on(world: &World, size: u32, etcd: &Etcd) -> Vec<Pod> {
    let pods = world.pods("etcd", 0..size, |spec| entrypoint(spec, size).etcd(etcd.clone()));
    pods.iter().for_each(Pod::start);
    wait_for_voters(&all(&pods), size as usize, SOON);
    pods
}

/// Full matrices and long runs were asked for.
pub fn is_long() -> bool {
    std::env::var_os("TEST_LONG").is_some()
}

/// The etcds that a case runs on: all where that was asked for, else one, and the next case another.
pub fn etcds_for(case: usize) -> Vec<Etcd> {
    let all = etcds();
    if is_long() { all } else { vec![all[case % all.len()].clone()] }
}

/// These versions; none, said so, where one is not there.
pub fn these<const N: usize>(versions: [&str; N]) -> Option<[Etcd; N]> {
    let found = versions.map(|version| etcds().into_iter().find(|etcd| etcd.version == version));
    if let Some(missing) = found.iter().position(Option::is_none) {
        skipped(&format!("no etcd {} here; TEST_ETCDS names a directory with more", versions[missing]));
        return None;
    }
    Some(found.map(Option::unwrap))
}

/// The disk is lost.
pub fn lose(pod: &Pod) {
    pod.kill();
    pod.wipe();
}

/// The members of all pods but this one, by ID: whatever becomes of its disk, they stay.
pub fn members_beside(lost: &Pod, pods: &[Pod]) -> BTreeSet<u64> {
    let asked = pods.iter().find(|pod| pod.name() != lost.name()).unwrap();
    let others = members(asked).unwrap().into_iter().filter(|member| member.name != lost.name());
    others.map(|member| member.id).collect()
}

/// Waits until the waiting pod gives this reason.
#[track_caller]
pub fn says(pod: &Pod, what: &str) {
    eventually(SOON, "the pod says why it waits", || {
        let answer = pod.http_get(2381, "/readyz")?;
        if answer.body.contains(what) { Ok(()) } else { Err(answer.body) }
    });
}

/// Waits until the waiting pod tells that its record is not its own, in these words. Over TLS etcd rejects it before.
#[track_caller]
pub fn says_that_its_record_is_old(pod: &Pod, what: &str) {
    says(pod, if over_tls() { "it rejects this pod's certificate" } else { what });
}

/// A writer's history over the scenario, checked on all pods at its end.
#[track_caller]
pub fn nothing_is_lost(pods: &[Pod], writer: Writer) {
    writer.wait_for(20, SOON);
    check(&all(pods), &[&writer.stop()], SOON).assert_clean();
}

/// Ends this pod and starts it with another etcd.
pub fn start_on(pod: &Pod, etcd: &Etcd) {
    pod.stop(SOON);
    pod.edit(|spec| spec.etcd = etcd.clone());
    pod.start();
}

/// The pod ends with 78 and gives this reason.
#[track_caller]
pub fn refuses_its_image(pod: &Pod, what: &str) {
    assert_eq!(pod.wait_for_exit(SOON).code(), 78, "{}", pod.log_tail(20));
    let message = pod.termination_message();
    assert!(message.contains(what), "{message}");
}

/// Moves the leadership to this pod.
pub fn lead(pod: &Pod, pods: &[Pod]) {
    eventually(SOON, "it leads", || {
        let leader = leader_of(&all(pods))?;
        if leader.name() == pod.name() {
            return Ok(());
        }
        let own = members(&leader)?.into_iter().find(|member| member.name == pod.name());
        let id = own.map(|member| member.id).ok_or_else(|| format!("{} is not listed", pod.name()))?;
        etcdctl(&leader, &["move-leader", &format!("{id:x}")]).and(Err("not yet".to_owned()))
    });
}

/// Checksums of all that is in a directory.
pub fn contents(dir: &Path) -> BTreeMap<PathBuf, u32> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            let crc = crc32c::crc32c(&std::fs::read(&path).unwrap());
            found.insert(path, crc);
        }
    }
    found
}

//! `render` as an init container, and etcd's own image and command behind it.

use crate::harness::*;
use crate::templates::*;

const FILE: &str = "/config/etcd.yaml";

fn rendering(spec: PodSpec, size: u32) -> PodSpec {
    rendered(entrypoint(spec, size).env("ETCD_LOG_LEVEL", "warn"))
}

/// `spec` is an entrypoint's.
pub(crate) fn rendered(spec: PodSpec) -> PodSpec {
    let mut spec = spec.volume("/config");
    let etcd_flags = spec.argv.split_off(1);
    spec.has_etcd = false;
    spec.set_args(["render", "--output", FILE, "--"].map(str::to_owned).into_iter().chain(etcd_flags));
    spec
}

/// The pods' init containers, then their etcds: a variable that etcd reads is there, too, and is ignored.
fn start(pods: &[&Pod]) {
    pods.iter().for_each(|pod| pod.start());
    become_etcds(pods);
}

pub(crate) fn become_etcds(pods: &[&Pod]) {
    let mut waiting = pods.to_vec();
    while !waiting.is_empty() {
        // In whatever order they end: one may wait for the etcd of another.
        let at = eventually(SOON, "an init container ends", || {
            let ended = waiting.iter().position(|pod| pod.exit().is_some());
            ended.ok_or_else(|| waiting.iter().map(|pod| pod.log_tail(3)).collect())
        });
        let pod = waiting.remove(at);
        assert_eq!(pod.wait_for_exit(SOON).code(), 0, "{}", pod.logs());
        let init = pod.spec();
        pod.edit(|spec| {
            becomes_etcds(spec);
            spec.set_env("ETCD_NAME", "ignored");
        });
        pod.restart_container();
        pod.edit(|spec| *spec = init);
    }
}

/// The container behind it: etcd's own image and command.
fn becomes_etcds(spec: &mut PodSpec) {
    spec.has_etcd = true;
    spec.set_command(["/usr/local/bin/etcd", "--config-file", FILE]);
}

pub(crate) fn config(pod: &Pod) -> serde_json::Value {
    let text = std::fs::read_to_string(pod.volume_dir("/config").join("etcd.yaml")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn running(world: &World, count: u32, size: u32) -> Vec<Pod> {
    let pods = world.pods("etcd", 0..count, |spec| rendering(spec, size));
    start(&all(&pods));
    wait_for_voters(&all(&pods), count as usize, SOON);
    pods
}

#[test]
fn init_containers_found_a_cluster_grow_it_by_voters_and_restart_it() {
    let world = World::v4();
    let mut pods = running(&world, 3, 3);
    assert_eq!(config(&pods[0])["initial-cluster-state"], "new");
    let writer = Writer::start(&world, &all(&pods));
    let new = world.pods("etcd", 3..5, |spec| rendering(spec, 3));
    // Two that add themselves within the same instant have files that lack each other: README, the table.
    for pod in new {
        start(&[&pod]);
        pods.push(pod);
        wait_for_voters(&all(&pods), pods.len(), SOON);
    }
    // From now on the files can only restart: on a disk that was emptied under a living pod, etcd refuses them.
    pods.iter().for_each(Pod::kill);
    start(&all(&pods));
    wait_for_voters(&all(&pods), 5, SOON);
    assert_eq!(config(&pods[4])["initial-cluster"], "not-etcd-4=http://0.0.0.0:1");
    pods[4].crash_container();
    pods[4].wipe_volume("/data");
    pods[4].edit(becomes_etcds);
    pods[4].restart_container();
    assert_ne!(pods[4].wait_for_exit(SOON).code(), 0);
    assert!(pods[4].logs().contains("couldn't find local name"), "{}", pods[4].logs());
    // The pod made anew is the way out.
    pods[4].edit(|spec| *spec = rendering(PodSpec::new("etcd-4"), 3));
    pods[4].kill();
    start(&[&pods[4]]);
    wait_for_voters(&all(&pods), 5, SOON);
    writer.wait_for(20, SOON);
    check(&all(&pods), &[&writer.stop()], SOON).assert_clean();
}

/// The image of etcd cannot be pulled, say: the pods are deleted before any etcd has started, and one of them after.
#[test]
fn pods_that_go_before_their_etcd_started_found_the_same_cluster() {
    let world = World::v4();
    let pods = world.pods("etcd", 0..3, |spec| rendering(spec, 3));
    // The others may not have heard all of it, and then wait for an etcd to follow.
    let first = || {
        let ended = |pod: &&Pod| pod.exit() == Some(Exit::Code(0));
        eventually(SOON, "a pod has its file", || pods.iter().find(ended).ok_or_else(|| "none has".to_owned()))
    };
    for _ in 0..2 {
        pods.iter().for_each(Pod::start);
        first();
        pods.iter().for_each(Pod::kill);
    }
    pods.iter().for_each(Pod::start);
    let first = first();
    become_etcds(&[first]);
    let others: Vec<&Pod> = pods.iter().filter(|pod| pod.name() != first.name()).collect();
    others.iter().for_each(|pod| assert_eq!(pod.wait_for_exit(SOON).code(), 0));
    // One etcd of three runs, and has no leader: the others may still follow.
    others.iter().for_each(|pod| pod.restart());
    become_etcds(&others);
    wait_for_voters(&all(&pods), 3, SOON);
}

/// What `rm -rf /data/etcd/*` leaves: the journal, whose name has a dot.
#[test]
fn a_wal_that_is_lost_without_the_journal_authorises_nothing() {
    let world = World::v4();
    let pods = running(&world, 3, 3);
    put(&pods[0], "kept", "1").unwrap();
    pods.iter().for_each(Pod::kill);
    std::fs::remove_dir_all(pods[2].volume_dir("/data").join("etcd/member")).unwrap();
    pods[1].start();
    become_etcds(&[&pods[1]]);
    pods[2].start();
    eventually(SOON, "the pod waits for a leader", || {
        let answer = pods[2].http_get(2381, "/readyz")?;
        if answer.body.contains("lost data") { Ok(()) } else { Err(answer.body) }
    });
    pods[0].start();
    become_etcds(&all(&[pods[0].clone(), pods[2].clone()]));
    wait_for_voters(&all(&pods), 3, SOON);
    assert_eq!(get(&pods[2], "kept").unwrap().as_deref(), Some("1"));
}

#[test]
fn a_second_member_is_a_learner_that_somebody_has_to_promote() {
    let world = World::v4();
    let pods = world.pods("etcd", 0..2, |spec| rendering(spec, 1));
    start(&[&pods[0]]);
    wait_for_voters(&[&pods[0]], 1, SOON);
    pods[1].start();
    pods[1].wait_for_exit(SOON);
    let log = pods[1].logs();
    let id = log.split("etcdctl member promote ").nth(1).and_then(|rest| rest.split('`').next()).unwrap().to_owned();
    become_etcds(&[&pods[1]]);
    eventually(SOON, "it is promoted by hand", || etcdctl(&pods[0], &["member", "promote", &id]));
    wait_for_voters(&all(&pods), 2, SOON);
}

#[test]
fn a_file_that_cannot_be_written_and_a_forced_cluster_are_refused_before_anything() {
    let world = World::v4();
    let pods = world.pods("etcd", 0..1, |spec| {
        let mut spec = rendering(spec, 3);
        spec.argv[3] = "/missing/etcd.yaml".to_owned();
        spec
    });
    pods[0].start();
    assert_eq!(pods[0].wait_for_exit(SOON).code(), 78);
    assert!(pods[0].termination_message().contains("/missing/etcd.yaml"), "{}", pods[0].termination_message());
    pods[0].edit(|spec| *spec = rendering(PodSpec::new("etcd-0"), 1).env("BOOTSTRAP_FORCE_NEW_CLUSTER", "etcd-0"));
    pods[0].restart_container();
    assert_eq!(pods[0].wait_for_exit(SOON).code(), 78);
    assert_eq!(std::fs::read_dir(pods[0].volume_dir("/data")).unwrap().count(), 0);
}

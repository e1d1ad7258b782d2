//! `sidecar` beside an etcd of its own image and command, for the pod's whole life.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

use crate::harness::*;
use crate::held::{HELD, hold, let_go, wait_until_held};
use crate::templates::*;

const FILE: &str = "/config/etcd.yaml";
const STATUS_PORT: u16 = 2382;

pub(crate) fn sidecar(world: &World, name: &str, service: &str, size: u32) -> SidecarPod {
    let mut spec = entrypoint(PodSpec::new(name), size).service(service);
    spec.set_env("SERVICE_NAME", service);
    sidecar_of(world, spec)
}

/// `spec` is an entrypoint's.
fn sidecar_of(world: &World, spec: PodSpec) -> SidecarPod {
    let mut spec = spec.volume("/config");
    let etcd_flags = spec.argv.split_off(1);
    spec.set_args(["sidecar", "--output", FILE, "--"].map(str::to_owned).into_iter().chain(etcd_flags));
    let etcd = PodSpec { env: vec![], ..spec.clone() };
    let etcd = etcd.command(["/usr/local/bin/etcd", "--config-file", FILE]);
    spec.has_etcd = false;
    SidecarPod::new(world.pod(spec), etcd, (STATUS_PORT, "/readyz"))
}

fn sidecars(world: &World, ordinals: std::ops::Range<u32>) -> Vec<SidecarPod> {
    ordinals.map(|ordinal| sidecar(world, &format!("etcd-{ordinal}"), "etcd", 3)).collect()
}

pub(crate) fn pods(sidecars: &[SidecarPod]) -> Vec<&Pod> {
    sidecars.iter().map(|sidecar| &sidecar.pod).collect()
}

fn founded_beside(world: &World) -> Vec<SidecarPod> {
    founded_of(world, |spec| spec)
}

/// Founded by pods of this template, an entrypoint's.
fn founded_of(world: &World, template: impl Fn(PodSpec) -> PodSpec) -> Vec<SidecarPod> {
    let spec = |ordinal| template(entrypoint(PodSpec::new(&format!("etcd-{ordinal}")), 3));
    let mut all: Vec<SidecarPod> = (0..3).map(|ordinal| sidecar_of(world, spec(ordinal))).collect();
    all.iter_mut().for_each(SidecarPod::start);
    wait_for_voters(&pods(&all), 3, SOON);
    all
}

fn with_flag(mut spec: PodSpec, flag: &str) -> PodSpec {
    spec.argv.push(flag.to_owned());
    spec
}

fn file_is_taken_away(pod: &Pod) {
    eventually(SOON, "the file is taken away", || config(pod).map_or(Ok(()), |_| Err("it is there".to_owned())));
}

fn listed(asked: &Pod, name: &str) -> Result<u64, String> {
    let member = members(asked)?.into_iter().find(|member| member.name == name);
    member.map(|member| member.id).ok_or_else(|| format!("{name} is away"))
}

fn is_back_as_another(all: &[SidecarPod], name: &str, lost: u64) {
    eventually(SOON, "it is back as another member", || {
        if listed(&all[0].pod, name)? != lost { Ok(()) } else { Err("it is the same".to_owned()) }
    });
    wait_for_voters(&pods(all), 3, SOON);
}

fn picture(pod: &Pod) -> Result<Value, String> {
    let answer = pod.http_get(STATUS_PORT, "/status")?;
    serde_json::from_str(&answer.body).map_err(|error| format!("{error}: {}", answer.body))
}

fn shows(pod: &Pod, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    eventually(SOON, what, || {
        let picture = picture(pod)?;
        if is_so(&picture) { Ok(picture) } else { Err(format!("{picture:#}")) }
    })
}

fn config(pod: &Pod) -> Option<Value> {
    let text = std::fs::read_to_string(pod.volume_dir("/config").join("etcd.yaml")).ok()?;
    serde_json::from_str(&text).ok()
}

pub(crate) fn can_only_restart(pod: &Pod) {
    eventually(SOON, "the file can only restart", || {
        let config = config(pod).ok_or("there is none")?;
        let cluster = config["initial-cluster"].as_str().unwrap_or_default().to_owned();
        if cluster.starts_with(&format!("not-{}=", pod.name())) { Ok(()) } else { Err(cluster) }
    });
}

type Touched = BTreeMap<PathBuf, (u64, i64, i64)>;

/// When each file and directory was written, and which it is; etcd's own are left out.
fn touched(pod: &Pod) -> Touched {
    let mut found = Touched::new();
    ["/data", "/config"].iter().for_each(|volume| note_touched(&pod.volume_dir(volume), &mut found));
    found
}

fn note_touched(dir: &Path, found: &mut Touched) {
    for path in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if path.ends_with("etcd/member") {
            continue;
        }
        let it = std::fs::metadata(&path).unwrap();
        found.insert(path.clone(), (it.ino(), it.mtime(), it.mtime_nsec()));
        if it.is_dir() {
            note_touched(&path, found);
        }
    }
}

/// etcd has its database.
fn is_locked(pod: &Pod) -> bool {
    let database = File::open(pod.volume_dir("/data").join("etcd/member/snap/db")).unwrap();
    Flock::lock(database, FlockArg::LockSharedNonblock).is_err()
}

#[test]
fn sidecars_found_three_grow_to_five_and_show_it_all_along() {
    let world = World::v4();
    let mut all = sidecars(&world, 0..3);
    all[0].start();
    let waits = shows(&all[0].pod, "it waits", |picture| picture["bootstrap"]["decision"]["rule"] == "roll-call");
    assert_eq!(waits["phase"], "preparing");
    let metrics = all[0].pod.http_get(STATUS_PORT, "/metrics").unwrap().body;
    assert!(metrics.contains("etcd_bootstrap_sidecar_phase{phase=\"preparing\"} 1"), "{metrics}");
    assert_eq!(all[0].pod.http_get(STATUS_PORT, "/livez").unwrap().status, 200);
    assert!(all[0].pod.http_get(STATUS_PORT, "/readyz").unwrap().body.contains("etcd-1"));
    assert!(!all[0].etcd_runs() && config(&all[0].pod).is_none());
    eventually(SOON, "the other container's etcd is not looked for in this one", || {
        let logs = all[0].pod.logs();
        assert!(!logs.contains("does not tell a version"), "{logs}");
        if logs.contains("etcd is not known: nothing is compared") { Ok(()) } else { Err(logs) }
    });
    all[1..].iter_mut().for_each(SidecarPod::start);
    wait_for_voters(&pods(&all), 3, SOON);
    let writer = Writer::start(&world, &pods(&all));
    let mut new = sidecars(&world, 3..5);
    new.iter_mut().for_each(SidecarPod::start);
    all.extend(new);
    wait_for_voters(&pods(&all), 5, SOON);
    for sidecar in &all {
        assert_eq!(sidecar.starts(), (1, 0), "{} and its etcd started once", sidecar.pod.name());
        can_only_restart(&sidecar.pod);
    }
    let runs = shows(&all[4].pod, "its numbers", |picture| {
        picture["member"]["quorum_margin"] == 2 && picture["member"]["role"] == "voter"
    });
    assert_eq!(runs["phase"], "running");
    assert!(runs["decision"]["rule"] == "join-start" && runs["member"]["term"].as_u64() > Some(1), "{runs:#}");
    let metrics = all[4].pod.http_get(STATUS_PORT, "/metrics").unwrap().body;
    for sample in
        ["member_role{role=\"voter\"} 1", "quorum_margin 2", "db_quota_bytes 2147483648", "member_lag_entries"]
    {
        assert!(metrics.contains(&format!("etcd_bootstrap_{sample}")), "{metrics}");
    }
    check(&pods(&all), &[&writer.stop()], SOON).assert_clean();
}

#[test]
fn a_lost_volume_a_removed_member_and_the_loss_of_all_pods_are_mended() {
    let world = World::v4();
    let mut all = founded_of(&world, |spec| spec.volume(HELD));
    let writer = Writer::start(&world, &pods(&all));
    // The data of a living pod is lost: etcd goes on with what it has open, and must not start again on nothing.
    all[2].pod.wipe_volume("/data");
    file_is_taken_away(&all[2].pod);
    all[2].kill_etcd();
    wait_for_voters(&pods(&all), 3, SOON);
    // The pod and its volume are lost.
    all[1].kill("/config");
    all[1].pod.wipe();
    all[1].start();
    wait_for_voters(&pods(&all), 3, SOON);
    // A member is removed while it runs. Its data is put aside once its etcd has ended, and no other one can start.
    hold(&all[2].pod, "archive-before-move");
    all[2].kill_sidecar();
    shows(&all[2].pod, "etcd runs", |picture| picture["phase"] == "running");
    assert!(is_locked(&all[2].pod));
    let removed = listed(&all[0].pod, "etcd-2").unwrap();
    eventually(SOON, "etcd takes the removal", || etcdctl(&all[0].pod, &["member", "remove", &format!("{removed:x}")]));
    if cfg!(feature = "failpoints") {
        wait_until_held(&all[2].pod, "archive-before-move");
        stays(Duration::from_secs(1), "no etcd has the data", || {
            let is_held = is_locked(&all[2].pod) || config(&all[2].pod).is_some();
            if is_held { Err("one could, or has".to_owned()) } else { Ok(()) }
        });
        let_go(&all[2].pod);
    }
    is_back_as_another(&all, "etcd-2", removed);
    writer.wait_for(20, SOON);
    all.iter_mut().for_each(|sidecar| sidecar.kill("/config"));
    all.iter_mut().for_each(SidecarPod::start);
    wait_for_voters(&pods(&all), 3, SOON);
    writer.wait_for(20, SOON);
    check(&pods(&all), &[&writer.stop()], SOON).assert_clean();
}

#[test]
fn one_of_two_volumes_is_lost_under_a_living_pod() {
    let world = World::v4();
    let all = founded_of(&world, |spec| with_flag(spec.volume("/wal"), "--wal-dir=/wal/etcd"));
    let writer = Writer::start(&world, &pods(&all));
    for volume in ["/wal", "/data"] {
        writer.wait_for(20, SOON);
        let lost = listed(&all[0].pod, "etcd-1").unwrap();
        all[1].pod.wipe_volume(volume);
        file_is_taken_away(&all[1].pod);
        all[1].kill_etcd();
        is_back_as_another(&all, "etcd-1", lost);
        can_only_restart(&all[1].pod);
    }
    check(&pods(&all), &[&writer.stop()], SOON).assert_clean();
}

/// What was written before a writer stopped is in the log that has a snapshot of it.
fn has_a_snapshot(pod: &Pod) {
    let snap = pod.volume_dir("/data").join("etcd/member/snap");
    eventually(SOON, "etcd has taken a snapshot", || {
        let names = std::fs::read_dir(&snap).map_err(|error| error.to_string())?.flatten();
        let is_there = names.into_iter().any(|entry| entry.path().extension().is_some_and(|end| end == "snap"));
        if is_there { Ok(()) } else { Err("not yet".to_owned()) }
    });
}

/// 3.5 and 3.6 start on a new, empty database where all of `member/snap` is gone and the log is left.
#[test]
fn the_database_is_lost_under_a_living_pod_and_the_log_is_left() {
    let world = World::v4();
    let all = founded_of(&world, |spec| with_flag(spec, "--snapshot-count=50"));
    let writer = Writer::start(&world, &pods(&all));
    writer.wait_for(120, SOON);
    let written = writer.stop();
    has_a_snapshot(&all[1].pod);
    let lost = listed(&all[0].pod, "etcd-1").unwrap();
    std::fs::remove_dir_all(all[1].pod.volume_dir("/data").join("etcd/member/snap")).unwrap();
    file_is_taken_away(&all[1].pod);
    all[1].kill_etcd();
    is_back_as_another(&all, "etcd-1", lost);
    let writer = Writer::start(&world, &pods(&all));
    writer.wait_for(20, SOON);
    check(&pods(&all), &[&written, &writer.stop()], SOON).assert_clean();
}

/// Nobody is asked more often than every five seconds beside a running etcd: what was said then is not waited for.
#[test]
fn the_end_of_etcd_is_noticed_before_the_kubelet_starts_it_again() {
    const ENOUGH: Duration = Duration::from_secs(2);
    let world = World::v4();
    let all = founded_beside(&world);
    // The questions become rare: each pause is twice the last one.
    stays(Duration::from_secs(12), "etcd runs", || {
        if all.iter().all(SidecarPod::etcd_runs) { Ok(()) } else { Err("one has ended".to_owned()) }
    });
    for sidecar in &all {
        sidecar.pod.wipe_volume("/data");
        file_is_taken_away(&sidecar.pod);
        sidecar.kill_etcd();
        eventually(ENOUGH, "etcd's end is noticed", || {
            let phase = picture(&sidecar.pod)?["phase"].clone();
            if phase == "running" { Err("it is taken for one that runs".to_owned()) } else { Ok(()) }
        });
        wait_for_voters(&pods(&all), 3, SOON);
    }
}

#[test]
fn an_etcd_elsewhere_is_not_taken_for_the_own_one_and_who_holds_the_port_is_waited_for() {
    let world = World::v4();
    let mut all = founded_beside(&world);
    all[1].kill("/config");
    world.dns().point_at(&all[1].pod, all[0].pod.address());
    all[1].start();
    // Over TLS the others' etcds reject one whose name leads elsewhere: it has no leader, and its client port is silent.
    shows(&all[1].pod, "its own etcd", |picture| {
        picture["phase"] == "running" && (over_tls() || picture["member"].is_object())
    });
    // Neither locks nor its name tell of its etcd any more.
    all[1].pod.wipe_volume("/data");
    all[1].kill_sidecar();
    let waits = shows(&all[1].pod, "what it waits for", |picture| {
        picture["why"].as_str().is_some_and(|why| why.contains("somebody still listens"))
    });
    assert_eq!(waits["phase"], "preparing");
    let ready = all[1].pod.http_get(STATUS_PORT, "/readyz").unwrap();
    assert!(ready.status == 503 && ready.body.contains("somebody still listens"), "{}", ready.body);
    assert!(all[1].etcd_runs());
    world.dns().repoint(&all[1].pod);
    all[1].kill_etcd();
    wait_for_voters(&pods(&all), 3, SOON);
}

#[test]
fn the_survivor_that_an_operator_names_becomes_a_cluster_of_one_once() {
    let world = World::v4();
    let mut all = founded_beside(&world);
    let writer = Writer::start(&world, &pods(&all));
    writer.wait_for(20, SOON);
    pods(&all).iter().for_each(|pod| wait_healthy(&[pod], SOON));
    let written = writer.stop();
    check(&pods(&all), &[&written], SOON).assert_clean();
    all[0].terminate(SOON);
    all.iter_mut().for_each(|sidecar| sidecar.kill("/config"));
    all[1..].iter().for_each(|sidecar| sidecar.pod.wipe());
    all.iter().for_each(|sidecar| sidecar.pod.edit(|spec| spec.set_env("BOOTSTRAP_FORCE_NEW_CLUSTER", "etcd-0")));
    all.iter_mut().for_each(SidecarPod::start);
    wait_for_voters(&pods(&all), 3, SOON);
    // The pod keeps the setting, its etcd not the flag.
    can_only_restart(&all[0].pod);
    assert_eq!(config(&all[0].pod).unwrap().get("force-new-cluster"), None);
    all[0].kill_etcd();
    wait_for_voters(&pods(&all), 3, SOON);
    all[0].kill_sidecar();
    all[0].kill_etcd();
    wait_for_voters(&pods(&all), 3, SOON);
    check(&pods(&all), &[&written], SOON).assert_clean();
}

#[test]
fn etcd_and_the_sidecar_are_killed_in_turn_and_neither_disturbs_the_other() {
    let world = World::v4();
    let all = founded_beside(&world);
    let writer = Writer::start(&world, &pods(&all));
    let rounds = if is_long() { 20 } else { 3 };
    for round in 0..rounds {
        let sidecar = &all[round % 3];
        shows(&sidecar.pod, "etcd runs", |picture| picture["member"]["quorum_margin"] == 1);
        let (etcds, sidecars) = sidecar.starts();
        let before = touched(&sidecar.pod);
        let decision = picture(&sidecar.pod).unwrap()["decision"].clone();
        sidecar.kill_sidecar();
        let found = shows(&sidecar.pod, "it finds etcd", |picture| picture["phase"] == "running");
        assert!(decision["rule"].is_string(), "{decision:#}");
        assert_eq!(found["decision"], decision, "it has decided nothing, and knows what was decided");
        assert_eq!(sidecar.starts(), (etcds, sidecars + 1), "etcd runs on");
        assert_eq!(touched(&sidecar.pod), before, "nothing is touched");
        sidecar.kill_etcd();
        wait_for_voters(&pods(&all), 3, SOON);
        assert_eq!(sidecar.starts(), (etcds + 1, sidecars + 1), "etcd restarts by itself, at the first try");
        can_only_restart(&sidecar.pod);
    }
    writer.wait_for(20, SOON);
    check(&pods(&all), &[&writer.stop()], SOON).assert_clean();
}

#[test]
fn a_pod_that_is_scaled_away_leaves_at_its_sidecars_end_or_by_etcds_hook() {
    const GRACE: Duration = Duration::from_secs(40);
    let world = World::v4();
    let api = KubeApi::start(&world, 3);
    let spec = |ordinal: u32| api.mount(entrypoint(PodSpec::new(&format!("etcd-{ordinal}")), 3));
    let mut all: Vec<SidecarPod> = (0..3).map(|ordinal| sidecar_of(&world, spec(ordinal))).collect();
    all.iter_mut().for_each(SidecarPod::start);
    wait_for_voters(&pods(&all), 3, SOON);
    let writer = Writer::start(&world, &[&all[0].pod]);
    api.scale(2);
    // Nobody called the hook: etcd is gone when the sidecar is told, and the two others have a quorum.
    assert_eq!(all[2].terminate(GRACE).code(), 143);
    wait_for_voters(&pods(&all[..2]), 2, SOON);
    api.scale(1);
    // Of two, both are needed to remove one: the hook asks while etcd runs.
    let answer = all[1].pod.http_get(STATUS_PORT, "/leave").unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "done\n"));
    assert_eq!(all[1].terminate(GRACE).code(), 143);
    wait_for_voters(&[&all[0].pod], 1, SOON);
    writer.wait_for(20, SOON);
    check(&[&all[0].pod], &[&writer.stop()], SOON).assert_clean();
}

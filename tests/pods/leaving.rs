//! Scaling in: `leave` as a preStop hook, beside a Kubernetes API that tells how many replicas are wanted.

use std::process::Output;
use std::time::Duration;

use crate::harness::*;
use crate::templates::*;

const GRACE: Duration = Duration::from_secs(20);

/// Pods of a StatefulSet with a service account, running; each runs `leave` by itself, without a flag.
fn scaled(world: &World, replicas: u32) -> (KubeApi, Vec<Pod>) {
    let api = KubeApi::start(world, replicas);
    let pods = world.pods("etcd", 0..replicas, |spec| api.mount(entrypoint(spec, replicas)));
    pods.iter().for_each(Pod::start);
    wait_for_voters(&all(&pods), replicas as usize, SOON);
    (api, pods)
}

/// `leave` with the environment of the container and these variables.
fn leave(pod: &Pod, more: &[(&str, &str)]) -> Output {
    let own = [("HOSTNAME".to_owned(), pod.name())];
    let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let env: Vec<(String, String)> = pod.spec().env.into_iter().chain(own).chain(more).collect();
    pod.exec_with_env(&env, &["/usr/local/bin/etcd-bootstrap", "leave"]).unwrap()
}

/// What the kubelet does: the hook, then SIGTERM, then the pod is gone.
fn terminate(pod: &Pod) -> Option<i32> {
    let output = leave(pod, &[]);
    pod.stop(GRACE);
    output.status.code()
}

/// All of them at the same time.
pub(crate) fn terminate_all(pods: &[Pod]) {
    std::thread::scope(|scope| pods.iter().for_each(|pod| drop(scope.spawn(move || terminate(pod)))));
}

/// Waits until these pods are the voters. What ends meanwhile is started again, as the kubelet does it: where no peer
/// answers in time, etcd starts on the data of a removed member, and is told so.
fn settle(pods: &[Pod]) {
    eventually(SOON, "every pod is a voter", || {
        pods.iter().filter(|pod| !pod.is_running()).for_each(Pod::restart_container);
        let voters = members(&pods[0])?.iter().filter(|member| member.started() && !member.learner).count();
        pods.iter().try_for_each(|pod| status(pod).map(|_| ()))?;
        if voters == pods.len() { Ok(()) } else { Err(format!("{voters} voters")) }
    });
    wait_for_voters(&all(pods), pods.len(), SOON);
}

fn id_of(pod: &Pod, pods: &[Pod]) -> Result<u64, String> {
    let listed = members(&pods[0])?.into_iter().find(|member| member.name == pod.name());
    listed.map(|member| member.id).ok_or_else(|| format!("{} is not listed", pod.name()))
}

fn journal(pod: &Pod) -> String {
    std::fs::read_to_string(pod.volume_dir("/data").join("etcd/.etcd-bootstrap/journal")).unwrap()
}

fn has_archive(pod: &Pod) -> bool {
    let entries = std::fs::read_dir(pod.volume_dir("/data").join("etcd/.etcd-bootstrap")).unwrap();
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("archive-"))
}

/// Scales in under a writer, all leavers at the same time, the highest of them the leader.
fn scale_in(world: &World, api: &KubeApi, pods: &[Pod], to: usize) -> Written {
    lead(pods.last().unwrap(), pods);
    let writer = Writer::start(world, &all(pods));
    writer.wait_for(20, SOON);
    api.scale(to as u32);
    terminate_all(&pods[to..]);
    writer.targets(&all(&pods[..to]));
    wait_for_voters(&all(&pods[..to]), to, SOON);
    writer.wait_for(20, SOON);
    let written = writer.stop();
    check(&all(&pods[..to]), &[&written], SOON).assert_clean();
    written
}

#[test]
fn five_scale_to_three_at_once_and_out_again_as_new_members() {
    let world = World::v4();
    let (api, pods) = scaled(&world, 5);
    let before: Vec<u64> = pods[3..].iter().map(|pod| id_of(pod, &pods).unwrap()).collect();
    let written = scale_in(&world, &api, &pods, 3);
    assert!(pods[3..].iter().all(|pod| journal(pod).contains("\"leaving\"")));
    api.scale(5);
    pods[3..].iter().for_each(Pod::start);
    settle(&pods);
    for (pod, before) in pods[3..].iter().zip(before) {
        assert_ne!(id_of(pod, &pods).unwrap(), before);
        assert!(has_archive(pod) && !journal(pod).contains("\"leaving\""), "{}", journal(pod));
    }
    check(&all(&pods), &[&written], SOON).assert_clean();
}

#[test]
fn five_scale_to_one_at_once() {
    let world = World::v4();
    let (api, pods) = scaled(&world, 5);
    scale_in(&world, &api, &pods, 1);
}

#[test]
fn three_scale_to_one_at_once() {
    let world = World::v4();
    let (api, pods) = scaled(&world, 3);
    scale_in(&world, &api, &pods, 1);
}

#[test]
fn two_scale_to_one_and_the_removal_is_not_lost() {
    let runs = if is_long() { 20 } else { 2 };
    let world = World::v4();
    let (api, pods) = scaled(&world, 2);
    for _ in 0..runs {
        scale_in(&world, &api, &pods, 1);
        // The one that is left has to be able to restart on its own.
        pods[0].restart();
        wait_for_voters(&all(&pods[..1]), 1, SOON);
        api.scale(2);
        pods[1].start();
        settle(&pods);
    }
    if cfg!(feature = "failpoints") {
        for point in ["leave-before-remove", "leave-after-remove"] {
            killed_at(&api, &pods, point);
            api.scale(2);
            pods[1].start();
            settle(&pods);
        }
    }
}

#[test]
fn every_etcd_lets_its_leaders_go() {
    if !is_long() {
        skipped("one etcd has to do without TEST_LONG=1");
        return;
    }
    for etcd in etcds() {
        println!("etcd {}", etcd.version);
        let world = World::v4();
        let api = KubeApi::start(&world, 3);
        let pods = world.pods("etcd", 0..3, |spec| api.mount(entrypoint(spec.etcd(etcd.clone()), 3)));
        pods.iter().for_each(Pod::start);
        settle(&pods);
        scale_in(&world, &api, &pods, 1);
        api.scale(3);
        pods[1..].iter().for_each(Pod::start);
        settle(&pods);
    }
}

#[test]
fn a_restart_and_a_hibernation_leave_the_members_alone() {
    let world = World::v4();
    let (api, pods) = scaled(&world, 3);
    let before = members(&pods[0]).unwrap();
    for replicas in [3, 4, 0] {
        api.scale(replicas);
        assert_eq!(terminate(&pods[2]), Some(0));
        let logs = pods[2].logs();
        assert!(logs.contains("nothing to do: "), "the container's log says so: {logs}");
        pods[2].start();
        settle(&pods);
    }
    assert_eq!(ids(&before), ids(&members(&pods[0]).unwrap()));
}

fn ids(members: &[Member]) -> Vec<u64> {
    members.iter().map(|member| member.id).collect()
}

#[test]
fn where_the_api_cannot_be_asked_nothing_is_done() {
    let world = World::v4();
    let (api, pods) = scaled(&world, 3);
    api.scale(1);
    let nothing = |why: &str| {
        let output = leave(&pods[2], &[]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(text.contains("nothing is done") && text.contains(why), "{text}");
        assert!(pods[2].logs().contains(why), "the container's log says so");
    };
    api.book().rules.clear();
    nothing("resources: [statefulsets/scale], resourceNames: [etcd], verbs: [get]");
    api.book().rules.extend(["get statefulsets/scale", "get statefulsets"]);
    api.book().ordinal_start = 3;
    nothing("spec.ordinals.start is 3, and not 0");
    api.book().hangs = true;
    nothing("did not answer in time");
    drop(api);
    nothing("connection refused");
    assert_eq!(members(&pods[0]).unwrap().len(), 3);
    assert!(!journal(&pods[2]).contains("\"leaving\""));
}

#[test]
fn a_leaver_waits_its_turn_and_stays_where_it_is_wanted_again() {
    let world = World::v4();
    let (api, pods) = scaled(&world, 3);
    api.scale(1);
    eventually(SOON, "it gives up, and says for whom it has waited", || {
        let late = leave(&pods[1], &[("BOOTSTRAP_TIMEOUT", "2")]);
        let text = String::from_utf8_lossy(&late.stderr).into_owned();
        assert_eq!(late.status.code(), Some(75), "{text}");
        let is_said = text.contains("in time: the member") && text.contains("of etcd-2 leaves first");
        if is_said && text.contains("etcdctl member remove") { Ok(()) } else { Err(text) }
    });
    let before = pods[1].logs().matches("waiting: the member").count();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| leave(&pods[1], &[]));
        eventually(SOON, "the second one waits, too", || {
            let waiting = pods[1].logs().matches("waiting: the member").count();
            if waiting > before { Ok(()) } else { Err(format!("{waiting} have said so")) }
        });
        api.scale(3);
        let output = waiting.join().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8_lossy(&output.stderr).contains("it stays after all"));
    });
    assert_eq!(members(&pods[0]).unwrap().len(), 3);
    assert!(!journal(&pods[1]).contains("\"leaving\""));
}

/// Kills `leave` where it is, and its pod with it.
fn killed_at(api: &KubeApi, pods: &[Pod], point: &str) {
    let last = pods.last().unwrap();
    lead(last, pods);
    api.scale(pods.len() as u32 - 1);
    let output = leave(last, &[("ETCD_BOOTSTRAP_FAILPOINT", point), ("BOOTSTRAP_TIMEOUT", "60")]);
    assert_eq!(output.status.code().filter(|code| *code < 128), None, "{point}: it was killed");
    last.kill();
}

#[test]
fn a_leave_that_is_killed_half_way_ends_well_whether_the_pod_is_wanted_again_or_not() {
    if !cfg!(feature = "failpoints") {
        skipped("build the tests with --features failpoints");
        return;
    }
    let world = World::v4();
    let (api, pods) = scaled(&world, 3);
    let writer = Writer::start(&world, &all(&pods));
    for point in
        ["leave-before-mark", "leave-after-mark", "leave-after-move", "leave-before-remove", "leave-after-remove"]
    {
        killed_at(&api, &pods, point);
        api.scale(3);
        pods[2].start();
        settle(&pods);
        assert!(!journal(&pods[2]).contains("\"leaving\""), "{point}: {}", journal(&pods[2]));
    }
    for point in ["leave-after-mark", "leave-after-move", "leave-before-remove"] {
        killed_at(&api, &pods, point);
        pods[2].start();
        settle(&pods);
        terminate(&pods[2]);
        wait_for_voters(&all(&pods[..2]), 2, SOON);
        api.scale(3);
        pods[2].start();
        settle(&pods);
    }
    writer.wait_for(20, SOON);
    check(&all(&pods), &[&writer.stop()], SOON).assert_clean();
}

#[test]
fn a_single_founder_waits_beside_the_claim_of_a_higher_pod() {
    let world = World::v4();
    let api = KubeApi::start(&world, 1);
    api.book().parallel = false;
    api.book().claims = ["data-etcd-0", "data-etcd-1", "data-other-2"].map(str::to_owned).to_vec();
    let pod = world.pod(api.mount(entrypoint(PodSpec::new("etcd-0"), 1)));
    api.book().rules.extend(["get statefulsets", "list persistentvolumeclaims"]);
    // The pod's network comes up after the pod.
    api.book().hangs = true;
    pod.start();
    eventually(SOON, "its first question was in vain", || {
        let logs = pod.logs();
        if logs.contains("does not tell which pods there may be") { Ok(()) } else { Err(logs) }
    });
    assert!(pod.http_get(2381, "/readyz").unwrap().body.contains("the Kubernetes API is asked which pods"));
    api.book().hangs = false;
    eventually(SOON, "it says why it waits", || {
        let answer = pod.http_get(2381, "/readyz")?;
        if answer.body.contains("a PersistentVolumeClaim of etcd-1 is there") { Ok(()) } else { Err(answer.body) }
    });
    assert!(!pod.runs_etcd());
    api.book().claims.truncate(1);
    wait_for_voters(&[&pod], 1, SOON);
}

#[test]
fn a_single_founder_whose_api_tells_nothing_founds_with_a_warning() {
    let world = World::v4();
    let api = KubeApi::start(&world, 1);
    api.book().parallel = false;
    api.book().claims = vec!["data-etcd-1".to_owned()];
    let pod = world.pod(api.mount(entrypoint(PodSpec::new("etcd-0"), 1)));
    pod.start();
    wait_for_voters(&[&pod], 1, SOON);
    let logs = pod.logs();
    assert!(logs.contains("resources: [statefulsets]") && logs.contains("the initial size is 1"), "{logs}");
}

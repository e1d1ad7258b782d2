//! The native sidecar: etcd's stock image and command, for the pod's whole life.

use std::fs;

use serde_json::Value;

use crate::harness::*;

const FILE: &str = "--config-file=/config/etcd.yaml";

fn overlay() -> Overlay {
    Overlay::base().component("sidecar")
}

/// `kubectl get --raw` of a page of the sidecar's.
fn raw(pod: &Pod, path: &str) -> Result<String, String> {
    let (namespace, name) = (&pod.space.namespace, &pod.name);
    kubectl(&["get", "--raw", &format!("/api/v1/namespaces/{namespace}/pods/{name}:2382/proxy{path}")], "")
}

/// Waits until `/status` is so.
#[track_caller]
fn shows(pod: &Pod, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    eventually(SOON, &format!("{} shows {what}", pod.name), || {
        let text = raw(pod, "/status")?;
        let picture: Value = serde_json::from_str(&text).map_err(|error| format!("{text}: {error}"))?;
        if is_so(&picture) { Ok(picture) } else { Err(text) }
    })
}

/// Waits until `/metrics` has these samples.
#[track_caller]
fn counts(pod: &Pod, samples: &[&str]) -> String {
    eventually(SOON, &format!("{} counts {samples:?}", pod.name), || {
        let page = raw(pod, "/metrics")?;
        let has = |sample: &&str| page.lines().any(|line| line == format!("etcd_bootstrap_{sample}"));
        if samples.iter().all(has) { Ok(page) } else { Err(page) }
    })
}

/// Restarts of etcd's container, and of the sidecar's.
fn restarts(pod: &Pod) -> (u64, u64) {
    let pod = pod.json().unwrap();
    let of = |list: &str| pod["status"][list][0]["restartCount"].as_u64().unwrap_or_default();
    (of("containerStatuses"), of("initContainerStatuses"))
}

/// SIGKILL from the node, where a container's processes are processes like any other.
fn kill_nine(pod: &Pod, word: &str) {
    let uid = pod.uid().unwrap();
    let names = [uid.clone(), uid.replace('-', "_")];
    let entries = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let is_it = |pid: &String| {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let cgroup = read("cgroup");
        names.iter().any(|name| cgroup.contains(name)) && read("cmdline").split('\0').any(|arg| arg == word)
    };
    let pid = entries.filter(is_it).find_map(|pid| pid.parse().ok());
    let pid = pid.unwrap_or_else(|| panic!("{} has no process with {word} on this machine", pod.name));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// etcd's container starts once this ConfigMap is there: until then its pod has a configuration, and no etcd.
const GATE: &str = r#""env": [{"name": "GATE", "valueFrom": {"configMapKeyRef": {"name": "gate", "key": "open"}}}]"#;

#[test]
fn status_and_metrics_are_there_while_a_pod_waits_joins_and_runs() {
    let Some(_cluster) = cluster() else { return };
    let space = Space::new("sidecar-pages");
    let open = || space.kubectl(&["create", "configmap", "gate", "--from-literal=open=yes"]).unwrap();
    open();
    // One pod of three waits for the others.
    space.apply(&overlay().container(GATE).spec(r#""replicas": 1"#));
    let waits = shows(&space.pod(0), "that it waits", |page| page["bootstrap"]["decision"]["rule"] == "roll-call");
    assert_eq!(waits["phase"], "preparing");
    assert_eq!(waits["bootstrap"]["phase"], "waiting");
    assert_eq!((&waits["decision"], &waits["member"]), (&Value::Null, &Value::Null));
    let page = counts(&space.pod(0), &[r#"sidecar_phase{phase="preparing"} 1"#, "etcd_starts_total 0"]);
    assert!(page.contains("waiting_seconds ") && !page.contains("member_role"), "{page}");

    space.scale(3);
    space.wait_for_voters(3);
    space.kubectl(&["delete", "configmap/gate"]).unwrap();
    space.scale(4);
    let pod = space.pod(3);
    let joins = shows(&pod, "that it joins", |page| page["decision"]["rule"] == "join-start");
    assert_eq!((joins["phase"].as_str(), &joins["member"]), (Some("starting"), &Value::Null));
    let page = counts(&pod, &[r#"sidecar_phase{phase="starting"} 1"#, "etcd_starts_total 0"]);
    assert!(!page.contains("waiting_seconds") && !page.contains("member_role"), "{page}");
    let members = space.members().unwrap();
    assert_eq!(members.iter().filter(|member| member.learner && !member.started()).count(), 1, "{members:?}");

    open();
    space.wait_for_voters(4);
    let runs = shows(&pod, "that it runs", |page| page["member"]["role"] == "voter");
    assert_eq!((runs["phase"].as_str(), &runs["decision"]), (Some("running"), &joins["decision"]));
    let samples = [r#"sidecar_phase{phase="running"} 1"#, r#"member_role{role="voter"} 1"#, "quorum_margin 1"];
    let page = counts(&pod, &[&samples[..], &["etcd_starts_total 1"]].concat());
    assert!(!page.contains("waiting_seconds"), "{page}");
    for pod in space.pods(4) {
        assert_eq!(restarts(&pod), (0, 0), "{}", pod.name);
    }
}

#[test]
fn the_sidecar_founds_grows_mends_and_leaves() {
    let Some(_cluster) = cluster() else { return };
    let space = Space::new("sidecar");
    space.apply(&overlay());
    space.wait_for_voters(3);
    let writer = Writer::start(&space, 3);
    let pods = space.uids(3);
    space.scale(5);
    space.wait_for_voters(5);
    for pod in space.pods(5) {
        assert_eq!(restarts(&pod), (0, 0), "{}", pod.name);
    }
    // etcd's preStop asks the sidecar, while both are there.
    space.scale(3);
    space.wait_for_voters(3);
    assert_eq!(space.uids(3), pods);
    writer.nothing_is_lost(3);

    let before = space.members().unwrap();
    space.pod(1).lose_volume();
    let after = space.wait_for_voters(3);
    assert_ne!(after, before);
    let removed = after.iter().find(|member| member.name == "etcd-2").unwrap().id;
    eventually(SOON, "etcd takes the removal", || {
        space.pod(0).exec(&["etcdctl", "member", "remove", &format!("{removed:x}")])
    });
    eventually(SOON, "the removed member is back as another one", || {
        let members = space.members()?;
        let back = members.iter().any(|member| member.name == "etcd-2" && member.id != removed);
        if back { Ok(()) } else { Err(format!("{members:?}")) }
    });
    let members = space.wait_for_voters(3);
    writer.nothing_is_lost(3);
    space.pods(3).iter().for_each(Pod::kill);
    writer.wait_for(20);
    assert_eq!(space.wait_for_voters(3), members);
    writer.nothing_is_lost(3);
}

#[test]
fn etcd_and_its_sidecar_are_killed_in_turn() {
    let Some(_cluster) = cluster() else { return };
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: only root may kill what runs in a container");
        return;
    }
    let space = Space::new("sidecar-kills");
    space.apply(&overlay());
    let members = space.wait_for_voters(3);
    let writer = Writer::start(&space, 3);
    // Twenty kills, or four.
    let rounds = if is_long() { 10 } else { 2 };
    for round in 0..rounds {
        let pod = space.pod(round % 3);
        let (etcd, sidecar) = restarts(&pod);
        let runs = shows(&pod, "that etcd runs", |picture| picture["member"]["quorum_margin"] == 1);
        kill_nine(&pod, "--output=/config/etcd.yaml");
        eventually(SOON, "the sidecar is back", || match restarts(&pod) {
            (now, other) if other == sidecar + 1 && now == etcd => Ok(()),
            other => Err(format!("{other:?} restarts")),
        });
        let found = shows(&pod, "that it found etcd", |picture| picture["phase"] == "running");
        assert!(found["decision"]["rule"].is_string() && found["decision"] == runs["decision"], "{found}");
        kill_nine(&pod, FILE);
        eventually(SOON, "etcd is back", || match restarts(&pod) {
            (now, other) if now == etcd + 1 && other == sidecar + 1 => Ok(()),
            other => Err(format!("{other:?} restarts")),
        });
        assert_eq!(space.wait_for_voters(3), members);
    }
    writer.nothing_is_lost(3);
}

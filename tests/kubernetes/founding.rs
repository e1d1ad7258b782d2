//! A first boot, and what it waits for.

use std::time::Duration;

use crate::harness::*;

/// etcd's documented manifest with its anti-affinity; the IDs are those that its page prints.
fn documented(etcd: usize) -> Space {
    let space = Space::default_namespace();
    space.apply(&Overlay::of("manifests/drop-in").etcd(etcd));
    let ids: Vec<String> = space.wait_for_voters(3).iter().map(|member| format!("{:x}", member.id)).collect();
    assert_eq!(ids, ["4f98c3545405a0b0", "a394e0ee91773643", "d10297b8d2f01265"]);
    space
}

#[test]
fn the_documented_manifest_keeps_its_member_ids_on_the_next_etcd() {
    let Some(_cluster) = cluster() else { return };
    let space = documented(1);
    assert_eq!(space.restarts(3), [0; 3]);
}

#[test]
fn the_documented_manifest_keeps_its_member_ids_and_grows() {
    let Some(_cluster) = cluster() else { return };
    let space = documented(0);
    let pods = space.uids(3);
    let writer = Writer::start(&space, 3);
    space.scale(5);
    space.wait_for_voters(5);
    assert_eq!(space.uids(3), pods, "a running pod was replaced");
    assert_eq!(space.restarts(5), [0; 5]);
    writer.nothing_is_lost(5);
}

/// The service comes when all pods wait: until then, no name resolves.
#[test]
fn late_dns_is_waited_for() {
    let Some(_cluster) = cluster() else { return };
    let space = Space::new("late-dns");
    let manifests = Overlay::base().build(&space.namespace);
    let (services, others): (Vec<&str>, Vec<&str>) =
        manifests.split("\n---\n").partition(|manifest| manifest.contains("\nkind: Service\n"));
    space.apply_text(&others.join("\n---\n"));
    for pod in space.pods(3) {
        pod.wait_for_log("waiting: the service's DNS records are not known yet");
    }
    stays(Duration::from_secs(3), "nobody starts etcd", || {
        let started = space.pods(3).iter().any(|pod| pod.logs().is_ok_and(|logs| logs.contains("starting etcd")));
        if started { Err("etcd was started".to_owned()) } else { Ok(()) }
    });
    space.apply_text(&services.join("\n---\n"));
    space.wait_for_voters(3);
    assert_eq!(space.restarts(3), [0; 3]);
}

/// The first pod ends with this code, and `kubectl describe` shows its last words.
#[track_caller]
fn gives_up(space: &Space, exit_code: u64, sentence: &str) {
    let ended = eventually(SOON, "a pod that gave up", || {
        let status = space.pod(0).json()?["status"]["containerStatuses"][0].clone();
        let states = [&status["state"]["terminated"], &status["lastState"]["terminated"]];
        let ended = states.into_iter().find(|state| state.is_object()).cloned();
        ended.ok_or_else(|| format!("it has not ended: {status}"))
    });
    assert_eq!(ended["exitCode"].as_u64(), Some(exit_code), "{ended}");
    let message = ended["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.starts_with("error: ") && message.contains(sentence), "{ended}");
    let first = message.lines().next().unwrap_or_default();
    eventually(SOON, "kubectl describe shows it", || {
        let text = space.pod(0).describe()?;
        let shown = text.lines().any(|line| line.trim_start().starts_with("Message:") && line.contains(first));
        if shown { Ok(()) } else { Err(text) }
    });
    println!("{exit_code}: {message}");
}

#[test]
fn kubectl_describe_says_which_setting_is_wrong() {
    let Some(_cluster) = cluster() else { return };
    let space = Space::new("misconfigured");
    space.apply(&Overlay::base().env("ETCD_DISCOVERY_SRV", "example.org"));
    gives_up(&space, 78, "ETCD_DISCOVERY_SRV");
}

#[test]
fn kubectl_describe_says_what_was_waited_for() {
    let Some(_cluster) = cluster() else { return };
    let space = Space::new("timed-out");
    space.apply(&Overlay::base().env("BOOTSTRAP_TIMEOUT", "3s").spec(r#""replicas": 1"#));
    gives_up(&space, 75, "gave up after 3s: ");
}

/// Its disk is lost, which is another matter than a pod that has never run.
#[test]
fn kubectl_describe_says_why_a_pod_refuses() {
    let Some(_cluster) = cluster() else { return };
    let space = Space::new("refused");
    space.apply(&Overlay::base().env("BOOTSTRAP_ON_LOST_DATA", "fail"));
    space.wait_for_voters(3);
    space.pod(0).lose_volume();
    gives_up(&space, 69, "BOOTSTRAP_ON_LOST_DATA");
}

//! Rolling upgrades and the way back, and the traps on either: each is refused before anything is touched.

use std::path::PathBuf;

use crate::harness::*;
use crate::templates::*;

/// Waits until each member knows that the cluster is at this version.
#[track_caller]
fn wait_for_cluster_version(pods: &[&Pod], version: &str) {
    for pod in pods {
        eventually(SOON, "the cluster's version", || {
            let answer = pod.get_from_etcd("/version")?.body;
            if answer.contains(&format!("\"etcdcluster\":\"{version}\"")) { Ok(()) } else { Err(answer) }
        });
    }
}

/// etcd's own part of the disk.
fn member_dir(pod: &Pod) -> PathBuf {
    pod.volume_dir("/data").join("etcd/member")
}

/// This pod with data refuses that etcd, and its data stays as it is.
#[track_caller]
fn refuses_on_its_data(pod: &Pod, etcd: &Etcd, what: &str) {
    pod.stop(SOON);
    let before = contents(&member_dir(pod));
    pod.edit(|spec| spec.etcd = etcd.clone());
    pod.start();
    refuses_its_image(pod, what);
    assert_eq!(contents(&member_dir(pod)), before);
}

fn back_on(pod: &Pod, etcd: &Etcd) {
    pod.kill();
    pod.edit(|spec| spec.etcd = etcd.clone());
    pod.start();
}

#[test]
fn a_rolling_upgrade_from_3_5_to_3_7_with_a_lost_disk_and_joiners_on_the_way() {
    let Some([old, middle, new]) = these(["3.5.35", "3.6.16", "3.7.3"]) else { return };
    let world = World::v4();
    let spec = |name: &str, etcd: &Etcd| {
        let mut spec = entrypoint(PodSpec::new(name), 3).etcd(etcd.clone());
        // However much is written, only the restart that 3.7 needs makes a snapshot.
        spec.argv.push("--snapshot-count=1000000".to_owned());
        spec
    };
    let mut pods: Vec<Pod> = (0..3).map(|n| world.pod(spec(&format!("etcd-{n}"), &old))).collect();
    pods.iter().for_each(Pod::start);
    wait_for_voters(&all(&pods), 3, SOON);
    let writer = Writer::start(&world, &all(&pods));
    writer.wait_for(20, SOON);

    // A mixed cluster: one on 3.6; another loses its disk, and one joins.
    start_on(&pods[0], &middle);
    wait_for_voters(&all(&pods), 3, SOON);
    lose(&pods[2]);
    pods[2].start();
    wait_for_voters(&all(&pods), 3, SOON);
    let joiner = world.pod(spec("etcd-3", &middle));
    joiner.start();
    pods.push(joiner);
    wait_for_voters(&all(&pods), 4, SOON);
    for pod in &pods[1..3] {
        start_on(pod, &middle);
        wait_for_voters(&all(&pods), 4, SOON);
    }
    wait_for_cluster_version(&all(&pods), "3.6.0");

    // 3.7 cannot replay what 3.5 wrote.
    refuses_on_its_data(&pods[1], &new, "once more on 3.6");
    back_on(&pods[1], &middle);
    wait_healthy(&all(&pods), SOON);
    writer.wait_for(20, SOON);

    // The way out. A pod that lost its disk is not replaced by an etcd that the cluster is too new for.
    for pod in [&pods[0], &pods[3]] {
        start_on(pod, &middle);
        wait_healthy(&all(&pods), SOON);
    }
    let listed = members(&pods[1]).unwrap();
    lose(&pods[2]);
    pods[2].edit(|spec| spec.etcd = old.clone());
    pods[2].start();
    refuses_its_image(&pods[2], "runs at version 3.6, and etcd 3.5.35");
    assert_eq!(members(&pods[1]).unwrap(), listed);
    assert!(!member_dir(&pods[2]).exists());
    back_on(&pods[2], &middle);
    wait_for_voters(&all(&pods), 4, SOON);
    for pod in &pods {
        start_on(pod, &new);
        wait_for_voters(&all(&pods), 4, SOON);
    }
    wait_for_cluster_version(&all(&pods), "3.7.0");
    nothing_is_lost(&pods, writer);
}

/// What 3.5 wrote may still be in the log that the leader sends: a joiner does not see it before. A leader that sends a
/// snapshot instead spares it.
#[test]
fn a_joiner_of_3_7_into_a_cluster_of_3_6_is_warned_and_has_no_vote_until_it_has_the_old_log() {
    let Some([old, middle, new]) = these(["3.5.35", "3.6.16", "3.7.3"]) else { return };
    let world = World::v4();
    let mut pods = founded_on(&world, 3, &old);
    for pod in &pods {
        start_on(pod, &middle);
        wait_for_voters(&all(&pods), 3, SOON);
    }
    wait_for_cluster_version(&all(&pods), "3.6.0");
    let writer = Writer::start(&world, &all(&pods));
    let joiner = world.pod(entrypoint(PodSpec::new("etcd-3"), 3).etcd(new).env("BOOTSTRAP_JOIN_AS", "voter"));
    joiner.start();
    let panicked = eventually(SOON, "it joins or panics", || {
        let is_voter = members(&pods[0])?.iter().any(|member| member.name == "etcd-3" && !member.learner);
        let ended = joiner.exit();
        if is_voter || ended.is_some() { Ok(ended.is_some()) } else { Err(joiner.log_tail(3)) }
    });
    let logs = joiner.logs();
    assert!(logs.contains("restart every other member once more on 3.6"), "{logs}");
    assert!(logs.contains("the learner "), "{logs}");
    if panicked {
        writer.wait_for(20, SOON);
        for pod in &pods {
            start_on(pod, &middle);
            wait_healthy(&all(&pods), SOON);
        }
        lose(&joiner);
        joiner.start();
    }
    pods.push(joiner);
    wait_for_voters(&all(&pods), 4, SOON);
    nothing_is_lost(&pods, writer);
}

#[test]
fn a_half_upgraded_cluster_goes_back_and_a_wholly_upgraded_one_after_a_downgrade_was_enabled() {
    let Some([old, new]) = these(["3.5.35", "3.6.16"]) else { return };
    let world = World::v4();
    let pods = founded_on(&world, 3, &old);
    let writer = Writer::start(&world, &all(&pods));
    writer.wait_for(20, SOON);
    for etcd in [&new, &old] {
        start_on(&pods[0], etcd);
        wait_for_voters(&all(&pods), 3, SOON);
    }
    for pod in &pods {
        start_on(pod, &new);
        wait_for_voters(&all(&pods), 3, SOON);
    }
    wait_for_cluster_version(&all(&pods), "3.6.0");
    refuses_on_its_data(&pods[0], &old, "etcdctl downgrade enable 3.5");
    back_on(&pods[0], &new);
    wait_for_voters(&all(&pods), 3, SOON);
    eventually(SOON, "the downgrade is enabled", || etcdctl(&pods[0], &["downgrade", "enable", "3.5"]));
    wait_for_cluster_version(&all(&pods), "3.5.0");
    for pod in &pods {
        start_on(pod, &old);
        wait_for_voters(&all(&pods), 3, SOON);
    }
    nothing_is_lost(&pods, writer);
}

#[test]
fn a_joiner_of_the_wrong_version_is_refused_before_it_is_added_and_an_older_etcd_before_it_starts() {
    for (cluster, other) in
        [("3.5.16", "3.4.23"), ("3.6.16", "3.5.35"), ("3.7.3", "3.6.16"), ("3.5.35", "3.7.3"), ("3.4.23", "3.6.16")]
    {
        let Some([cluster, other]) = these([cluster, other]) else { continue };
        let world = World::v4();
        let pods = founded_on(&world, 1, &cluster);
        put(&pods[0], "kept", "yes").unwrap();
        let minor = |etcd: &Etcd| format!("{}.{}", etcd.numbers().0, etcd.numbers().1);
        wait_for_cluster_version(&all(&pods), &format!("{}.0", minor(&cluster)));
        let before = members(&pods[0]).unwrap();
        let joiner = world.pod(entrypoint(PodSpec::new("etcd-1"), 1).etcd(other.clone()));
        joiner.start();
        refuses_its_image(&joiner, &format!("runs at version {}, and etcd {}", minor(&cluster), other.version));
        assert_eq!(members(&pods[0]).unwrap(), before);
        assert!(!member_dir(&joiner).exists());
        if other.numbers() < cluster.numbers() {
            let what = format!("is of etcd {}, and etcd {}", minor(&cluster), other.version);
            refuses_on_its_data(&pods[0], &other, &what);
            back_on(&pods[0], &cluster);
            wait_healthy(&all(&pods), SOON);
            assert_eq!(get(&pods[0], "kept").unwrap().as_deref(), Some("yes"));
        }
    }
}

/// 3.4 logs a request of the v2 API for each `/health`, and 3.6 panics on it.
#[test]
fn a_log_of_3_4_is_refused_by_3_6_until_3_5_has_taken_a_snapshot() {
    let Some([oldest, old, new]) = these(["3.4.23", "3.5.35", "3.6.16"]) else { return };
    let world = World::v4();
    let pods = founded_on(&world, 1, &oldest);
    let pod = &pods[0];
    assert_eq!(pod.http_get(2381, "/health").unwrap().status, 200);
    put(pod, "kept", "yes").unwrap();
    start_on(pod, &old);
    wait_healthy(&[pod], SOON);
    refuses_on_its_data(pod, &new, "--snapshot-count=1");
    pod.edit(|spec| spec.argv.push("--snapshot-count=1".to_owned()));
    back_on(pod, &old);
    wait_healthy(&[pod], SOON);
    for n in 0..3 {
        put(pod, "more", &n.to_string()).unwrap();
    }
    pod.wait_for_log(SOON, "saved snapshot");
    pod.edit(|spec| spec.argv.retain(|arg| !arg.starts_with("--snapshot-count")));
    start_on(pod, &new);
    wait_healthy(&[pod], SOON);
    assert_eq!(get(pod, "kept").unwrap().as_deref(), Some("yes"));
}

/// The journal knows the binary, so that a restart asks nobody.
#[test]
fn a_restart_with_the_same_binary_asks_it_for_nothing() {
    let world = World::v4();
    let pods = founded(&world, 1);
    let journal = || std::fs::read_to_string(pods[0].volume_dir("/data").join("etcd/.etcd-bootstrap/journal")).unwrap();
    let version = default_etcd().version;
    assert!(journal().contains(&format!("\"version\": \"{version}\"")), "{}", journal());
    // A journal that remembers another version for this very file is believed.
    let remembered = journal();
    let body = remembered
        .split_once('\n')
        .unwrap()
        .1
        .replace(&format!("\"version\": \"{version}\""), "\"version\": \"3.6.0\"");
    let crc = crc32c::crc32c(body.as_bytes());
    pods[0].kill();
    let path = pods[0].volume_dir("/data").join("etcd/.etcd-bootstrap/journal");
    std::fs::write(path, format!("etcd-bootstrap journal v1 crc32c={crc:08x}\n{body}")).unwrap();
    pods[0].start();
    wait_for_voters(&all(&pods), 1, SOON);
    assert!(journal().contains("\"version\": \"3.6.0\""), "{}", journal());
}

//! A stale DNS record leads to another cluster, whose pods have the same names: it is neither joined nor changed.

use std::path::PathBuf;
use std::time::Duration;

use crate::harness::*;
use crate::templates::*;

/// Long enough for every step that must not be taken.
const A_WHILE: Duration = Duration::from_secs(3);

/// The cluster of another namespace.
struct Namesakes {
    pods: Vec<Pod>,
    members: Vec<Member>,
    cluster_id: String,
}

impl Namesakes {
    fn found(world: &World) -> Self {
        let pods =
            world.pods("etcd", 0..3, |spec| entrypoint(spec.namespace("other"), 3).env("K8S_NAMESPACE", "other"));
        pods.iter().for_each(Pod::start);
        wait_for_voters(&all(&pods), 3, SOON);
        let cluster_id = format!("{:x}", status(&pods[0]).unwrap().cluster_id);
        Self { members: members(&pods[0]).unwrap(), pods, cluster_id }
    }

    /// Its second member is behind this pod's name.
    fn are_behind(&self, world: &World, pod: &Pod) {
        world.dns().point_at(pod, self.pods[1].address());
    }

    /// These pods have dialled it.
    fn are_seen_by(&self, pod: &Pod) {
        eventually(SOON, "it sees the other cluster", || {
            let answer = pod.http_get(2381, "/status")?;
            // With TLS the other's certificate tells.
            let is_seen = answer.body.contains(&self.cluster_id) || over_tls() && answer.body.contains("TLS");
            if is_seen { Ok(()) } else { Err(answer.body) }
        });
    }

    /// Neither does the cluster change, nor do these pods run etcd or promise anything about it.
    fn are_left_alone_by(&self, pods: &[&Pod]) {
        stays(A_WHILE, "the other cluster is left alone", || {
            self.are_unchanged()?;
            for pod in pods {
                let journal = std::fs::read_to_string(journal(pod)).unwrap_or_default();
                if pod.runs_etcd() || journal.contains(&self.cluster_id) {
                    return Err(format!("{}: {journal}", pod.log_tail(20)));
                }
            }
            Ok(())
        });
    }

    fn are_unchanged(&self) -> Result<(), String> {
        let now = members(&self.pods[1])?;
        let log = self.pods[1].all_logs();
        if now != self.members || log.contains("\"msg\":\"removed member\"") {
            return Err(format!("{now:#?}"));
        }
        Ok(())
    }
}

fn journal(pod: &Pod) -> PathBuf {
    pod.volume_dir("/data").join("etcd/.etcd-bootstrap/journal")
}

/// The record is right again. Who has refused meanwhile is started again, as the kubelet does it.
fn mend(world: &World, behind: &Pod, pods: &[Pod]) {
    world.dns().repoint(behind);
    eventually(SOON, "all are voters", || {
        pods.iter().filter(|pod| pod.exit().is_some()).for_each(Pod::restart_container);
        are_voters(&all(pods), pods.len())
    });
}

#[test]
fn a_joiner_that_a_stale_record_leads_elsewhere_joins_its_own_cluster() {
    let world = World::v4();
    let other = Namesakes::found(&world);
    let mut pods = founded(&world, 3);
    other.are_behind(&world, &pods[1]);
    let joiner = world.pod(entrypoint(PodSpec::new("etcd-3"), 3));
    // At first it hears nobody of its own cluster.
    joiner.partition_from(&all(&pods));
    joiner.start();
    other.are_seen_by(&joiner);
    other.are_left_alone_by(&[&joiner]);
    joiner.heal_from(&all(&pods));
    stays(A_WHILE, "the other cluster stays as it is", || other.are_unchanged());
    let behind = pods[1].clone();
    pods.push(joiner);
    mend(&world, &behind, &pods);
    other.are_unchanged().unwrap();
}

#[test]
fn a_founder_that_a_stale_record_leads_elsewhere_replaces_nobody_there_and_founds_its_own_cluster() {
    let world = World::v4();
    let other = Namesakes::found(&world);
    let pods = stateful_set(&world, 3, 3);
    other.are_behind(&world, &pods[1]);
    pods.iter().for_each(Pod::start);
    other.are_seen_by(&pods[0]);
    other.are_left_alone_by(&all(&pods));
    // A member that is down could be removed.
    other.pods[0].crash_container();
    other.are_left_alone_by(&all(&pods));
    other.pods[0].restart_container();
    mend(&world, &pods[1], &pods);
    wait_for_voters(&all(&other.pods), 3, SOON);
    other.are_unchanged().unwrap();
}

#[test]
fn data_starts_although_a_stale_record_leads_elsewhere() {
    let world = World::v4();
    let other = Namesakes::found(&world);
    let pods = founded(&world, 3);
    put(&pods[0], "kept", "yes").unwrap();
    other.are_behind(&world, &pods[1]);
    pods.iter().for_each(Pod::crash_container);
    // Alone it cannot tell a stale record from another cluster in the place of its own.
    pods[0].restart_container();
    other.are_seen_by(&pods[0]);
    pods[2].restart_container();
    eventually(SOON, "they start as soon as they hear each other", || {
        let has_started = |pod: &Pod| pod.runs_etcd() && pod.logs().contains("data-restart");
        if has_started(&pods[0]) && has_started(&pods[2]) { Ok(()) } else { Err(pods[0].logs()) }
    });
    pods[1].restart_container();
    mend(&world, &pods[1], &pods);
    assert_eq!(get(&pods[0], "kept").unwrap().as_deref(), Some("yes"));
    other.are_unchanged().unwrap();
}

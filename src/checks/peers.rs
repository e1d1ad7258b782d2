//! Who answers, and how.

use super::{Facts, Finding, REFUSED, REJECTED, Severity, TIMED_OUT, Topic};
use crate::cluster::Cluster;
use crate::names::PodName;
use crate::observation::{EtcdView, Kind, ListFailure, PeerView, Silence, Statement};

pub(super) fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = facts.others().filter_map(|(pod, view)| peer(facts, pod, view)).collect();
    let cluster = Cluster::of(facts.intent, facts.seen);
    if !cluster.foreign().is_empty() {
        let own = cluster.expected.map(|id| format!("; this disk is of {id}")).unwrap_or_default();
        findings.push(Finding {
            severity: facts.severity(REFUSED),
            topic: Topic::Peers,
            what: format!("the peers run different clusters: {}{own}", cluster.who_runs_which()),
            fix: "find out which one is meant: two clusters must not share a service".to_owned(),
        });
    }
    findings
}

fn peer(facts: &Facts<'_>, pod: &PodName, view: &PeerView) -> Option<Finding> {
    match view {
        PeerView::Silent(silence) => silent(facts, pod, silence),
        PeerView::Waiting(said) => Some(waiting(facts, pod, said)),
        PeerView::Etcd(etcd) => Some(running(facts, pod, etcd)),
    }
}

fn silent(facts: &Facts<'_>, pod: &PodName, silence: &Silence) -> Option<Finding> {
    let (exit_code, fix) = match silence {
        // A stale record is DNS's finding.
        Silence::SomebodyElse { .. } => return None,
        // A pod that is not there matters where it is waited for; a listed voter without one is membership's finding.
        Silence::NoAddress(failure) if failure.is_absent() && !facts.waits() => return None,
        Silence::NoAddress(failure) if failure.is_absent() => {
            (TIMED_OUT, "look whether that pod was scheduled and runs; podManagementPolicy must be Parallel")
        }
        Silence::NoAddress(_) => (TIMED_OUT, "look at the cluster's DNS"),
        Silence::Refused(_) => (TIMED_OUT, "look at that pod's log: nothing listens on its peer port"),
        Silence::TimedOut(_) | Silence::Unreachable(_) => {
            (TIMED_OUT, "look at that pod's node, and at NetworkPolicies on the peer port")
        }
        Silence::Tls { .. } => {
            (REJECTED, "compare the peer certificates and CAs of both pods, and the scheme of the peer URLs")
        }
        Silence::NotEtcd(_) => (TIMED_OUT, "look what else listens on that port"),
    };
    let what = format!("{pod}: {silence}");
    Some(Finding { severity: facts.severity(exit_code), topic: Topic::Peers, what, fix: fix.to_owned() })
}

fn waiting(facts: &Facts<'_>, pod: &PodName, said: &Statement) -> Finding {
    let kind = match &said.kind {
        Kind::Blank => "its disk is empty".to_owned(),
        Kind::Prepared(_) => "it is prepared to found the cluster".to_owned(),
        Kind::Data { member_id, cluster_id, .. } => format!("it has data of {member_id} in the cluster {cluster_id}"),
        Kind::Lost => "it has lost data".to_owned(),
        Kind::WasMember => "it was a member before".to_owned(),
    };
    if said.plan != facts.intent.plan {
        return Finding {
            severity: facts.severity(TIMED_OUT),
            topic: Topic::Peers,
            what: format!("{pod} waits under another plan: {}; here: {}", said.plan, facts.intent.plan),
            fix: "finish the rollout: delete the pods of the old revision".to_owned(),
        };
    }
    Finding::ok(Topic::Peers, format!("{pod} waits: {kind}"))
}

fn running(facts: &Facts<'_>, pod: &PodName, etcd: &EtcdView) -> Finding {
    let version = etcd.version.as_ref().map(|version| format!(" {}", version.server)).unwrap_or_default();
    let what = format!("{pod} runs etcd{version}, cluster {}", etcd.cluster_id);
    let fix = match &etcd.list {
        Ok(_) | Err(ListFailure::Learner | ListFailure::NotAsked) => return Finding::ok(Topic::Peers, what),
        Err(ListFailure::NoLeader | ListFailure::TimedOut) => "bring a majority of its voters back",
        Err(ListFailure::Denied(_)) => "set BOOTSTRAP_USER and BOOTSTRAP_PASSWORD_FILE to a user with the role root",
        Err(ListFailure::Tls(_)) => "compare ETCDCTL_CACERT and ETCDCTL_CERT with the certificate of its client port",
        Err(ListFailure::Unreachable(_)) => {
            "look at the client URL that it advertises, and at NetworkPolicies on the client port"
        }
        Err(ListFailure::Other(_)) => "look at that pod's log",
    };
    let failure = etcd.list.as_ref().err().map(ToString::to_string).unwrap_or_default();
    let denied = matches!(etcd.list, Err(ListFailure::Denied(_) | ListFailure::Tls(_)));
    // Whether a missing leader matters is for the decision to say.
    let severity = if denied { facts.severity(REJECTED) } else { Severity::Warning };
    Finding { severity, topic: Topic::Peers, what: format!("{what}: {failure}"), fix: fix.to_owned() }
}

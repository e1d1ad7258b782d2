//! Who is in the cluster, and what it can bear.

use super::{Facts, Finding, Topic};
use crate::cluster::{Cluster, newest_of_all};
use crate::observation::{Member, MemberList, PeerView};

pub(super) fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    let warnings = facts.decision.map(|decision| decision.warnings.as_slice()).unwrap_or_default();
    let mut findings: Vec<Finding> =
        warnings.iter().map(|warning| Finding::of_warning(Topic::Membership, warning)).collect();
    let cluster = Cluster::of(facts.intent, facts.seen);
    let Some(list) = cluster.newest.or_else(|| newest_of_all(facts.seen)) else { return findings };
    findings.push(quorum(facts, list));
    findings.extend(list.members.iter().filter_map(unfinished));
    if cluster.newest.is_some() && cluster.confirmed.is_none() {
        findings.push(Finding::warning(
            Topic::Membership,
            "fewer than a majority of the voters give the same member list: no member can be added or removed",
            "look at the voters that do not answer",
        ));
    }
    findings
}

fn quorum(facts: &Facts<'_>, list: &MemberList) -> Finding {
    let runs = |member: &Member| {
        let answer = facts.seen.peers.get(&member.pod());
        matches!(answer.map(|answer| &answer.view), Some(PeerView::Etcd(etcd)) if etcd.cluster_id == list.cluster_id)
    };
    let voters: Vec<&Member> = list.members.iter().filter(|member| !member.is_learner).collect();
    let running = voters.iter().filter(|member| runs(member)).count();
    let spare = running.saturating_sub(voters.len() / 2 + 1);
    let may_fail = if spare == 0 { "none".to_owned() } else { spare.to_string() };
    let what = format!("{} voters, {running} run: {may_fail} of them may fail", voters.len());
    let silent: Vec<String> =
        voters.iter().filter(|member| !runs(member)).map(|member| member.pod().to_string()).collect();
    match (spare, silent.is_empty()) {
        (0, false) => Finding::warning(Topic::Membership, what, format!("bring back {}", silent.join(", "))),
        (0, true) => Finding::warning(Topic::Membership, what, "scale to three"),
        _ => Finding::ok(Topic::Membership, what),
    }
}

/// A learner that is not promoted, a member that has never started.
fn unfinished(member: &Member) -> Option<Finding> {
    let (id, pod) = (member.id, member.pod());
    if !member.has_started() {
        let fix = format!("start {pod}; if it is not wanted, run `etcdctl member remove {id}`");
        return Some(Finding::warning(Topic::Membership, format!("{id} ({pod}) was added and has never started"), fix));
    }
    let fix = format!("nothing, it is promoted when it is in sync; else run `etcd-bootstrap promote` in {pod}");
    member
        .is_learner
        .then(|| Finding::warning(Topic::Membership, format!("{id} ({pod}) is a learner: it has no vote yet"), fix))
}

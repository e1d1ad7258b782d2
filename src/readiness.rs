//! Whether a pod counts as ready where a StatefulSet creates its pods one after the other (OrderedReady).
//!
//! Readiness that needs a quorum would stop it for ever: after all pods were deleted, pod 1 is created only once pod 0
//! is ready. Readiness that never needs one would let a roll-out go on to the next pod before the last one is back.

use crate::intent::Intent;
use crate::names::PodName;
use crate::observation::{Dns, ListFailure, Member, Observation, PeerView, Resolution, ServiceRecords};
use crate::span::span;

/// What the StatefulSet is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// This pod's etcd is a voter and has a leader.
    Serves,
    /// It does not serve, and cannot before these later pods are created.
    Needs(Vec<PodName>),
    /// It does not serve yet, for this reason.
    NotYet(String),
}

/// Reads it off what was seen.
pub fn readiness(intent: &Intent, seen: &Observation) -> Readiness {
    let own = seen.peers.get(&intent.pod).map(|answer| &answer.view);
    let mut pods = span(intent, &seen.dns, None);
    let reason = match own {
        Some(PeerView::Etcd(etcd)) => match &etcd.list {
            Ok(list) if list.members.iter().any(|member| member.id == list.answered_by && !member.is_learner) => {
                return Readiness::Serves;
            }
            // etcd looks at permissions only after it has learnt the leader's index.
            Err(ListFailure::Denied(_)) => return Readiness::Serves,
            Ok(_) => format!("its etcd does not serve: {}", ListFailure::Learner),
            Err(failure) => {
                pods.extend(etcd.members.iter().flatten().map(Member::pod));
                format!("its etcd does not serve: {failure}")
            }
        },
        Some(PeerView::Waiting(_)) => "etcd has not been started yet; the log says what is waited for".to_owned(),
        Some(PeerView::Silent(silence)) => format!("its peer port does not answer: {silence}"),
        None => "its peer port has not answered yet".to_owned(),
    };
    // What is wanted is known best by the API. A member of a pod that was scaled away is not waited for then.
    if let Some(replicas) = seen.pods_wanted.as_ref().and_then(|wanted| wanted.replicas) {
        let end = intent.ordinal_start.saturating_add(replicas);
        let next = intent.pod.ordinal().and_then(|own| intent.pod.sibling(own.saturating_add(1)));
        pods.extend(next);
        pods.retain(|pod| pod.ordinal().is_some_and(|ordinal| ordinal < end));
    }
    let missing: Vec<PodName> =
        pods.into_iter().filter(|pod| is_later(&intent.pod, pod) && is_absent(intent, &seen.dns, pod)).collect();
    if missing.is_empty() { Readiness::NotYet(reason) } else { Readiness::Needs(missing) }
}

/// The StatefulSet creates it after this pod.
fn is_later(own: &PodName, pod: &PodName) -> bool {
    match (own.split(), pod.split()) {
        (Some((set, ordinal)), Some((other_set, other))) => set == other_set && other > ordinal,
        _ => false,
    }
}

/// DNS says that it is not there. What could not be asked is not absent.
fn is_absent(intent: &Intent, dns: &Dns, pod: &PodName) -> bool {
    if let ServiceRecords::Pods(named) = &dns.service {
        return !named.contains(pod);
    }
    let host = intent.peer_url(pod).host;
    matches!(dns.hosts.get(&host), Some(Resolution::Failed(failure)) if failure.is_absent())
}

#[cfg(test)]
mod tests;

//! Whether this member leaves its cluster now: a pure function of what the Kubernetes API and the peers say.
//!
//! | wanted | seen | then |
//! |---|---|---|
//! | this pod, or no pod at all | anything | stay |
//! | others | no leader | wait |
//! | others | this member is not listed | it has left |
//! | others | this member is a learner | remove it: it has no vote |
//! | others | a higher pod of the set has a vote | wait: that one goes first |
//! | others | no pod that stays has a vote and runs | wait |
//! | others | fewer than a majority of the other voters run | wait |
//! | others | this member leads | move the leadership to a pod that stays |
//! | others | else | remove this member |

use std::collections::BTreeMap;

use crate::cluster::by_id;
use crate::intent::Intent;
use crate::names::{ClusterId, MemberId, PodName};
use crate::observation::{Answer, Member, MemberList, PeerView};

#[cfg(test)]
mod tests;

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It has left.
    Left,
    /// Not yet, for this reason.
    Wait(String),
    /// Another member has to lead first.
    MoveLeader {
        /// That one.
        to: MemberId,
    },
    /// It is this member's turn.
    Remove,
}

/// Why this pod's member stays, where it does: the pod only restarts, or all pods sleep.
pub fn stays(intent: &Intent, replicas: u32) -> Option<String> {
    let pod = &intent.pod;
    let Some(ordinal) = pod.ordinal() else { return Some(format!("the pod's name {pod} has no ordinal")) };
    if replicas == 0 {
        return Some("the StatefulSet is scaled to 0: its members sleep, and none leaves".to_owned());
    }
    let end = first_unwanted(intent, replicas);
    (ordinal < end).then(|| format!("{replicas} replicas are wanted, and {pod} is one of them: its member stays"))
}

/// What to do where the pod is not wanted any more. `peers` are the answers of all pods, this one's included.
pub fn decide(
    intent: &Intent,
    (cluster_id, own_id): (ClusterId, MemberId),
    replicas: u32,
    peers: &BTreeMap<PodName, Answer>,
) -> Leave {
    let Some(list) = newest(cluster_id, peers) else {
        return Leave::Wait("no member has told of a leader".to_owned());
    };
    let Some(own) = by_id(&list.members, own_id) else { return Leave::Left };
    if own.is_learner {
        return Leave::Remove;
    }
    let others: Vec<&Member> = list.members.iter().filter(|member| !member.is_learner && member.id != own_id).collect();
    if let Some(higher) = others.iter().filter(|member| is_higher(intent, member)).max_by_key(|member| member.pod()) {
        return Leave::Wait(format!("the member {} of {} leaves first", higher.id, higher.pod()));
    }
    let running: Vec<&Member> = others.iter().copied().filter(|member| follows(intent, list, member, peers)).collect();
    let heir = running.iter().filter(|member| is_wanted(intent, replicas, member)).min_by_key(|member| member.pod());
    let Some(heir) = heir else {
        return Leave::Wait(
            "no pod that stays has a vote and runs (BOOTSTRAP_ORDINAL_START has to be the StatefulSet's first ordinal)"
                .to_owned(),
        );
    };
    if running.len() * 2 <= others.len() {
        return Leave::Wait(format!(
            "{} of {} other voters run: without this one they could not go on",
            running.len(),
            others.len()
        ));
    }
    if list.leader == own_id { Leave::MoveLeader { to: heir.id } } else { Leave::Remove }
}

/// The newest linearizable list of the cluster.
fn newest(cluster_id: ClusterId, peers: &BTreeMap<PodName, Answer>) -> Option<&MemberList> {
    let lists = peers.values().filter_map(list_of).filter(|list| list.cluster_id == cluster_id);
    lists.max_by_key(|list| (list.term, list.index))
}

fn list_of(answer: &Answer) -> Option<&MemberList> {
    match &answer.view {
        PeerView::Etcd(etcd) => etcd.list.as_ref().ok(),
        _ => None,
    }
}

/// The member has given the same list itself, at its own listed URL, and follows the same leader.
fn follows(intent: &Intent, list: &MemberList, member: &Member, peers: &BTreeMap<PodName, Answer>) -> bool {
    peers.values().filter(|answer| intent.is_listed_at(member, &answer.url)).filter_map(list_of).any(|given| {
        (given.cluster_id, given.term, given.leader) == (list.cluster_id, list.term, list.leader)
            && given.answered_by == member.id
            && given.members == list.members
    })
}

/// The StatefulSet's first ordinal, as far as the settings tell. A template whose `--initial-cluster` begins at a later
/// ordinal says where the StatefulSet begins, too.
pub fn first_ordinal(intent: &Intent) -> u32 {
    let founders = intent.plan.pods();
    let set = intent.pod.split().map(|(set, _)| set);
    let first =
        founders.iter().filter_map(PodName::split).filter(|(other, _)| Some(*other) == set).map(|(_, n)| n).min();
    intent.ordinal_start.max(first.unwrap_or_default())
}

/// The first ordinal behind those that are wanted.
fn first_unwanted(intent: &Intent, replicas: u32) -> u32 {
    first_ordinal(intent).saturating_add(replicas)
}

/// The member's ordinal, where its pod is of the same StatefulSet.
fn ordinal_in_set(intent: &Intent, member: &Member) -> Option<u32> {
    let pod = member.pod();
    let (set, ordinal) = pod.split()?;
    intent.pod.split().is_some_and(|(own, _)| own == set).then_some(ordinal)
}

fn is_higher(intent: &Intent, member: &Member) -> bool {
    ordinal_in_set(intent, member).is_some_and(|ordinal| Some(ordinal) > intent.pod.ordinal())
}

/// Pods of other sets stay as far as anybody knows here.
fn is_wanted(intent: &Intent, replicas: u32, member: &Member) -> bool {
    ordinal_in_set(intent, member).is_none_or(|ordinal| ordinal < first_unwanted(intent, replicas))
}

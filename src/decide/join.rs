//! The rules of joining a cluster that has a leader.

use std::time::Duration;

use super::{Table, journal_stage, replace, start, take};
use crate::cluster::by_id;
use crate::intent::JoinAs;
use crate::journal::Stage;
use crate::names::{ClusterId, MemberId};
use crate::observation::{Answer, Member, MemberList, PeerView};
use crate::plan::{Decision, InitialClusterState, Rule, Start, Step, initial_cluster_of};

/// etcd hashes the second into a new member's ID: an add within the second of a remove may get the removed ID.
const AFTER_REMOVE: Duration = Duration::from_secs(1);
/// A learner whose host has had no DNS record for this long has no pod any more.
const ABANDONED_FOR: Duration = Duration::from_secs(60);
/// How often a pod that waits for the learner slot tries to promote who holds it.
const PROMOTE_EVERY: Duration = Duration::from_secs(5);

impl Table<'_> {
    pub(super) fn joined(&self, cluster_id: ClusterId, id: MemberId) -> Decision {
        if let Some(list) = self.cluster.newest {
            match list.members.iter().find(|member| member.id == id) {
                Some(member) if member.has_started() => {
                    let why = format!("the member {id} was added for this pod and has run, but not on this disk");
                    return self.when_confirmed(|| self.replace_lost(cluster_id, member, why));
                }
                Some(member) => return self.start_joined(list.cluster_id, &list.members, member),
                None => {}
            }
            let why = format!("the member {id} that was added for this pod is gone again");
            return self.when_confirmed(|| match self.own(list) {
                Some(other) => {
                    self.replace_lost(cluster_id, other, format!("{why}, and {} is listed for it", other.id))
                }
                None => journal_stage(Rule::JoinIntent, Stage::Intent { cluster_id }, vec![id], why),
            });
        }
        let local = self.answers().find_map(|(_, answer)| match &answer.view {
            PeerView::Etcd(etcd) if etcd.cluster_id == cluster_id => {
                let members = etcd.members.as_deref()?;
                let own = members.iter().find(|member| member.id == id)?;
                (!own.has_started() && own.client_urls.is_empty()).then_some((members, own))
            }
            _ => None,
        });
        match local {
            Some((members, own)) => self.start_joined(cluster_id, members, own),
            None => self.no_leader(),
        }
    }

    fn start_joined(&self, cluster_id: ClusterId, members: &[Member], own: &Member) -> Decision {
        let begin = Start {
            state: InitialClusterState::Existing,
            initial_cluster: Some(initial_cluster_of(members, own.id, &self.intent.name)),
            member_id: own.id,
            cluster_id,
            first: true,
            learner: own.is_learner,
            confirmed: false,
            force_new_cluster: false,
        };
        let kind = if own.is_learner { "learner" } else { "voter" };
        let why = format!("the {kind} {} was added to the cluster {cluster_id} for this pod", own.id);
        self.when_reachable(start(Rule::JoinStart, begin, why))
    }

    pub(super) fn removing(&self, cluster_id: ClusterId, id: MemberId) -> Decision {
        let Some(list) = self.cluster.confirmed else { return self.no_leader() };
        if let Some(member) = by_id(&list.members, id) {
            if let Some(twin) = self.twin(member) {
                return twin;
            }
            let why = format!("the member {id} of this pod cannot come back: its disk is gone");
            return self.when_reachable(take(Rule::RemoveMember, Step::Remove { member_id: id }, why));
        }
        if let Some(other) = self.own(list) {
            return replace(cluster_id, other, format!("the member {} is listed for this pod, too", other.id));
        }
        if self.seen.since.step < AFTER_REMOVE {
            return self.wait(Rule::RemovedJustNow, format!("the member {id} of this pod was removed"));
        }
        let why = format!("the member {id} of this pod was removed: a new one is added");
        journal_stage(Rule::JoinIntent, Stage::Intent { cluster_id }, vec![id], why)
    }

    pub(super) fn intent_to_join(&self, cluster_id: ClusterId) -> Decision {
        let Some(list) = self.cluster.confirmed else { return self.no_leader() };
        match self.own(list) {
            Some(own) if !own.has_started() && !self.excluded(own.id) => {
                let stage = Stage::Joined { cluster_id, member_id: own.id, learner: own.is_learner };
                journal_stage(Rule::JoinFound, stage, vec![], format!("the member {} was added for this pod", own.id))
            }
            Some(own) => {
                self.replace_lost(cluster_id, own, format!("the member {} of this pod has run before", own.id))
            }
            None => self.add(list),
        }
    }

    fn add(&self, list: &MemberList) -> Decision {
        let learners: Vec<&Member> = list.members.iter().filter(|member| member.is_learner).collect();
        let voters = list.members.len() - learners.len();
        // A second voter takes the quorum with it until it has started; a voter that panics may for good.
        let learner = self.intent.join_as == JoinAs::Learner || voters < 2 || self.log_may_be_too_old();
        if learner && learners.len() >= self.intent.learners_max {
            return self.slot_is_taken(list, &learners);
        }
        if !learner {
            // A joining etcd compares the whole list: one that was added first could not start any more.
            if let Some(pending) = list.members.iter().find(|member| !member.has_started()) {
                let (id, pod) = (pending.id, pending.pod());
                let why = format!("the member {id} of {pod} has not started yet: its etcd would refuse a longer list");
                return self.wait(Rule::JoinWaits, why);
            }
            let connected = list.members.iter().filter(|member| !member.is_learner && self.runs(list, member)).count();
            if connected * 2 <= voters + 1 {
                let why = format!(
                    "{connected} of {voters} voters run: one voter more, which has not started, could cost the quorum"
                );
                return self.wait(Rule::JoinWaits, why);
            }
        }
        let why = format!("the cluster {} has a leader and no member of this pod", list.cluster_id);
        self.when_reachable(take(Rule::JoinAdd, Step::Add { learner, cluster_id: list.cluster_id }, why))
    }

    /// etcd takes one learner at a time: wait for the turn, and help along whoever cannot finish.
    fn slot_is_taken(&self, list: &MemberList, learners: &[&Member]) -> Decision {
        for learner in learners {
            let gone = self.seen.since.learner_without_record.get(&learner.id);
            if gone.is_some_and(|gone| *gone >= ABANDONED_FOR) {
                let why = format!(
                    "the learner {} of {} has no pod any more, and keeps others out",
                    learner.id,
                    learner.pod()
                );
                let step = Step::RemoveAbandonedLearner { member_id: learner.id };
                return self.when_reachable(take(Rule::AbandonedLearner, step, why));
            }
        }
        // etcd itself would give a vote to one that was in sync when it died, and with it the quorum away.
        let running = learners.iter().find(|learner| self.runs(list, learner));
        if let Some(learner) = running.filter(|_| self.seen.since.step >= PROMOTE_EVERY) {
            let why = format!("the learner {} of {} is not promoted by its own pod", learner.id, learner.pod());
            return take(Rule::PromoteLearner, Step::PromoteLearner { member_id: learner.id }, why);
        }
        let each: Vec<String> = learners.iter().map(|learner| format!("{} of {}", learner.id, learner.pod())).collect();
        let why = format!("the cluster takes one learner at a time, and has {}: it is promoted first", each.join(", "));
        self.wait(Rule::JoinWaits, why)
    }

    fn runs(&self, list: &MemberList, member: &Member) -> bool {
        member.has_started()
            && self.answers().any(|(_, answer)| {
                self.intent.is_listed_at(member, &answer.url)
                    && matches!(&answer.view, PeerView::Etcd(etcd) if etcd.cluster_id == list.cluster_id)
            })
    }

    /// Before a member is removed, nothing but this process may answer at the URL where it is listed.
    fn twin(&self, member: &Member) -> Option<Decision> {
        let is_there = |answer: &&Answer| self.intent.is_listed_at(member, &answer.url);
        let answer = self.seen.peers.get(&self.intent.pod).filter(is_there);
        let who = match answer.map(|answer| &answer.view) {
            Some(PeerView::Waiting(said)) if said.process_id == self.seen.process_id => return None,
            Some(PeerView::Waiting(_)) => "another pod of this name waits".to_owned(),
            Some(PeerView::Etcd(etcd)) => format!("an etcd of the cluster {} answers", etcd.cluster_id),
            Some(PeerView::Silent(silence)) => silence.to_string(),
            None => "not asked yet".to_owned(),
        };
        let listed = member.peer_urls.join(", ");
        let why = format!("only this process may answer at {listed}, and there: {who}");
        Some(self.wait(Rule::TwinPod, why))
    }

    /// A membership call needs a list that a majority gives.
    pub(super) fn when_confirmed(&self, then: impl FnOnce() -> Decision) -> Decision {
        if self.cluster.confirmed.is_some() { then() } else { self.no_leader() }
    }
}

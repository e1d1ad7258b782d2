//! The rules for a disk that has a WAL.

use std::time::Duration;

use super::{FOREIGN_FOR, Table, refuse, start, take};
use crate::cluster::by_id;
use crate::intent::OnRemoved;
use crate::journal::Stage;
use crate::names::ClusterId;
use crate::observation::{Kind, ListFailure, MemberList, PeerView, WalFacts};
use crate::plan::{Decision, InitialClusterState, Rule, Start, Step};

/// How long the peers have to say that they have a leader: etcd starts within a second.
const GRACE: Duration = Duration::from_millis(900);
/// The same after many starts that no leader has confirmed: a member that was removed needs a leader to learn it.
const GRACE_MAX: Duration = Duration::from_secs(8);

impl Table<'_> {
    pub(super) fn with_data(&self, facts: &WalFacts) -> Decision {
        if let Some(list) = self.cluster.newest {
            if let Some(member) = by_id(&list.members, facts.member_id) {
                let listed = Start { learner: member.is_learner, confirmed: true, ..restart(facts) };
                return start(Rule::DataListed, listed, format!("the leader lists this member {}", facts.member_id));
            }
            if let Some(list) = self.cluster.confirmed {
                return self.removed(facts, list);
            }
        } else if let Some(foreign) = self.only_foreign(facts.cluster_id) {
            return foreign;
        }
        if self.intent.force_new_cluster && self.journal().is_some_and(|journal| !journal.forced_new_cluster) {
            return self.forced(facts);
        }
        let unconfirmed = self.journal().map_or(0, |journal| journal.unconfirmed_starts);
        if self.cluster.newest.is_none() && unconfirmed == 0 && self.nobody_leads() {
            let why = "it has data, and no peer has a leader: a cold restart waits for nobody";
            return start(Rule::DataRestart, self.unheard(facts), why);
        }
        // Who was about to leave has most likely left: etcd would start only to be told so.
        let was_leaving = self.journal().is_some_and(|journal| journal.leaving.is_some());
        let grace = GRACE.saturating_mul(1 << unconfirmed.min(10)).min(GRACE_MAX);
        let grace = if was_leaving { GRACE_MAX } else { grace };
        if self.seen.since.start < grace {
            return self
                .wait(Rule::DataGrace, "it has data; the peers have a moment to say whether they have a leader");
        }
        start(Rule::DataRestart, self.unheard(facts), "it has data, and no peer has told of a leader in time")
    }

    /// An operator has named this disk as the one that goes on. A leader that can be heard is the better answer: beside
    /// it there would be two clusters of one ID.
    fn forced(&self, facts: &WalFacts) -> Decision {
        if self.cluster.newest.is_some() || !self.nobody_leads() && self.seen.since.start < GRACE_MAX {
            let why = "BOOTSTRAP_FORCE_NEW_CLUSTER names this pod; its peers have a moment to say whether they have a \
                       leader, which would go on instead";
            return self.wait(Rule::DataGrace, why);
        }
        let why = "BOOTSTRAP_FORCE_NEW_CLUSTER names this pod: it becomes a cluster of one, once";
        start(Rule::ForceNewCluster, Start { force_new_cluster: true, ..restart(facts) }, why)
    }

    /// Nobody has said whether it is a learner: it was added as one, and its promoter will see whether it still is.
    fn unheard(&self, facts: &WalFacts) -> Start {
        let learner = self.journal().is_some_and(|journal| {
            matches!(journal.stage, Stage::Joined { member_id, learner: true, .. } if member_id == facts.member_id)
        });
        Start { learner, ..restart(facts) }
    }

    /// A leader of this disk's cluster does not list its member: it was removed, unless that cluster was founded anew
    /// under the same ID and is younger than this disk.
    ///
    /// A cluster that goes on has every entry that was ever committed. So its commit index, which `list` has, is not
    /// below the disk's. And an entry of term t was written by the one leader of that term: if this disk's last entry is
    /// of the leader's own term, the leader has all that this disk has, and if not, the leader's term is higher, for the
    /// tail of a leader that was cut off is only overruled by the next election. So neither a tail that was never
    /// committed nor the terms in which a member campaigned alone (which 3.4 does without end) are held against it.
    /// What is below in one of the two is younger. A younger cluster that has passed both is not told from one that goes
    /// on; the data is put aside then, not deleted.
    fn removed(&self, facts: &WalFacts, list: &MemberList) -> Decision {
        let (id, cluster) = (facts.member_id, facts.cluster_id);
        if list.index < facts.commit || (list.term, list.index) < (facts.term, facts.index) {
            return refuse(
                Rule::DataAheadOfCluster,
                69,
                format!(
                    "the cluster {cluster} does not list this member {id}, and is younger than its data: \
                     term {} and index {} against {} and {} on this disk, of which {} is committed",
                    list.term, list.index, facts.term, facts.index, facts.commit
                ),
                "this disk may hold the only copy of acknowledged writes: compare both before anything is deleted; \
                 nothing was changed",
            );
        }
        if self.intent.on_removed == OnRemoved::Fail {
            return refuse(
                Rule::DataRemoved,
                69,
                format!("the cluster {cluster} has removed this member {id}, and BOOTSTRAP_ON_REMOVED=fail"),
                "set BOOTSTRAP_ON_REMOVED=rejoin to put its data aside and join as a new member",
            );
        }
        let archive = Step::Archive { member_id: Some(id), cluster_id: Some(cluster), never_spoke: false };
        let why = format!("the cluster {cluster} has removed this member {id}: its data is put aside");
        take(Rule::DataRemoved, archive, why)
    }

    /// A leader of another cluster answers, and nobody states or runs the one on this disk.
    fn only_foreign(&self, own: ClusterId) -> Option<Decision> {
        let led = self.answers().any(
            |(_, answer)| matches!(&answer.view, PeerView::Etcd(etcd) if etcd.cluster_id != own && etcd.list.is_ok()),
        );
        let ours = self.answers().any(|(_, answer)| match &answer.view {
            PeerView::Etcd(etcd) => etcd.cluster_id == own,
            PeerView::Waiting(said) => matches!(said.kind, Kind::Data { cluster_id, .. } if cluster_id == own),
            PeerView::Silent(_) => false,
        });
        if !led || ours {
            return None;
        }
        let why = format!("this disk belongs to the cluster {own}, but {}", self.cluster.who_runs_which());
        if self.seen.since.foreign < FOREIGN_FOR {
            return Some(self.wait(Rule::DataForeign, why));
        }
        Some(refuse(
            Rule::DataForeign,
            69,
            why,
            "find out where this volume comes from; its data was not touched, and it joins no other cluster",
        ))
    }

    /// Everybody who may be a peer has answered, and none can have a leader. Before the service was asked nobody
    /// knows who may be a peer: a cluster of one may have grown and removed its founder, which would start etcd only
    /// to be told so, again and again.
    fn nobody_leads(&self) -> bool {
        self.service_is_known()
            && self.others.iter().all(|pod| match self.view(pod) {
                Some(PeerView::Waiting(_)) => true,
                Some(PeerView::Etcd(etcd)) => etcd.list == Err(ListFailure::NoLeader),
                Some(PeerView::Silent(_)) | None => false,
            })
    }
}

fn restart(facts: &WalFacts) -> Start {
    Start {
        state: InitialClusterState::Existing,
        initial_cluster: None,
        member_id: facts.member_id,
        cluster_id: facts.cluster_id,
        first: false,
        learner: false,
        confirmed: false,
        force_new_cluster: false,
    }
}

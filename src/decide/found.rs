//! The rules for a disk without data: join a cluster that has a leader, else found one, once all say that they are
//! blank.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Table, and_list, journal_stage, refuse, replace, start};
use crate::cluster::by_id;
use crate::intent::{OnLostData, Plan, State};
use crate::journal::Stage;
use crate::names::{ClusterId, DiskId, MemberId, PodName};
use crate::observation::{Kind, Member, PeerView, Statement};
use crate::plan::{Decision, InitialClusterState, Rule, Start};
use crate::standing::Standing;

/// How long a pod may take to answer before `BOOTSTRAP_STATE=new` counts it as silent.
pub(super) const SILENT_FOR: Duration = Duration::from_secs(5);

impl Table<'_> {
    /// Blank, or a member once.
    pub(super) fn without_data(&self) -> Decision {
        if let Some(decision) = self.foreign() {
            return decision;
        }
        if let Some(list) = self.cluster.confirmed {
            let cluster_id = list.cluster_id;
            return match self.own(list) {
                Some(own) => {
                    let why = format!(
                        "the cluster {cluster_id} lists {} for this pod, but its data is not on this disk",
                        own.id
                    );
                    self.replace_lost(cluster_id, own, why)
                }
                None => {
                    let exclude = self.intent.static_id().into_iter().collect();
                    let why = format!("the cluster {cluster_id} has a leader and no member of this pod");
                    journal_stage(Rule::JoinIntent, Stage::Intent { cluster_id }, exclude, why)
                }
            };
        }
        if self.standing == Standing::Blank { self.roll_call() } else { self.no_leader() }
    }

    /// The listed member of this pod is replaced; where it has run, its disk is lost, and the settings may refuse that.
    pub(super) fn replace_lost(&self, cluster_id: ClusterId, own: &Member, why: impl Into<String>) -> Decision {
        if !own.has_started() || self.intent.on_lost_data == OnLostData::Replace {
            return replace(cluster_id, own, why);
        }
        refuse(
            Rule::LossRefused,
            69,
            format!("{}, and BOOTSTRAP_ON_LOST_DATA=fail", why.into()),
            "restore the volume, or set BOOTSTRAP_ON_LOST_DATA=replace to replace the member",
        )
    }

    /// There is a cluster to be joined or finished, but nobody leads it.
    pub(super) fn no_leader(&self) -> Decision {
        if let Some(decision) = self.unconfirmed().or_else(|| self.foreign()) {
            return decision;
        }
        let what = match &self.standing {
            Standing::WasMember => "this disk was a member's before",
            Standing::Joined(..) | Standing::Intent(_) | Standing::Removing(..) => "this pod is joining a cluster",
            _ => "this disk is empty, but its peers have data",
        };
        let peers = self.others.iter().map(|pod| (pod.clone(), self.describe(pod))).collect();
        let quorum = self.lost_quorum().unwrap_or_default();
        self.wait(Rule::NoLeader, format!("{what}: it waits for a leader ({}){quorum}", and_list(&peers)))
    }

    fn roll_call(&self) -> Decision {
        if let Some(decision) = self.unconfirmed().or_else(|| self.foreign()) {
            return decision;
        }
        let with_data = self.answers().any(|(_, answer)| match &answer.view {
            PeerView::Etcd(_) => true,
            PeerView::Waiting(said) => !matches!(said.kind, Kind::Blank | Kind::Prepared(_)),
            PeerView::Silent(_) => false,
        });
        if with_data {
            return self.no_leader();
        }
        let Some(static_id) = self.intent.static_id() else {
            let why = format!(
                "this pod is none of the initial members ({}): it waits for their cluster{}",
                self.founders(),
                self.rejections()
            );
            return self.wait(Rule::NotAFounder, why);
        };
        if self.intent.state == State::Existing {
            return self.wait(
                Rule::NotAFounder,
                format!(
                    "BOOTSTRAP_STATE=existing: this pod founds no cluster, and waits for a leader{}",
                    self.rejections()
                ),
            );
        }
        match (self.seen.hearing.heard_twice(), self.own_disk()) {
            (Some(heard), Some(own)) if self.all_heard(heard) => {
                let mut disks = heard.clone();
                disks.insert(self.intent.pod.clone(), own.clone());
                let stage = Stage::Prepared { plan: self.intent.plan.clone(), static_id, disks };
                journal_stage(Rule::Prepare, stage, vec![], "all pods have said twice that they are blank")
            }
            _ => {
                self.wait(Rule::RollCall, self.missing(|kind| matches!(kind, Kind::Blank | Kind::Prepared(_)), "blank"))
            }
        }
    }

    pub(super) fn prepared(&self, plan: &Plan, static_id: MemberId) -> Decision {
        let cluster_id = plan.cluster_id;
        if let Some(list) = self.cluster.newest {
            match (by_id(&list.members, static_id), self.own(list)) {
                (Some(own), _) if !own.client_urls.is_empty() => {
                    let why = format!("the member {static_id} has run, but not on this disk");
                    return self.when_confirmed(|| self.replace_lost(cluster_id, own, why));
                }
                (Some(_), _) => {
                    return self.found(Rule::FoundFollow, plan, static_id, "a peer runs the planned cluster");
                }
                (None, Some(other)) => {
                    let why = format!("the cluster lists {} for this pod instead of {static_id}", other.id);
                    return self.when_confirmed(|| self.replace_lost(cluster_id, other, why));
                }
                (None, None) => {
                    let why = format!("the member {static_id} of this pod was removed before it started");
                    let stage = Stage::Intent { cluster_id };
                    return self.when_confirmed(|| journal_stage(Rule::JoinIntent, stage, vec![static_id], why));
                }
            }
        }
        if self.a_peer_finished(plan, static_id) {
            return self.found(Rule::FoundFollow, plan, static_id, "a peer runs the planned cluster");
        }
        if let Some(decision) = self.foreign() {
            return decision;
        }
        if *plan != self.intent.plan {
            // Nobody runs the journalled plan: the new one starts from the beginning.
            return self.roll_call();
        }
        if self.intent.state == State::Existing {
            return self.wait(
                Rule::NotAFounder,
                format!(
                    "BOOTSTRAP_STATE=existing: this pod founds no cluster, and waits for a leader{}",
                    self.rejections()
                ),
            );
        }
        self.found_together(plan, static_id)
    }

    fn found_together(&self, plan: &Plan, static_id: MemberId) -> Decision {
        let prepared = self.prepared_founders();
        let all = plan.pods().iter().all(|pod| prepared.contains_key(pod));
        let unasked = self.intent.state == State::New && self.silent_or_prepared(&prepared);
        if !all && !unasked {
            return self.wait(Rule::RollCall, self.missing(|kind| matches!(kind, Kind::Prepared(_)), "prepared"));
        }
        if !all {
            return self.found(
                Rule::FoundUnasked,
                plan,
                static_id,
                "BOOTSTRAP_STATE=new: those that answer are prepared",
            );
        }
        if self.intent.state != State::New && !prepared.values().all(|said| self.disks_still_there(said)) {
            let why = "all are prepared, but a majority of the disks that they were prepared with has changed: a quorum of \
                       disks may be lost. If nothing was ever written to this cluster, set BOOTSTRAP_STATE=new";
            return self.wait(Rule::DisksChanged, why);
        }
        self.found(Rule::FoundAll, plan, static_id, "all initial members are prepared")
    }

    fn found(&self, rule: Rule, plan: &Plan, static_id: MemberId, why: &str) -> Decision {
        let begin = Start {
            state: InitialClusterState::New,
            initial_cluster: Some(plan.initial_cluster()),
            member_id: static_id,
            cluster_id: plan.cluster_id,
            first: true,
            learner: false,
            confirmed: false,
            force_new_cluster: false,
        };
        self.when_reachable(start(rule, begin, why))
    }

    /// A peer runs the journalled cluster, and this pod's place in it is still free: its list has the static ID
    /// unstarted, or no list yet, for it was killed within milliseconds.
    fn a_peer_finished(&self, plan: &Plan, static_id: MemberId) -> bool {
        self.answers().any(|(_, answer)| match &answer.view {
            PeerView::Etcd(etcd) if etcd.cluster_id == plan.cluster_id => match &etcd.members {
                None => true,
                Some(members) => by_id(members, static_id).is_some_and(|own| own.client_urls.is_empty()),
            },
            _ => false,
        })
    }

    /// The initial members that say "prepared" under the same plan, this one included, with the disks that each was
    /// prepared with.
    fn prepared_founders(&self) -> BTreeMap<PodName, &BTreeMap<PodName, DiskId>> {
        let own = self.journal().and_then(|journal| match &journal.stage {
            Stage::Prepared { disks, .. } => Some((self.intent.pod.clone(), disks)),
            _ => None,
        });
        let others =
            self.others.iter().filter(|pod| self.intent.plan.pods().contains(pod)).filter_map(|pod| {
                match self.statement_of(pod) {
                    Some(said) if said.plan == self.intent.plan => match &said.kind {
                        Kind::Prepared(disks) => Some((pod.clone(), disks)),
                        _ => None,
                    },
                    _ => None,
                }
            });
        others.chain(own).collect()
    }

    /// A `prepared` counts only while the disks that it was heard of are still there for a majority of the members.
    fn disks_still_there(&self, disks: &BTreeMap<PodName, DiskId>) -> bool {
        let founders = self.intent.plan.pods();
        let now = |pod: &PodName| {
            if *pod == self.intent.pod {
                return self.own_disk();
            }
            self.statement_of(pod).map(|said| &said.disk_id)
        };
        let same = founders.iter().filter(|pod| now(pod).is_some_and(|disk| disks.get(*pod) == Some(disk))).count();
        same * 2 > founders.len()
    }

    /// `BOOTSTRAP_STATE=new`: a majority of the initial members is prepared, and nobody else says anything.
    fn silent_or_prepared(&self, prepared: &BTreeMap<PodName, &BTreeMap<PodName, DiskId>>) -> bool {
        self.enough_founders(|pod| prepared.contains_key(pod))
            && self.others.iter().all(|pod| {
                let blank = |said: &Statement| said.kind == Kind::Blank && !self.intent.plan.pods().contains(pod);
                prepared.contains_key(pod) || self.statement_of(pod).is_some_and(blank)
            })
            && self.seen.since.start >= SILENT_FOR
    }

    /// The hearing is of everybody who has to speak now: DNS may show more pods than when it was heard, and before DNS
    /// has shown any, nobody knows who has to speak.
    fn all_heard(&self, heard: &BTreeMap<PodName, DiskId>) -> bool {
        self.service_is_known()
            && self.others.iter().all(|pod| heard.contains_key(pod))
            && self.enough_founders(|pod| heard.contains_key(pod))
    }

    /// All initial members, or with `BOOTSTRAP_STATE=new` a majority, for fewer could never have a leader.
    fn enough_founders(&self, has: impl Fn(&PodName) -> bool) -> bool {
        let founders = self.intent.plan.pods();
        let count = founders.iter().filter(|pod| **pod == self.intent.pod || has(pod)).count();
        if self.intent.state == State::New { count * 2 > founders.len() } else { count == founders.len() }
    }

    fn founders(&self) -> String {
        self.intent.plan.founders.iter().map(|founder| founder.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn missing(&self, enough: impl Fn(&Kind) -> bool, what: &str) -> String {
        let missing: BTreeMap<PodName, String> = self
            .others
            .iter()
            .filter(|pod| {
                !self.statement_of(pod).is_some_and(|said| said.plan == self.intent.plan && enough(&said.kind))
            })
            .map(|pod| (pod.clone(), self.describe(pod)))
            .collect();
        if !self.service_is_known() {
            return "the service's DNS records are not known yet: they tell which pods have to say so".to_owned();
        }
        if self.others.is_empty() {
            return "no other pod is known so far; the Kubernetes API is asked which pods there may be".to_owned();
        }
        if missing.is_empty() {
            return format!("every pod has said that it is {what}; asking once more");
        }
        format!("it needs every pod to say that it is {what} ({}){}", and_list(&missing), self.claimed(&missing))
    }

    /// Pods that only their claims tell of: under `OrderedReady` they are not started before this one is ready.
    fn claimed(&self, missing: &BTreeMap<PodName, String>) -> String {
        let Some(wanted) = self.seen.pods_wanted.as_ref().filter(|_| self.intent.plan.founders.len() == 1) else {
            return String::new();
        };
        let claimed = |pod: &&PodName| pod.ordinal().is_some_and(|ordinal| wanted.claimed.contains(&ordinal));
        let pods: Vec<&str> = missing.keys().filter(claimed).map(PodName::as_str).collect();
        if pods.is_empty() {
            return String::new();
        }
        format!(
            "; a PersistentVolumeClaim of {} is there, so that this may be a grown cluster whose first disk is lost: \
             if the claim is left over from an earlier one, delete it or set BOOTSTRAP_STATE=new",
            pods.join(" and of ")
        )
    }
}

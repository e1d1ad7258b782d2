//! The decision: a pure function of recorded facts.
//!
//! The rules are tried in the order of the disk's standing, and the first match wins. L is a linearizable member list
//! of a cluster that is ours, which a majority of its voters gives alike (`cluster.rs`).
//!
//! | disk | seen | decision | in |
//! |---|---|---|---|
//! | another pod's | anything | refuse | here |
//! | what this image's etcd cannot work with, or a cluster that it cannot | anything | refuse | `version.rs` |
//! | a WAL | L lists it / lacks it / no leader | start / archive and join / start | `data.rs` |
//! | a loss | L / no quorum ever ran / else | archive and replace / archive / wait | `loss.rs` |
//! | a join begun | L | finish it | `join.rs` |
//! | prepared | a peer runs the plan, or all are prepared | start `new` | `found.rs` |
//! | blank | L / all blank, twice / else | join / prepare / wait | `found.rs` |

mod data;
mod found;
mod join;
mod loss;
mod quorum;
mod version;
mod warn;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::cluster::{self, Cluster};
use crate::hearing::Listener;
use crate::intent::Intent;
use crate::journal::{Journal, Stage};
use crate::names::{ClusterId, DiskId, MemberId, PodName};
use crate::observation::{
    Answer, JournalFile, Kind, Member, MemberList, Observation, OwnName, PeerView, ServiceRecords, Statement, Wal,
};
use crate::plan::{Action, Decision, Rule, Start, Step};
use crate::span::span;
use crate::standing::{self, Standing};

/// How long peers may run another cluster before that is believed: a stale DNS record lives about as long.
const FOREIGN_FOR: Duration = Duration::from_secs(30);

/// Decides what to do next.
pub fn decide(intent: &Intent, seen: &Observation) -> Decision {
    let table = Table::new(intent, seen);
    let mut decision = table.by_version(table.first_match());
    decision.warnings = table.warnings();
    if intent.hold && !matches!(decision.action, Action::Wait { .. }) {
        let why = format!("BOOTSTRAP_HOLD is set. Without it: {} ({})", decision.why, decision.rule);
        return Decision { warnings: decision.warnings, ..table.wait(Rule::Hold, why) };
    }
    decision
}

/// Whose statements a founding needs, and to whom.
pub fn listener<'a>(intent: &'a Intent, seen: &Observation) -> Listener<'a> {
    let lost = matches!(Standing::of(&seen.disk), Standing::Lost(_));
    let mut others = span(intent, &seen.dns, seen.pods_wanted.as_ref());
    others.remove(&intent.pod);
    // To who has lost data silence is no consent, whatever BOOTSTRAP_STATE says.
    if intent.state == crate::intent::State::New && !lost && seen.since.start >= found::SILENT_FOR {
        others
            .retain(|pod| !matches!(seen.peers.get(pod).map(|answer| &answer.view), None | Some(PeerView::Silent(_))));
    }
    Listener { others, plan: &intent.plan, lost }
}

/// The facts, and what was drawn out of them once.
struct Table<'a> {
    intent: &'a Intent,
    seen: &'a Observation,
    cluster: Cluster<'a>,
    standing: Standing<'a>,
    /// Who is asked, without this pod.
    others: BTreeSet<PodName>,
}

impl<'a> Table<'a> {
    fn new(intent: &'a Intent, seen: &'a Observation) -> Self {
        let cluster = Cluster::of(intent, seen);
        let others = listener(intent, seen).others;
        Self { intent, seen, cluster, standing: Standing::of(&seen.disk), others }
    }

    fn first_match(&self) -> Decision {
        if let Some(refusal) = self.volume_is_wrong() {
            return refusal;
        }
        if let Some(archiving) = self.journal().and_then(|journal| journal.archiving.clone()) {
            return take(Rule::FinishArchive, Step::FinishArchive(archiving), "an archive was begun and not finished");
        }
        if let Some(list) = self.cluster.newest
            && cluster::own_members(self.intent, &list.members).len() > 1
            && !self.data_is_listed(list)
        {
            return self.two_members(list);
        }
        match &self.standing {
            Standing::Unspoken(facts) => take(
                Rule::UnspokenWal,
                Step::Archive {
                    member_id: Some(facts.member_id),
                    cluster_id: Some(facts.cluster_id),
                    never_spoke: true,
                },
                "etcd was killed within milliseconds of its first start: its WAL has neither an entry nor a state \
                 record, so that its member has never voted",
            ),
            Standing::Wal(facts) => self.with_data(facts),
            Standing::Lost(loss) => self.after_a_loss(loss),
            Standing::Joined(cluster, id) => self.joined(*cluster, *id),
            Standing::Removing(cluster, id) => self.removing(*cluster, *id),
            Standing::Intent(cluster) => self.intent_to_join(*cluster),
            Standing::Prepared(plan, id) => self.prepared(plan, *id),
            Standing::WasMember | Standing::Blank => self.without_data(),
        }
    }

    fn volume_is_wrong(&self) -> Option<Decision> {
        if let Some(path) = &self.seen.disk.misplaced_wal {
            return Some(refuse(
                Rule::MisplacedWal,
                78,
                format!(
                    "a WAL lies at `{}`, but the settings point elsewhere: etcd would found a new cluster beside it",
                    path.display()
                ),
                "point --wal-dir (or --data-dir) at the WAL, or move the WAL to where it points",
            ));
        }
        if let Some(owner) = standing::belongs_to(&self.seen.disk, self.intent) {
            return Some(refuse(
                Rule::SwappedVolume,
                69,
                format!("this volume belongs to the pod {owner}, not to {}", self.intent.pod),
                "give each pod its own volume back; nothing was changed",
            ));
        }
        let Wal::Present(facts) = &self.seen.disk.wal else { return None };
        let listed = cluster::by_id(&self.cluster.newest?.members, facts.member_id)?;
        (!self.intent.is_mine(listed) && listed.name != self.intent.name).then(|| {
            refuse(
                Rule::SwappedVolume,
                69,
                format!(
                    "this volume holds the member {} of {}, but this pod is {}",
                    facts.member_id,
                    listed.pod(),
                    self.intent.pod
                ),
                "give each pod its own volume back; nothing was changed",
            )
        })
    }

    /// A WAL goes by its ID: whatever else is listed for this pod, its member can start.
    fn data_is_listed(&self, list: &MemberList) -> bool {
        matches!(&self.standing, Standing::Wal(facts) if cluster::by_id(&list.members, facts.member_id).is_some())
    }

    fn two_members(&self, list: &MemberList) -> Decision {
        let ids: Vec<String> = cluster::own_members(self.intent, &list.members)
            .iter()
            .map(|member| format!("{} ({})", member.id, member.peer_urls.join(",")))
            .collect();
        refuse(
            Rule::TwoMembers,
            69,
            format!("the cluster {} has more than one member of this pod: {}", list.cluster_id, ids.join(" and ")),
            "remove the one that does not run: etcdctl member remove ID",
        )
    }

    fn journal(&self) -> Option<&'a Journal> {
        match &self.seen.disk.journal {
            JournalFile::Valid(journal) => Some(journal),
            _ => None,
        }
    }

    fn excluded(&self, id: MemberId) -> bool {
        self.journal().is_some_and(|journal| journal.excluded.contains(&id))
    }

    /// This pod's member in a list.
    fn own<'b>(&self, list: &'b MemberList) -> Option<&'b Member> {
        cluster::own_members(self.intent, &list.members).first().copied()
    }

    fn answers(&self) -> impl Iterator<Item = (&'a PodName, &'a Answer)> + '_ {
        self.seen.peers.iter().filter(|(pod, _)| **pod != self.intent.pod)
    }

    fn view(&self, pod: &PodName) -> Option<&'a PeerView> {
        self.seen.peers.get(pod).map(|answer| &answer.view)
    }

    fn statement_of(&self, pod: &PodName) -> Option<&'a Statement> {
        match self.view(pod)? {
            PeerView::Waiting(statement) => Some(statement),
            _ => None,
        }
    }

    /// The service's records were read, so that the span is more than a guess.
    fn service_is_known(&self) -> bool {
        matches!(self.seen.dns.service, ServiceRecords::Pods(_) | ServiceRecords::Static)
    }

    fn own_disk(&self) -> Option<&'a DiskId> {
        standing::disk_id(&self.seen.disk)
    }

    /// The step, once this pod's own name is published: what a peer could not reach must not be a member.
    fn when_reachable(&self, decision: Decision) -> Decision {
        let problem = match &self.seen.dns.own {
            OwnName::Ours => return decision,
            OwnName::NotAsked => "was not asked for yet".to_owned(),
            OwnName::Elsewhere(addresses) => {
                let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                format!("still points at {}, which is not this pod", addresses.join(", "))
            }
            OwnName::No(failure) => format!("does not resolve: {failure}"),
        };
        let why = format!("this pod's own name {} {problem}", self.intent.peer_urls[0].host);
        self.wait(Rule::OwnNameUnpublished, why)
    }

    /// A leader answered, but too few of its voters confirm what it says.
    fn unconfirmed(&self) -> Option<Decision> {
        let list = self.cluster.newest.filter(|_| self.cluster.confirmed.is_none())?;
        let why = format!(
            "the cluster {} has a leader, but fewer than a majority of its voters could be asked for the same list",
            list.cluster_id
        );
        Some(self.wait(Rule::ListUnconfirmed, why))
    }

    /// Peers run a cluster that this disk does not belong to, or several clusters.
    fn foreign(&self) -> Option<Decision> {
        let foreign = self.cluster.foreign();
        // A disk that knows no cluster cannot tell which of several is its own, whichever has a leader.
        let ours_leads = self.cluster.newest.is_some() && self.cluster.expected.is_some();
        if foreign.is_empty() || ours_leads {
            return None;
        }
        let why = match self.cluster.expected {
            Some(id) => format!("this disk belongs to the cluster {id}, but {}", self.cluster.who_runs_which()),
            None => format!("the peers run different clusters: {}", self.cluster.who_runs_which()),
        };
        if self.seen.since.foreign < FOREIGN_FOR {
            return Some(self.wait(Rule::ForeignCluster, format!("{why} (a stale DNS record would pass)")));
        }
        Some(refuse(
            Rule::ForeignCluster,
            69,
            why,
            "find out which cluster this pod belongs to; nothing was changed. Two clusters must not share a service",
        ))
    }

    fn wait(&self, rule: Rule, why: impl Into<String>) -> Decision {
        let on = self.others.iter().map(|pod| (pod.clone(), self.describe(pod))).collect();
        Decision { rule, action: Action::Wait { on }, why: why.into(), warnings: Vec::new() }
    }

    /// The peers that TLS or authentication keeps from this pod, in brackets; nothing where there is none.
    fn rejections(&self) -> String {
        let rejected = self.others.iter().filter(|pod| self.view(pod).is_some_and(PeerView::is_rejection));
        let rejected: BTreeMap<PodName, String> = rejected.map(|pod| (pod.clone(), self.describe(pod))).collect();
        if rejected.is_empty() { String::new() } else { format!(" ({})", and_list(&rejected)) }
    }

    /// What a pod does, in a few words.
    fn describe(&self, pod: &PodName) -> String {
        match self.view(pod) {
            None => "not asked yet".to_owned(),
            Some(PeerView::Silent(silence)) => silence.to_string(),
            Some(PeerView::Etcd(etcd)) => match &etcd.list {
                Ok(list) => format!("runs etcd, cluster {}, leader {}", etcd.cluster_id, list.leader),
                Err(failure) => format!("runs etcd, cluster {}: {failure}", etcd.cluster_id),
            },
            Some(PeerView::Waiting(said)) => {
                let kind = match &said.kind {
                    Kind::Blank => "blank".to_owned(),
                    Kind::Prepared(_) => "prepared".to_owned(),
                    Kind::Data { member_id, cluster_id, .. } => format!("has data of {member_id} in {cluster_id}"),
                    Kind::Lost => "has lost data".to_owned(),
                    Kind::WasMember => "was a member before".to_owned(),
                };
                if said.plan == self.intent.plan { kind } else { format!("{kind}, under another plan: {}", said.plan) }
            }
        }
    }
}

fn take(rule: Rule, step: Step, why: impl Into<String>) -> Decision {
    Decision { rule, action: Action::Take(step), why: why.into(), warnings: Vec::new() }
}

fn start(rule: Rule, start: Start, why: impl Into<String>) -> Decision {
    Decision { rule, action: Action::Start(start), why: why.into(), warnings: Vec::new() }
}

fn refuse(rule: Rule, exit_code: u8, why: impl Into<String>, hint: impl Into<String>) -> Decision {
    Decision { rule, action: Action::Refuse { exit_code, hint: hint.into() }, why: why.into(), warnings: Vec::new() }
}

fn journal_stage(rule: Rule, stage: Stage, exclude: Vec<MemberId>, why: impl Into<String>) -> Decision {
    take(rule, Step::Journal { stage, exclude }, why)
}

/// The stage that lets a member of this pod be removed, and never be started again.
fn replace(cluster_id: ClusterId, member: &Member, why: impl Into<String>) -> Decision {
    let stage = Stage::Removing { cluster_id, member_id: member.id };
    journal_stage(Rule::ReplaceMember, stage, vec![member.id], why)
}

/// The pods that a wait is about, as a sentence.
fn and_list(items: &BTreeMap<PodName, String>) -> String {
    let each: Vec<String> = items.iter().map(|(pod, what)| format!("{pod}: {what}")).collect();
    each.join("; ")
}

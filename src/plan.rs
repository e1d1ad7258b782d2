//! What is to be done: the next step, the start of etcd, a refusal, or what is waited for, and why.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::journal::{Archiving, Stage};
use crate::names::{ClusterId, MemberId, PodName};
use crate::observation::Member;

/// What the decision came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The rule that matched.
    pub rule: Rule,
    /// What follows.
    pub action: Action,
    /// Why, in one sentence for an operator.
    pub why: String,
    /// Things that nothing mends by itself, and what a setting gives up.
    pub warnings: Vec<Warning>,
}

/// Something that nothing mends by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Warning {
    /// What is so.
    pub what: String,
    /// What an operator can do about it, with the command where there is one.
    pub fix: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.fix)
    }
}

/// What follows from a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Wait: what for stands in the decision's `why`, and per pod here.
    Wait {
        /// Who is waited for, and what that pod does instead of answering.
        on: BTreeMap<PodName, String>,
    },
    /// Take one step, then observe afresh.
    Take(Step),
    /// Start etcd.
    Start(Start),
    /// End with this exit code: an operator must decide.
    Refuse {
        /// The exit code (sysexits).
        exit_code: u8,
        /// What the operator can do.
        hint: String,
    },
}

impl Action {
    /// Members are changed, or data is put aside, so that this pod can join.
    pub fn leads_to_a_join(&self) -> bool {
        let Self::Take(step) = self else { return false };
        match step {
            Step::Journal { stage, .. } => !matches!(stage, Stage::Fresh | Stage::Prepared { .. }),
            Step::Archive { never_spoke, .. } => !never_spoke,
            Step::Add { .. } | Step::Remove { .. } => true,
            Step::NoteWal(_)
            | Step::FinishArchive(_)
            | Step::RemoveAbandonedLearner { .. }
            | Step::PromoteLearner { .. } => false,
        }
    }

    /// The version of this image's etcd may forbid it.
    pub fn depends_on_etcd(&self) -> bool {
        matches!(self, Self::Start(_)) || self.leads_to_a_join()
    }
}

/// One effect. Each is journalled before it happens, and can be repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Write this stage (and what it excludes) to the journal.
    Journal {
        /// The new stage.
        stage: Stage,
        /// IDs never to adopt, added to those in the journal.
        exclude: Vec<MemberId>,
    },
    /// Note in the journal that a WAL of this member was seen, or (none) that it counts as not seen.
    NoteWal(Option<MemberId>),
    /// Rename what is left of a member aside; the journal says so before and after.
    Archive {
        /// Whose, where the WAL told.
        member_id: Option<MemberId>,
        /// Of which cluster.
        cluster_id: Option<ClusterId>,
        /// Nothing that it said counts: it never voted nor acknowledged, or no quorum of its cluster ever ran.
        never_spoke: bool,
    },
    /// Finish an archive that a crash interrupted.
    FinishArchive(Archiving),
    /// Remove this pod's own member, which the journal names.
    Remove {
        /// The member.
        member_id: MemberId,
    },
    /// Remove a learner whose pod is long gone: it has no vote, and keeps others from joining.
    RemoveAbandonedLearner {
        /// The learner.
        member_id: MemberId,
    },
    /// Promote a learner that nobody promotes: it keeps others from joining.
    PromoteLearner {
        /// The learner.
        member_id: MemberId,
    },
    /// Add a member for this pod, and journal the ID that it gets.
    Add {
        /// Without a vote.
        learner: bool,
        /// The cluster.
        cluster_id: ClusterId,
    },
}

/// What it would do to the journal, the disk or the members.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |id: &Option<MemberId>| id.map_or_else(|| "no known member".to_owned(), |id| id.to_string());
        match self {
            Self::Journal { stage, .. } => write!(f, "journal {stage}"),
            Self::NoteWal(member_id) => write!(f, "journal the WAL of {}", named(member_id)),
            Self::Archive { member_id, .. } => write!(f, "archive the data of {}", named(member_id)),
            Self::FinishArchive(_) => write!(f, "finish the archive that was begun"),
            Self::Remove { member_id } => write!(f, "MemberRemove {member_id}, this pod's own"),
            Self::RemoveAbandonedLearner { member_id } => {
                write!(f, "MemberRemove {member_id}, a learner without a pod")
            }
            Self::PromoteLearner { member_id } => write!(f, "MemberPromote {member_id}"),
            Self::Add { learner, .. } => write!(f, "MemberAdd as a {}", if *learner { "learner" } else { "voter" }),
        }
    }
}

/// How etcd is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Start {
    /// `--initial-cluster-state`.
    pub state: InitialClusterState,
    /// `--initial-cluster`; none where the WAL makes it meaningless and the given one is passed on.
    pub initial_cluster: Option<String>,
    /// The member that starts.
    pub member_id: MemberId,
    /// Its cluster.
    pub cluster_id: ClusterId,
    /// There is no WAL yet, so that its first appearance has to be journalled.
    pub first: bool,
    /// A leader lists it as a learner, or it was added as one: somebody has to promote it.
    pub learner: bool,
    /// A leader listed it just now.
    pub confirmed: bool,
    /// Pass `--force-new-cluster`.
    pub force_new_cluster: bool,
}

/// `--initial-cluster-state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum InitialClusterState {
    /// A founding.
    New,
    /// A join, or a restart.
    Existing,
}

impl InitialClusterState {
    /// As the flag takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Existing => "existing",
        }
    }
}

/// `--initial-cluster` for a member that joins: the list's URLs verbatim, with the own name at the own member and
/// placeholders for members that have not started, whose names etcd does not look at.
pub fn initial_cluster_of(members: &[Member], own: MemberId, own_name: &str) -> String {
    let entry = |member: &Member| {
        let name = match (member.id == own, member.name.as_str()) {
            (true, _) => own_name.to_owned(),
            // Two members may carry one name (etcd does not mind); the second would swallow the first's URLs.
            (false, "") => format!("unstarted-{}", member.id),
            (false, name) if name == own_name => format!("{name}-{}", member.id),
            (false, name) => name.to_owned(),
        };
        member.peer_urls.iter().map(move |url| format!("{name}={url}")).collect::<Vec<_>>()
    };
    members.iter().flat_map(entry).collect::<Vec<_>>().join(",")
}

/// The rules, in the order of the decision table (`decide.rs`). The name is what logs, `plan` and tests show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// A WAL lies where the settings do not point.
    MisplacedWal,
    /// The volume is another pod's.
    SwappedVolume,
    /// An archive was interrupted.
    FinishArchive,
    /// A WAL without a word in it, of an ID that the journal allows to start.
    UnspokenWal,
    /// The list has two members of this pod.
    TwoMembers,
    /// The one start with `--force-new-cluster`.
    ForceNewCluster,
    /// Data, and a leader lists its member.
    DataListed,
    /// Data of a member that its cluster has removed.
    DataRemoved,
    /// Data that is further than the cluster of its ID.
    DataAheadOfCluster,
    /// Data of a cluster that nobody runs, while others run another one.
    DataForeign,
    /// Data that this image's etcd is too old for.
    DataVersion,
    /// A log that this image's etcd is too new for.
    LogVersion,
    /// A cluster that this image's etcd is too old or too new for.
    ClusterVersion,
    /// Data, and no leader: a cold restart waits for nobody.
    DataRestart,
    /// Data, and the peers have not had their second yet.
    DataGrace,
    /// A loss that the settings refuse to mend.
    LossRefused,
    /// What is left after a loss is put aside, for a leader is there.
    LossArchive,
    /// What is left is put aside, for no quorum ever ran.
    LossBeforeFounding,
    /// A loss, and no leader.
    LossWaits,
    /// The own member was started before, and not by this disk: it goes.
    ReplaceMember,
    /// The own member is removed.
    RemoveMember,
    /// The own member was removed; etcd hashes seconds into the next ID.
    RemovedJustNow,
    /// A member is going to be added.
    JoinIntent,
    /// The add whose answer was lost has happened.
    JoinFound,
    /// A member is added.
    JoinAdd,
    /// The added member starts.
    JoinStart,
    /// An add has to wait its turn.
    JoinWaits,
    /// A learner whose pod is long gone makes room.
    AbandonedLearner,
    /// A learner that nobody promotes makes room.
    PromoteLearner,
    /// A leader answers, but a majority of its voters has not given the same list yet.
    ListUnconfirmed,
    /// The peers run something else than this disk belongs to, or different things.
    ForeignCluster,
    /// The cluster is being founded, and this pod is prepared for it.
    FoundFollow,
    /// All are prepared.
    FoundAll,
    /// `BOOTSTRAP_STATE=new`: those that answer are prepared.
    FoundUnasked,
    /// Too many of the disks that were heard of have changed.
    DisksChanged,
    /// All were heard to be blank, twice.
    Prepare,
    /// A peer has data or runs etcd, but there is no leader.
    NoLeader,
    /// Founding is forbidden, or not this pod's to do.
    NotAFounder,
    /// Somebody has not said that it is blank, or prepared.
    RollCall,
    /// This pod's own name is not published.
    OwnNameUnpublished,
    /// Somebody else answers under this pod's name.
    TwinPod,
    /// `BOOTSTRAP_HOLD`.
    Hold,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = serde_json::to_value(self).ok();
        f.write_str(name.as_ref().and_then(|name| name.as_str()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::tests::restart;
    use crate::intent::tests::member;

    #[test]
    fn each_step_says_what_it_would_do() {
        let (member_id, cluster_id) = (MemberId(0xa), ClusterId(0xb));
        let plan = crate::intent::tests::intent(1).plan;
        let journal = |stage| Step::Journal { stage, exclude: vec![] };
        let archive = |member_id| Step::Archive { member_id, cluster_id: None, never_spoke: false };
        let archiving = Archiving { member_id: None, cluster_id: None, moves: vec![], never_spoke: false };
        for (step, said) in [
            (journal(Stage::Fresh), "journal fresh"),
            (
                journal(Stage::Prepared { plan, static_id: member_id, disks: BTreeMap::new() }),
                "journal prepared, as the member a",
            ),
            (journal(Stage::Intent { cluster_id }), "journal intent, to join the cluster b"),
            (journal(Stage::Joined { cluster_id, member_id, learner: true }), "journal joined, as the member a"),
            (journal(Stage::Removing { cluster_id, member_id }), "journal removing, the member a"),
            (Step::NoteWal(Some(member_id)), "journal the WAL of a"),
            (archive(Some(member_id)), "archive the data of a"),
            (archive(None), "archive the data of no known member"),
            (Step::FinishArchive(archiving), "finish the archive that was begun"),
            (Step::Remove { member_id }, "MemberRemove a, this pod's own"),
            (Step::RemoveAbandonedLearner { member_id }, "MemberRemove a, a learner without a pod"),
            (Step::PromoteLearner { member_id }, "MemberPromote a"),
            (Step::Add { learner: true, cluster_id }, "MemberAdd as a learner"),
            (Step::Add { learner: false, cluster_id }, "MemberAdd as a voter"),
        ] {
            assert_eq!(step.to_string(), said);
        }
    }

    #[test]
    fn a_founding_and_a_join_hang_on_the_images_etcd() {
        let (cluster_id, member_id) = (ClusterId(1), MemberId(1));
        let archive = |never_spoke| Step::Archive { member_id: None, cluster_id: None, never_spoke };
        let journal = |stage| Step::Journal { stage, exclude: vec![] };
        for (action, joins, depends) in [
            (Action::Wait { on: BTreeMap::new() }, false, false),
            (Action::Start(restart(member_id, cluster_id)), false, true),
            (Action::Take(Step::Add { learner: true, cluster_id }), true, true),
            (Action::Take(Step::Remove { member_id }), true, true),
            (Action::Take(journal(Stage::Intent { cluster_id })), true, true),
            (Action::Take(journal(Stage::Fresh)), false, false),
            (Action::Take(archive(false)), true, true),
            (Action::Take(archive(true)), false, false),
            (Action::Take(Step::PromoteLearner { member_id }), false, false),
        ] {
            assert_eq!((action.leads_to_a_join(), action.depends_on_etcd()), (joins, depends), "{action:?}");
        }
    }

    #[test]
    fn the_flags_are_etcds() {
        assert_eq!(
            [InitialClusterState::New, InitialClusterState::Existing].map(|state| state.as_str()),
            ["new", "existing"]
        );
        let listed = [member(1, "a", &["http://a:1", "http://a:2"]), member(2, "own", &["http://b:1"])];
        let unstarted = [member(3, "", &["http://c:1"]), member(4, "old", &["http://d:1"])];
        assert_eq!(
            initial_cluster_of(&[listed, unstarted].concat(), MemberId(4), "own"),
            "a=http://a:1,a=http://a:2,own-2=http://b:1,unstarted-3=http://c:1,own=http://d:1"
        );
    }
}

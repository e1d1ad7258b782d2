//! Carries out a step: one match, no choices. Each effect is journalled before it happens.

use std::time::Duration;

use tokio::time::Instant;

use crate::archive;
use crate::data_dir::Paths;
use crate::dns_watch::DnsWatch;
use crate::etcd::{Access, CallFailure, Endpoint};
use crate::exit::Fatal;
use crate::intent::{Intent, JoinAs};
use crate::journal::{EtcdBinary, Journal, Stage};
use crate::journal_file;
use crate::membership::{Added, Writer};
use crate::names::{ClusterId, PodName};
use crate::observation::{Disk, JournalFile, Observation, OwnName, PeerView};
use crate::peers::PeerClient;
use crate::plan::Step;

/// How long a membership call may take; etcd has no limit of its own.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// What a step needs.
pub struct Actor<'a> {
    /// The settings.
    pub intent: &'a Intent,
    /// Where the disk is.
    pub paths: &'a Paths,
    /// Asks and knows the peers.
    pub client: &'a PeerClient,
    /// How their client ports are entered.
    pub access: &'a Access,
    /// For a last look at the own name.
    pub dns: &'a DnsWatch,
    /// The etcd that will be started, as far as it is known.
    pub etcd: Option<&'a EtcdBinary>,
}

/// How a step ended, where it did not end the program.
pub enum Outcome {
    /// It is done.
    Done,
    /// A member was added, and this is the list that came of it.
    Added(Added),
    /// It is not, or nobody knows; the next observation tells.
    Failed {
        /// Why.
        reason: String,
        /// TLS or authentication stands in the way.
        is_rejection: bool,
    },
}

impl Actor<'_> {
    /// Takes one step.
    ///
    /// # Errors
    /// Where the disk cannot be written; a membership call that fails is no error.
    pub async fn take(&self, step: &Step, seen: &Observation) -> Result<Outcome, Fatal> {
        let mut journal = journal_of(&seen.disk)?;
        match step {
            Step::Journal { stage, exclude } => {
                journal.enter(stage.clone(), exclude);
                self.write(&journal)?;
            }
            Step::NoteWal(member_id) => {
                journal.wal_seen = *member_id;
                self.write(&journal)?;
            }
            Step::Archive { member_id, cluster_id, never_spoke } => {
                journal.archive_begun(archive::begin(self.paths, *member_id, *cluster_id, *never_spoke)?);
                self.write(&journal)?;
                self.finish_archive(journal)?;
            }
            Step::FinishArchive(_) => self.finish_archive(journal)?,
            Step::Add { learner, cluster_id } => return self.add(journal, seen, *learner, *cluster_id).await,
            Step::Remove { member_id } => {
                let cluster_id = cluster_of(seen, &journal);
                let call = async |writer: Writer<'_>| writer.remove(*member_id).await.map(|_| ());
                return Ok(self.call(seen, cluster_id, call).await);
            }
            Step::RemoveAbandonedLearner { member_id } => {
                let cluster_id = cluster_of(seen, &journal);
                let call = async |writer: Writer<'_>| writer.remove_learner(*member_id).await.map(|_| ());
                return Ok(self.call(seen, cluster_id, call).await);
            }
            Step::PromoteLearner { member_id } => {
                let cluster_id = cluster_of(seen, &journal);
                let call = async |writer: Writer<'_>| writer.promote(*member_id).await.map(|_| ());
                return Ok(self.call(seen, cluster_id, call).await);
            }
        }
        Ok(Outcome::Done)
    }

    fn write(&self, journal: &Journal) -> Result<(), Fatal> {
        Ok(journal_file::write(&self.paths.journal_dir, journal)?)
    }

    fn finish_archive(&self, mut journal: Journal) -> Result<(), Fatal> {
        let archiving = journal.archiving.clone();
        if let Some(archiving) = &archiving {
            archive::finish(archiving)?;
        }
        journal.archived();
        self.write(&journal)?;
        if let Some(archiving) = &archiving {
            for deleted in archive::prune(self.paths, archiving)? {
                tracing::info!("deleted the older archive `{}`", deleted.display());
            }
        }
        Ok(())
    }

    async fn add(
        &self,
        mut journal: Journal,
        seen: &Observation,
        learner: bool,
        cluster_id: ClusterId,
    ) -> Result<Outcome, Fatal> {
        let role = if learner { JoinAs::Learner } else { JoinAs::Voter };
        let mut added = None;
        let call = async |writer: Writer<'_>| {
            added = Some(writer.add(&self.intent.peer_urls, role, self.intent.learners_max).await?);
            Ok(())
        };
        let outcome = self.call(seen, Some(cluster_id), call).await;
        let Some(added) = added else { return Ok(outcome) };
        journal.enter(Stage::Joined { cluster_id, member_id: added.member_id, learner }, &[]);
        // Most often etcd starts next, and the journal need not be written once more for it.
        journal.etcd = self.etcd.cloned();
        self.write(&journal)?;
        Ok(Outcome::Added(added))
    }

    async fn call(
        &self,
        seen: &Observation,
        cluster_id: Option<ClusterId>,
        call: impl AsyncFnOnce(Writer<'_>) -> Result<(), CallFailure>,
    ) -> Outcome {
        let Some(cluster_id) = cluster_id else { return failed("no cluster is known") };
        let own = self.dns.own_name_fresh().await;
        if own != OwnName::Ours {
            return failed(format!("this pod's own name is not published: {own:?}"));
        }
        let endpoints = endpoints(self.client, seen, |_| true);
        let writer =
            Writer { cluster_id, endpoints: &endpoints, access: self.access, deadline: Instant::now() + CALL_TIMEOUT };
        match call(writer).await {
            // Gone already, or there already: the next observation tells.
            Ok(()) | Err(CallFailure::NotFound | CallFailure::NotLearner) => Outcome::Done,
            Err(failure) => Outcome::Failed { reason: failure.to_string(), is_rejection: failure.is_rejection() },
        }
    }
}

fn failed(reason: impl Into<String>) -> Outcome {
    Outcome::Failed { reason: reason.into(), is_rejection: false }
}

/// The client ports of these pods that gave a list, the leader's first.
pub fn endpoints(client: &PeerClient, seen: &Observation, of: impl Fn(&PodName) -> bool) -> Vec<Endpoint> {
    let mut listed: Vec<(bool, Endpoint)> = seen
        .peers
        .iter()
        .filter(|(pod, _)| of(pod))
        .filter_map(|(pod, answer)| match &answer.view {
            PeerView::Etcd(etcd) => {
                let list = etcd.list.as_ref().ok()?;
                Some((list.leader != list.answered_by, client.endpoint(pod)?))
            }
            _ => None,
        })
        .collect();
    listed.sort_by_key(|(follower, _)| *follower);
    listed.into_iter().map(|(_, endpoint)| endpoint).collect()
}

fn cluster_of(seen: &Observation, journal: &Journal) -> Option<ClusterId> {
    crate::cluster::expected_cluster(&seen.disk).or(journal.stage.cluster_id())
}

/// The journal that was read; the program writes one before it decides anything.
pub fn journal_of(disk: &Disk) -> Result<Journal, Fatal> {
    match &disk.journal {
        JournalFile::Valid(journal) => Ok(journal.clone()),
        other => {
            Err(Fatal::new(crate::exit::Exit::Data, format!("the journal is gone from under this process: {other:?}")))
        }
    }
}

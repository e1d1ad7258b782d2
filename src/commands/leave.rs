//! `leave`, for a preStop hook: takes this member out of its cluster where the pod is scaled away, and does nothing
//! where it restarts.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::act::endpoints;
use crate::data_dir::{self, Paths};
use crate::dns_watch::DnsWatch;
use crate::etcd::{Access, CallFailure};
use crate::exit::{Exit, Fatal};
use crate::failpoint;
use crate::intent::Intent;
use crate::journal::{Journal, Leaving, Stage};
use crate::journal_file;
use crate::kube_api::{ApiFailure, KubeApi};
use crate::leaving::{self, Leave};
use crate::membership::Writer;
use crate::names::{MemberId, PodName, ProcessId};
use crate::observation::{JournalFile, Observation, Wal};
use crate::observe::Observer;
use crate::peers::PeerClient;
use crate::settings::Settings;
use crate::tls::Tls;

/// How long it is tried where `BOOTSTRAP_TIMEOUT` says nothing.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long the first answer of the Kubernetes API is waited for: a pod that only restarts waits, too.
const FIRST_ANSWER: Duration = Duration::from_secs(5);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(2);
/// How old an answer may be on which the member is removed.
pub const ASK_BEFORE: Duration = Duration::from_millis(500);
/// How often it is asked whether the pod is wanted again, while others leave.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// How long a membership call may take; etcd has no limit of its own.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How soon what has failed is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// How long nothing may happen before everything is looked at again.
const TICK: Duration = Duration::from_millis(100);

/// Leaves, or finds that there is nothing to do. Not to know is no error: a member too many is better than one too few.
///
/// # Errors
/// Where the pod is scaled away and its member could not leave in time; where the disk cannot be read or written.
pub async fn leave(settings: Arc<Settings>) -> Result<(), Fatal> {
    let until = Instant::now() + settings.intent.timeout.unwrap_or(TIMEOUT);
    let dns = super::dns(&settings)?;
    let intent = &settings.intent;
    let first = async {
        let api = KubeApi::new(&settings.kube_api, intent, dns.clone())?;
        let replicas = first_answer(&api, until.min(Instant::now() + FIRST_ANSWER)).await?;
        Ok::<_, ApiFailure>((api, replicas, Instant::now()))
    };
    let (api, replicas, asked) = match first.await {
        Ok(answer) => answer,
        Err(failure) => {
            let hint = failure.hint();
            tracing::warn!(
                hint,
                "nothing is done, for it is not known whether {} is scaled away: {failure}",
                intent.pod
            );
            return Ok(());
        }
    };
    if let Some(why) = leaving::stays(intent, replicas) {
        tracing::info!("nothing to do: {why}");
        return Ok(());
    }
    // Not every service account may read it.
    let taken = leaving::first_ordinal(intent);
    if let Ok(start) = api.ordinal_start(until.min(Instant::now() + ANSWER)).await
        && start != taken
    {
        tracing::warn!(
            hint = format!("set BOOTSTRAP_ORDINAL_START={start}"),
            "nothing is done: the StatefulSet's spec.ordinals.start is {start}, and not {taken} as the settings say"
        );
        return Ok(());
    }
    let paths = Paths::locate(&settings.data_dir, settings.wal_dir.as_deref())?;
    let disk = data_dir::observe(&paths)?;
    let Wal::Present(facts) = &disk.wal else {
        match &disk.journal {
            JournalFile::Valid(Journal { stage: Stage::Joined { member_id, .. }, .. }) => tracing::warn!(
                hint = format!("if it is not wanted any more, run `etcdctl member remove {member_id}`"),
                "nothing is done: the member {member_id} was added for this pod and has not run yet"
            ),
            _ => tracing::info!("nothing to do: no member has run on `{}`", paths.wal_dir.display()),
        }
        return Ok(());
    };
    let own = Leaving { member_id: facts.member_id, cluster_id: facts.cluster_id };
    let is_marked = matches!(&disk.journal, JournalFile::Valid(journal) if journal.leaving.as_ref() == Some(&own));
    tracing::info!(member_id = %own.member_id, "{replicas} replicas are wanted: {} is scaled away, its member leaves", intent.pod);
    let (client, access) = crate::startup::clients(&settings, &Tls::load(&settings)?);
    let client = Arc::new(client);
    let (intent, process_id) = (Arc::new(intent.clone()), ProcessId("leave".to_owned()));
    let observer = Observer::new(intent.clone(), process_id, dns, client.clone(), disk, Instant::now());
    let leaver =
        Leaver { intent, paths, client, access, observer, api, own, replicas, asked, is_marked, is_unsure: false };
    // What an ending hook says is in no log but this.
    leaver.run(until).await.inspect_err(|fatal| tracing::error!(hint = fatal.hint, "{}", fatal.message))
}

/// The first answer; what may be over in a moment is tried again.
async fn first_answer(api: &KubeApi<DnsWatch>, until: Instant) -> Result<u32, ApiFailure> {
    loop {
        match api.replicas(until.min(Instant::now() + ANSWER)).await {
            Err(failure) if failure.is_transient() && Instant::now() + RETRY_PAUSE < until => sleep(RETRY_PAUSE).await,
            answer => return answer,
        }
    }
}

/// A member on its way out.
struct Leaver {
    intent: Arc<Intent>,
    paths: Paths,
    client: Arc<PeerClient>,
    access: Access,
    observer: Observer,
    api: KubeApi<DnsWatch>,
    own: Leaving,
    replicas: u32,
    /// When that was said.
    asked: Instant,
    /// The journal says that it leaves.
    is_marked: bool,
    /// A removal was sent whose outcome is not known: it may be applied yet.
    is_unsure: bool,
}

impl Leaver {
    async fn run(mut self, until: Instant) -> Result<(), Fatal> {
        let mut said = String::new();
        loop {
            let seen = self.observer.observe();
            let ids = (self.own.cluster_id, self.own.member_id);
            let decision = leaving::decide(&self.intent, ids, self.replicas, &seen.peers);
            let is_due = !matches!(decision, Leave::Wait(_) | Leave::Left);
            let reason = if self.asked.elapsed() >= if is_due { ASK_BEFORE } else { ASK_AGAIN } {
                match self.api.replicas(until.min(Instant::now() + ANSWER)).await {
                    Ok(replicas) => {
                        (self.replicas, self.asked) = (replicas, Instant::now());
                        if let Some(why) = leaving::stays(&self.intent, replicas) {
                            self.give_up()?;
                            tracing::info!("it stays after all: {why}");
                            return Ok(());
                        }
                        // What was seen before is old by now.
                        continue;
                    }
                    Err(failure) => failure.to_string(),
                }
            } else {
                match decision {
                    Leave::Left => {
                        tracing::info!(member_id = %self.own.member_id, "this member has left its cluster");
                        return Ok(());
                    }
                    Leave::Wait(why) => why,
                    Leave::MoveLeader { to } => self.step(&seen, Some(to)).await?,
                    Leave::Remove => self.step(&seen, None).await?,
                }
            };
            if !reason.is_empty() && reason != said {
                tracing::info!("waiting: {reason}");
                said.clone_from(&reason);
            }
            if Instant::now() >= until {
                return Err(self.timed_out(&reason)?);
            }
            self.observer.changed(TICK).await;
        }
    }

    /// Moves the leadership there, or removes the member; the journal says so before. Gives why that failed; nothing
    /// where it did not.
    async fn step(&mut self, seen: &Observation, move_to: Option<MemberId>) -> Result<String, Fatal> {
        self.mark()?;
        let is_own = |pod: &PodName| *pod == self.intent.pod;
        // This pod's etcd ends with the removal, perhaps before it has answered; and only the leader can hand over.
        let endpoints = endpoints(&self.client, seen, |pod| is_own(pod) == move_to.is_some());
        let deadline = Instant::now() + CALL_TIMEOUT;
        let writer = Writer { cluster_id: self.own.cluster_id, endpoints: &endpoints, access: &self.access, deadline };
        let outcome = match move_to {
            Some(to) => {
                tracing::info!(%to, "this member leads: another one takes over");
                writer.move_leader(to).await
            }
            None => {
                failpoint::reach("leave-before-remove");
                writer.remove(self.own.member_id).await.map(|_| ())
            }
        };
        failpoint::reach(if move_to.is_some() { "leave-after-move" } else { "leave-after-remove" });
        self.observer.after_step(data_dir::observe(&self.paths)?);
        let failure = match outcome {
            Ok(()) | Err(CallFailure::NotFound | CallFailure::NotLeader) => return Ok(String::new()),
            Err(failure) => failure,
        };
        self.is_unsure |= move_to.is_none() && !failure.is_without_effect();
        sleep(RETRY_PAUSE).await;
        Ok(format!("etcd has just said: {failure}"))
    }

    fn mark(&mut self) -> Result<(), Fatal> {
        if self.is_marked {
            return Ok(());
        }
        failpoint::reach("leave-before-mark");
        self.write(Some(self.own.clone()))?;
        failpoint::reach("leave-after-mark");
        self.is_marked = true;
        Ok(())
    }

    /// The member stays, unless its removal is on the way already.
    fn give_up(&mut self) -> Result<(), Fatal> {
        if !self.is_marked || self.is_unsure {
            return Ok(());
        }
        failpoint::reach("leave-before-clear");
        self.write(None)?;
        failpoint::reach("leave-after-clear");
        Ok(())
    }

    fn write(&self, leaving: Option<Leaving>) -> Result<(), Fatal> {
        match journal_file::update(&self.paths.journal_dir, |journal| journal.leaving = leaving)? {
            Some(_) => Ok(()),
            None => Err(Fatal::new(Exit::Data, "there is no journal that could say that this member leaves: it stays")
                .hint("a member leaves by itself only where etcd-bootstrap has started it")),
        }
    }

    fn timed_out(&mut self, reason: &str) -> Result<Fatal, Fatal> {
        self.give_up()?;
        let Leaving { member_id, .. } = &self.own;
        let message =
            format!("{} is scaled away, but its member {member_id} has not left in time: {reason}", self.intent.pod);
        Ok(Fatal::new(Exit::TimedOut, message).hint(format!(
            "scale out again, or see to it that the pod is gone and run `etcdctl member remove {member_id}`"
        )))
    }
}

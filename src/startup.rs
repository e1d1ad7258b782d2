//! The entrypoint's life: observe, decide, publish, and wait or act, until etcd can be started.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::act::{Actor, Outcome, journal_of};
use crate::data_dir::{self, Paths};
use crate::decide::decide;
use crate::dns_watch::DnsWatch;
use crate::etcd::Access;
use crate::exit::{Exit, Fatal};
use crate::http_server::{BindError, Security, Server};
use crate::intent::Intent;
use crate::journal::Journal;
use crate::journal_file;
use crate::metrics::Counters;
use crate::names::{DiskId, PodName, ProcessId};
use crate::observation::{Disk, JournalFile, Observation, OwnName, PeerView, Statement, Wal};
use crate::observe::Observer;
use crate::peers::{Asker, PeerClient};
use crate::plan::{Action, Decision, Rule, Start, Step};
use crate::probes::{self, Probes};
use crate::rollcall::{self, Dialled, RollCall};
use crate::settings::Settings;
use crate::standing;
use crate::status::Status;
use crate::telemetry::WaitingLog;

/// How long nothing may happen before everything is looked at again: rules depend on durations.
const TICK: Duration = Duration::from_millis(100);
/// How long a prepared pod stays for peers that have not heard so yet. It delays nobody who has.
const LINGER: Duration = Duration::from_millis(200);
/// How soon a membership call that failed is tried again, and how late.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// How many dials may wait to be looked at.
const DIALS_MAX: usize = 64;

/// What the loop came to.
pub struct Ready {
    /// How etcd is to be started.
    pub start: Start,
    /// What was decided, for the log.
    pub decision: Decision,
    /// The journal as it is.
    pub journal_on_disk: Journal,
    /// The journal as it has to be when etcd starts.
    pub journal: Journal,
}

/// Everything that runs while the pod waits.
pub struct Startup {
    settings: Arc<Settings>,
    intent: Arc<Intent>,
    paths: Paths,
    dns: Arc<DnsWatch>,
    client: Arc<PeerClient>,
    access: Access,
    observer: Observer,
    process_id: ProcessId,
    start: Instant,
    statement: watch::Sender<Option<Statement>>,
    status: watch::Sender<Arc<Status>>,
    dialled: mpsc::Receiver<Dialled>,
    dials: mpsc::Sender<Dialled>,
    servers: Servers,
    told: BTreeMap<PodName, String>,
    log: WaitingLog,
    retry: Option<Retry>,
    counters: Arc<Counters>,
    warned: BTreeSet<String>,
}

/// The two servers; each is bound as soon as its port is free.
#[derive(Default)]
struct Servers {
    roll_call: Option<Server>,
    probes: Option<Server>,
}

/// A membership call failed: when it may be tried again.
struct Retry {
    at: Instant,
    pause: Duration,
    failure: String,
}

impl Startup {
    /// Reads the disk, gives it its journal, and begins to listen and to ask.
    ///
    /// # Errors
    /// Where the disk cannot be used, or a setting cannot be.
    pub fn begin(settings: Arc<Settings>, start: Instant, dns: Arc<DnsWatch>) -> Result<Self, Fatal> {
        let intent = Arc::new(settings.intent.clone());
        let paths = Paths::locate(&settings.data_dir, settings.wal_dir.as_deref())?;
        let mut disk = data_dir::observe(&paths)?;
        give_journal(&intent, &paths, &mut disk)?;
        let process_id = ProcessId(random_id());
        let (client, access) = clients(&settings);
        let client = Arc::new(client);
        let mut observer = Observer::new(intent.clone(), process_id.clone(), dns.clone(), client.clone(), disk, start);
        let seen = observer.observe();
        let decision = decide(&intent, &seen);
        let status = Status::new((*intent).clone(), seen, decision, start.into_std());
        let status = watch::Sender::new(Arc::new(status));
        let (dials, dialled) = mpsc::channel(DIALS_MAX);
        let statement = watch::Sender::new(None);
        Ok(Self {
            intent,
            paths,
            dns,
            client,
            access,
            observer,
            process_id,
            start,
            statement,
            status,
            dialled,
            dials,
            servers: Servers::default(),
            told: BTreeMap::new(),
            log: WaitingLog::default(),
            retry: None,
            counters: Arc::default(),
            warned: BTreeSet::new(),
            settings,
        })
    }

    /// Loops until etcd can be started.
    ///
    /// # Errors
    /// A refusal, the time-out, or a disk that cannot be written.
    pub async fn until_ready(&mut self) -> Result<Ready, Fatal> {
        loop {
            self.listen()?;
            let seen = self.observer.observe();
            self.state(&seen);
            let decision = decide(&self.intent, &seen);
            let decision = self.paced(decision);
            self.publish(&decision, &seen);
            match &decision.action {
                Action::Refuse { exit_code, hint } => {
                    return Err(Fatal::new(Exit::of_code(*exit_code), decision.why.clone()).hint(hint));
                }
                Action::Take(step) => {
                    self.take(step, &seen).await?;
                    continue;
                }
                Action::Start(start) if self.may_start(start, &decision, &seen).await => {
                    let journal_on_disk = journal_of(&seen.disk)?;
                    let journal = journal_at_start(journal_on_disk.clone(), start);
                    return Ok(Ready { start: start.clone(), journal_on_disk, journal, decision });
                }
                Action::Start(_) | Action::Wait { .. } => {}
            }
            self.check_timeout(&decision)?;
            tokio::select! {
                () = self.observer.changed(TICK) => {}
                Some(dialled) = self.dialled.recv() => self.note_dial(&dialled),
            }
            while let Ok(dialled) = self.dialled.try_recv() {
                self.note_dial(&dialled);
            }
        }
    }

    /// Closes both servers: etcd finds its ports free.
    pub async fn close(self) {
        drop(self.observer);
        if let Some(roll_call) = self.servers.roll_call {
            roll_call.close().await;
        }
        if let Some(probes) = self.servers.probes {
            probes.close().await;
        }
    }

    /// Binds what is not bound yet. A port that an ending etcd still holds is tried again at the next turn.
    fn listen(&mut self) -> Result<(), Fatal> {
        if self.servers.roll_call.is_none() {
            let roll_call = RollCall::new(self.statement.subscribe(), self.dials.clone());
            let bound = roll_call.serve(&self.settings.listen_peer_urls, &Security::Plain);
            self.servers.roll_call = later_if_transient(bound)?;
        }
        if self.servers.probes.is_none() {
            let urls = probes::urls(&self.settings.listen_metrics_urls, &self.settings.listen_client_urls);
            let probes = Probes::new(self.status.subscribe(), self.counters.clone());
            self.servers.probes = later_if_transient(probes.serve(&urls))?;
        }
        Ok(())
    }

    /// What the peers are told; if that is something new, they are told to ask.
    fn state(&mut self, seen: &Observation) {
        let statement = standing::statement(&self.intent, &seen.disk, &self.process_id);
        let changed = self.statement.send_if_modified(|last| {
            let changed = *last != statement;
            *last = statement.clone();
            changed
        });
        if changed {
            self.observer.says(statement.as_ref().map(rollcall::digest));
        }
    }

    fn publish(&mut self, decision: &Decision, seen: &Observation) {
        self.counters.observation();
        self.counters.dns_queries(self.dns.queries_sent());
        if !matches!(decision.action, Action::Wait { .. }) {
            self.log.over();
            tracing::info!(rule = %decision.rule, "{}", decision.why);
        } else if let Some(line) = self.log.line(decision, self.start.elapsed()) {
            let waited = humantime::format_duration(Duration::from_secs(line.waited.as_secs()));
            tracing::info!(rule = %decision.rule, %waited, "waiting: {}", line.reason);
        }
        for warning in &decision.warnings {
            if self.warned.insert(warning.clone()) {
                tracing::warn!("{warning}");
            }
        }
        let status = Status::new((*self.intent).clone(), seen.clone(), decision.clone(), self.start.into_std());
        self.status.send_replace(Arc::new(status));
    }

    /// A membership call that has just failed waits a little before it is tried again.
    fn paced(&self, decision: Decision) -> Decision {
        let Some(retry) = &self.retry else { return decision };
        let is_call = matches!(
            &decision.action,
            Action::Take(
                Step::Add { .. }
                    | Step::Remove { .. }
                    | Step::RemoveAbandonedLearner { .. }
                    | Step::PromoteLearner { .. }
            )
        );
        if !is_call || Instant::now() >= retry.at {
            return decision;
        }
        let why = format!("{}; etcd has just said: {}", decision.why, retry.failure);
        Decision { action: Action::Wait { on: BTreeMap::new() }, why, ..decision }
    }

    async fn take(&mut self, step: &Step, seen: &Observation) -> Result<(), Fatal> {
        self.counters.step();
        let actor = Actor {
            intent: &self.intent,
            paths: &self.paths,
            client: &self.client,
            access: &self.access,
            dns: &self.dns,
        };
        let outcome = actor.take(step, seen).await?;
        match outcome {
            Outcome::Done => self.retry = None,
            Outcome::Failed(failure) => {
                tracing::info!(?step, failure, "the step is not done; it is looked at afresh");
                let pause = self.retry.as_ref().map_or(RETRY_MIN, |retry| (retry.pause * 2).min(RETRY_MAX));
                let at = Instant::now() + pause.mul_f64(rand::random_range(0.75..1.25));
                self.retry = Some(Retry { at, pause, failure });
            }
        }
        self.observer.after_step(data_dir::observe(&self.paths)?);
        Ok(())
    }

    /// The last looks before etcd starts. A new member's own name is asked for afresh. A founder that is done stays a
    /// moment for those who have not heard so yet, so that all start together.
    async fn may_start(&mut self, start: &Start, decision: &Decision, seen: &Observation) -> bool {
        if !start.first {
            return true;
        }
        if self.dns.own_name_fresh().await != OwnName::Ours {
            return false;
        }
        if decision.rule != Rule::FoundAll {
            return true;
        }
        let Some(digest) = self.statement.borrow().as_ref().map(rollcall::digest) else { return false };
        let others: Vec<PodName> = seen
            .peers
            .iter()
            .filter(|(pod, answer)| **pod != self.intent.pod && matches!(answer.view, PeerView::Waiting(_)))
            .map(|(pod, _)| pod.clone())
            .collect();
        let until = Instant::now() + LINGER;
        while !others.iter().all(|pod| self.told.get(pod) == Some(&digest)) {
            tokio::select! {
                () = sleep(until - Instant::now()) => return true,
                Some(dialled) = self.dialled.recv() => self.note_dial(&dialled),
            }
            if Instant::now() >= until {
                return true;
            }
        }
        true
    }

    fn note_dial(&mut self, dialled: &Dialled) {
        self.counters.dialled();
        let Some(pod) = &dialled.pod else {
            self.dns.ask_at_once(None);
            return;
        };
        if let Some(told) = &dialled.told {
            self.told.insert(pod.clone(), told.clone());
        }
        let host = self.intent.peer_url(pod).host;
        if dialled.resolved && !self.dns.view().points_at(&host, dialled.address) {
            self.dns.ask_at_once(Some(&host));
        }
        // It has something to say that this pod has not heard.
        if dialled.says != self.observer.statement_digest(pod) {
            self.observer.dialled_by(pod);
        }
    }

    fn check_timeout(&self, decision: &Decision) -> Result<(), Fatal> {
        match self.intent.timeout {
            Some(timeout) if self.start.elapsed() >= timeout => {
                let message = format!("gave up after {}: {}", humantime::format_duration(timeout), decision.why);
                Err(Fatal::new(Exit::TimedOut, message).hint("a restart may help; BOOTSTRAP_TIMEOUT=0 waits for ever"))
            }
            _ => Ok(()),
        }
    }

    /// Where the disk is.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }
}

/// The journal that etcd starts with.
fn journal_at_start(mut journal: Journal, start: &Start) -> Journal {
    if !start.first {
        journal.unconfirmed_starts = if start.confirmed { 0 } else { journal.unconfirmed_starts.saturating_add(1) };
    }
    if start.confirmed {
        journal.leaving = None;
    }
    journal.forced_new_cluster |= start.force_new_cluster;
    journal
}

/// A new disk gets its ID before anything is said of it; a torn journal gives way to one that never counts as blank;
/// and a WAL that was not noted yet is.
fn give_journal(intent: &Intent, paths: &Paths, disk: &mut Disk) -> Result<(), Fatal> {
    let service = intent.service.clone().unwrap_or_default();
    let new = || Journal::of_new_disk(DiskId(random_id()), intent.pod.clone(), intent.namespace.clone(), service);
    let mut journal = match &disk.journal {
        JournalFile::Valid(journal) => journal.clone(),
        JournalFile::Absent => new(),
        JournalFile::Torn(reason) => {
            tracing::warn!(reason, "the journal cannot be read; this disk counts as one that was a member's");
            Journal { was_member: true, ..new() }
        }
    };
    // Another pod's disk is not written to.
    if journal.pod != intent.pod || disk.misplaced_wal.is_some() {
        return Ok(());
    }
    if let Wal::Present(facts) = &disk.wal
        && facts.spoke
    {
        journal.wal_seen = Some(facts.member_id);
    }
    let journal = JournalFile::Valid(journal);
    if journal != disk.journal {
        if let JournalFile::Valid(journal) = &journal {
            data_dir::prepare(paths)?;
            journal_file::write(&paths.journal_dir, journal)?;
        }
        disk.journal = journal;
    }
    Ok(())
}

/// A port that an ending etcd still holds is free in a moment.
fn later_if_transient(bound: Result<Server, BindError>) -> Result<Option<Server>, Fatal> {
    match bound {
        Ok(server) => Ok(Some(server)),
        Err(error) if error.reason.is_transient() => {
            tracing::debug!(%error, "the port is not free yet");
            Ok(None)
        }
        Err(error) => Err(Fatal::new(Exit::Config, error.to_string()).hint(error.hint)),
    }
}

/// What asks the peers, and what writes to them.
pub fn clients(settings: &Settings) -> (PeerClient, Access) {
    let intent = &settings.intent;
    let asker = Asker {
        pod: intent.pod.clone(),
        namespace: intent.namespace.clone(),
        service: intent.service.clone().unwrap_or_default(),
    };
    let access = Access { credentials: settings.credentials.clone(), ..Access::default() };
    let client = PeerClient::new(asker, Default::default(), access.clone(), intent.client_urls[0].clone());
    (client, access)
}

fn random_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

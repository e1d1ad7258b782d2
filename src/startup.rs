//! The entrypoint's life: observe, decide, publish, and wait or act, until etcd can be started.

mod own_journal;
mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::act::{Actor, Outcome, journal_of};
use crate::cluster::Cluster;
use crate::data_dir::{self, Paths};
use crate::decide::decide;
use crate::dns_watch::DnsWatch;
use crate::etcd::Access;
use crate::exit::{Exit, Fatal};
use crate::image::Binary;
use crate::intent::Intent;
use crate::journal::Journal;
use crate::metrics::Counters;
use crate::names::{PodName, ProcessId};
use crate::observation::{Observation, OwnName, PeerView, Statement};
use crate::observe::Observer;
use crate::peers::{Asker, PeerClient};
use crate::plan::{Action, Decision, Rule, Start, Step, Warning};
use crate::probes::{self, Probes};
use crate::rollcall::{self, Dialled, RollCall};
use crate::settings::Settings;
use crate::standing;
use crate::status::Status;
use crate::telemetry::WaitingLog;
use crate::tls::Tls;
use own_journal::{give_journal, journal_at_start};
use servers::Servers;

/// How long nothing may happen before everything is looked at again: rules depend on durations.
const TICK: Duration = Duration::from_millis(50);
/// How long a prepared pod stays for peers that have not heard so yet. It delays nobody who has.
const LINGER: Duration = Duration::from_millis(200);
/// How long a restart waits for DNS to say whether every voter that is listed has a pod.
const LOOK_UP: Duration = Duration::from_millis(500);
/// How old an answer to the question for the own name may be when a new member starts.
const FRESH: Duration = Duration::from_millis(100);
/// How soon a membership call that failed is tried again, and how late.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// How long an etcd that ends may hold a port before that is said.
const PORT_PATIENCE: Duration = Duration::from_secs(2);
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
    /// DNS was too slow for the log to have every warning.
    pub unsaid: bool,
}

/// Everything that runs while the pod waits.
pub struct Startup {
    settings: Arc<Settings>,
    intent: Arc<Intent>,
    tls: Tls,
    paths: Paths,
    dns: Arc<DnsWatch>,
    client: Arc<PeerClient>,
    access: Access,
    binary: Binary,
    image_known: bool,
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
    /// A member was added, and just before that the own name was asked for: then.
    added: Option<Instant>,
    counters: Arc<Counters>,
    warned: BTreeSet<Warning>,
    unsaid: bool,
}

/// A membership call failed: when it may be tried again.
struct Retry {
    at: Instant,
    pause: Duration,
    failure: String,
    is_rejection: bool,
}

impl Startup {
    /// Reads the disk, gives it its journal, and begins to listen and to ask.
    ///
    /// # Errors
    /// Where the disk cannot be used, or a setting cannot be.
    pub fn begin(settings: Arc<Settings>, start: Instant, dns: Arc<DnsWatch>) -> Result<Self, Fatal> {
        let intent = Arc::new(settings.intent.clone());
        let tls = Tls::load(&settings)?;
        tls.warn();
        let paths = Paths::locate(&settings.data_dir, settings.wal_dir.as_deref())?;
        let mut disk = data_dir::observe(&paths)?;
        let binary = Binary::look(settings.etcd_here.as_deref(), &disk);
        give_journal(&intent, &paths, &mut disk)?;
        let process_id = ProcessId(random_id());
        let (client, access) = clients(&settings, &tls);
        let client = Arc::new(client);
        let mut observer = Observer::new(intent.clone(), process_id.clone(), dns.clone(), client.clone(), disk, start);
        observer.ask_kubernetes(&settings.kube_api);
        let seen = observer.observe();
        let decision = decide(&intent, &seen);
        let status = Status::new((*intent).clone(), seen, decision, start.into_std());
        let status = watch::Sender::new(Arc::new(status));
        let (dials, dialled) = mpsc::channel(DIALS_MAX);
        let statement = watch::Sender::new(None);
        Ok(Self {
            intent,
            tls,
            paths,
            dns,
            client,
            access,
            binary,
            image_known: false,
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
            added: None,
            counters: Arc::default(),
            warned: BTreeSet::new(),
            unsaid: false,
            settings,
        })
    }

    /// Listens on the peer port and looks at the disk anew, which is nobody else's from then on. False where somebody
    /// else listens there.
    ///
    /// # Errors
    /// Where the port or the disk cannot be used.
    pub fn hold_peer_port(&mut self) -> Result<bool, Fatal> {
        self.listen()?;
        self.observer.after_step(data_dir::observe(&self.paths)?);
        Ok(self.servers.has_peer_port())
    }

    /// What is published as it waits.
    pub fn shown(&self) -> (watch::Receiver<Arc<Status>>, Arc<Counters>) {
        (self.status.subscribe(), self.counters.clone())
    }

    /// This process will become etcd itself, so that one that cannot be executed ends it before anything is done.
    pub fn becomes_etcd(&mut self) {
        self.binary.required = true;
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
            if decision.action.depends_on_etcd() && !self.image_is_known(&seen).await? {
                continue;
            }
            let decision = self.with_port_in_the_way(self.paced(decision));
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
                    let mut journal = journal_at_start(journal_on_disk.clone(), start, self.intent.force_new_cluster);
                    journal.etcd = self.binary.known().await?;
                    return Ok(Ready { start: start.clone(), journal_on_disk, journal, decision, unsaid: self.unsaid });
                }
                Action::Start(_) | Action::Wait { .. } => {}
            }
            self.check_timeout(&decision, &seen)?;
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
        self.servers.close().await;
    }

    fn listen(&mut self) -> Result<(), Fatal> {
        let roll_call = || {
            let roll_call = RollCall::new(self.statement.subscribe(), self.dials.clone());
            roll_call.serve(&self.settings.listen_peer_urls, &self.tls.roll_call)
        };
        let probes = || {
            let Settings { listen_metrics_urls, listen_client_http_urls, listen_client_urls, .. } = &*self.settings;
            let urls = probes::urls(listen_metrics_urls, listen_client_http_urls, listen_client_urls);
            Probes::new(self.status.subscribe(), self.counters.clone()).serve(&urls)
        };
        self.servers.listen(roll_call, probes)
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
        self.warn(decision);
        let status = Status::new((*self.intent).clone(), seen.clone(), decision.clone(), self.start.into_std());
        self.status.send_replace(Arc::new(status));
    }

    /// Each warning once.
    fn warn(&mut self, decision: &Decision) {
        for warning in &decision.warnings {
            if self.warned.insert(warning.clone()) {
                tracing::warn!("{warning}");
            }
        }
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

    /// Whoever waits without a port says so, whatever else it waits for.
    fn with_port_in_the_way(&self, decision: Decision) -> Decision {
        match self.servers.in_the_way() {
            Some(error) if self.start.elapsed() >= PORT_PATIENCE && matches!(decision.action, Action::Wait { .. }) => {
                let why = format!("{}; it {error} ({})", decision.why, error.hint);
                Decision { why, ..decision }
            }
            _ => decision,
        }
    }

    /// What depends on etcd waits until its version is known, and is then decided again.
    async fn image_is_known(&mut self, seen: &Observation) -> Result<bool, Fatal> {
        if self.image_known {
            return Ok(true);
        }
        self.observer.set_image(self.binary.image(&self.paths, &seen.disk).await?);
        self.image_known = true;
        Ok(false)
    }

    async fn take(&mut self, step: &Step, seen: &Observation) -> Result<(), Fatal> {
        self.counters.step();
        let actor = Actor {
            intent: &self.intent,
            paths: &self.paths,
            client: &self.client,
            access: &self.access,
            dns: &self.dns,
            etcd: self.binary.now_known(),
        };
        let begun = Instant::now();
        let outcome = actor.take(step, seen).await?;
        self.observer.after_step(data_dir::observe(&self.paths)?);
        match outcome {
            Outcome::Done => self.retry = None,
            Outcome::Added(added) => {
                (self.retry, self.added) = (None, Some(begun));
                self.observer.hear_add(&added);
            }
            Outcome::Failed { reason: failure, is_rejection } => {
                tracing::info!(?step, failure, "the step is not done; it is looked at afresh");
                let pause = self.retry.as_ref().map_or(RETRY_MIN, |retry| (retry.pause * 2).min(RETRY_MAX));
                let at = Instant::now() + pause.mul_f64(rand::random_range(0.75..1.25));
                self.retry = Some(Retry { at, pause, failure, is_rejection });
            }
        }
        Ok(())
    }

    /// The last looks before etcd starts. A new member's own name is asked for afresh, unless it has just been. A
    /// founder that is done stays a moment for those who have not heard so yet, so that all start together.
    async fn may_start(&mut self, start: &Start, decision: &Decision, seen: &Observation) -> bool {
        if !start.first {
            self.unsaid = !self.look_up_voters().await;
            return true;
        }
        let is_known = self.added.is_some_and(|at| at.elapsed() < FRESH);
        if !is_known && self.dns.own_name_fresh().await != OwnName::Ours {
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

    /// The log of each start names the voters without a pod. One that only the list tells of may not be looked up yet.
    async fn look_up_voters(&mut self) -> bool {
        let until = Instant::now() + LOOK_UP;
        loop {
            let seen = self.observer.observe();
            let list = Cluster::of(&self.intent, &seen).newest;
            if list.is_none_or(|list| list.members.iter().all(|member| seen.dns.has_looked_up(member))) {
                self.warn(&decide(&self.intent, &seen));
                return true;
            }
            let now = Instant::now();
            if now >= until {
                return false;
            }
            self.observer.changed(until - now).await;
        }
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
            self.observer.ask(pod);
        }
    }

    fn check_timeout(&self, decision: &Decision, seen: &Observation) -> Result<(), Fatal> {
        match self.intent.timeout {
            Some(timeout) if self.start.elapsed() >= timeout => {
                let message = format!("gave up after {}: {}", humantime::format_duration(timeout), decision.why);
                let is_rejected = self.retry.as_ref().is_some_and(|retry| retry.is_rejection)
                    || seen.peers.values().any(|answer| answer.view.is_rejection());
                if is_rejected {
                    return Err(Fatal::new(Exit::Rejected, message)
                        .hint("mend the certificates, or etcd's user and its role, as the reason says"));
                }
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

/// What asks the peers, and what writes to them.
pub fn clients(settings: &Settings, tls: &Tls) -> (PeerClient, Access) {
    let intent = &settings.intent;
    let asker = Asker {
        pod: intent.pod.clone(),
        namespace: intent.namespace.clone(),
        service: intent.service.clone().unwrap_or_default(),
    };
    let access = Access { security: tls.clients.clone(), credentials: settings.credentials.clone() };
    let client = PeerClient::new(asker, tls.peers.clone(), access.clone(), intent.client_urls[0].clone());
    (client, access)
}

fn random_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

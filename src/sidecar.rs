//! `sidecar`: beside an etcd of its own image and command, for the pod's whole life.
//!
//! It decides as `run` does, and instead of becoming etcd gives it a configuration file. From then on it accompanies
//! etcd: promotes it, shows it, and decides again between two of its starts where that is needed (`turn.rs`). Three
//! things keep the two apart: etcd cannot start without its file, cannot start while this process holds the peer port,
//! and holds locks on its disk while it runs (`locks.rs`).

pub mod board;
pub mod certificates;
pub mod locks;
pub mod member;
pub mod page;
pub mod promoter;
pub mod taken;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep};

use crate::after_start;
use crate::commands;
use crate::data_dir::{self, Paths};
use crate::decide::decide;
use crate::disk_error::{self, DiskError, found};
use crate::dns_watch::DnsWatch;
use crate::etcd::Access;
use crate::etcd_command;
use crate::exit::{Exit, Fatal};
use crate::failpoint;
use crate::hand_over;
use crate::http_server::{Request, Response, Security, Server, response};
use crate::journal::Leaving;
use crate::launch;
use crate::names::{ProcessId, Scheme, Url};
use crate::observation::{Disk, Observation};
use crate::observe::{Observer, PAUSE_MAX};
use crate::own_etcd::OwnEtcd;
use crate::peers::PeerClient;
use crate::plan::{Action, Decision};
use crate::settings::Settings;
use crate::startup::{self, Startup};
use crate::status::Status;
use crate::tls::Tls;
use crate::turn::{self, Facts, File, Next, Places};
use crate::unstarted;
use crate::wal;
use board::{Board, Phase};
use promoter::Promoter;
use taken::Taken;

/// How often it looks whether etcd runs: soon while the file could still bootstrap, for it may not stay so.
const LOOK_FIRST: Duration = Duration::from_millis(20);
const LOOK: Duration = Duration::from_millis(200);
/// How often the own etcd is asked for its numbers.
const ASK_OWN: Duration = Duration::from_secs(2);
/// How often a peer is asked while nothing has to be decided.
const ASK_PEERS: Duration = Duration::from_secs(5);

/// How long an answer may take: `leave` waits its turn, for 30 s unless `BOOTSTRAP_TIMEOUT` says otherwise.
const LEAVE_DEADLINE: Duration = Duration::from_secs(60);

/// The sidecar, with what it keeps for the pod's life.
struct Sidecar {
    settings: Arc<Settings>,
    output: PathBuf,
    paths: Paths,
    dns: Arc<DnsWatch>,
    board: Arc<Board>,
    status: watch::Sender<Arc<Status>>,
    _server: Server,
    /// The file as it is from the first WAL on.
    restart_only: String,
    /// The file is of this process, or etcd was seen to run.
    decided: bool,
    /// The file has `force-new-cluster`, for one start.
    forced: bool,
    /// A start that this process has journalled and no leader has confirmed yet, with what the journal then said of a
    /// leave that was given up.
    unconfirmed: Option<Option<Leaving>>,
}

/// Decides, hands over, and accompanies, until the pod ends.
///
/// # Errors
/// A refusal, a time-out, or a disk, a file or an address that cannot be used.
pub async fn run(settings: Arc<Settings>, output: PathBuf, dns: Arc<DnsWatch>) -> Result<Infallible, Fatal> {
    let paths = Paths::locate(&settings.data_dir, settings.wal_dir.as_deref())?;
    hand_over::check(&output, &paths)?;
    let mut watch = Watch::begin(&settings, &paths, dns.clone())?;
    let (seen, decision) = watch.look();
    let status = watch::Sender::new(Arc::new(status_of(&settings, seen, decision)));
    let board = Arc::new(Board::new(settings.etcd_settings.clone(), status.subscribe(), Taken::read(&output)));
    let server = serve(&settings, board.clone())?;
    let restart_only = etcd_command::restart_only_text(&settings)?;
    let mut sidecar = Sidecar {
        settings,
        output,
        paths,
        dns,
        board,
        status,
        _server: server,
        restart_only,
        decided: false,
        forced: false,
        unconfirmed: None,
    };
    loop {
        sidecar.accompany(watch).await?;
        sidecar.prepare().await?;
        watch = Watch::begin(&sidecar.settings, &sidecar.paths, sidecar.dns.clone())?;
    }
}

impl Sidecar {
    /// Returns when something has to be decided, and no etcd runs.
    async fn accompany(&mut self, mut watch: Watch) -> Result<(), Fatal> {
        self.board.follow(self.status.subscribe(), Arc::default());
        let (mut asked, mut told) = (None::<Instant>, None::<Instant>);
        loop {
            let held = locks::held(&self.paths)?;
            watch.note_locks(held)?;
            let (seen, decision) = watch.look();
            let runs = held || watch.own_port_is_etcd(&seen);
            let unstarted = unstarted::read(&self.paths)?;
            let facts = Facts {
                runs,
                decided: self.decided,
                file: self.output.exists(),
                disk: &watch.disk,
                unstarted,
                decision: &decision,
            };
            let next = turn::next(&facts);
            self.decided |= runs;
            if next == Next::Prepare {
                self.take_file_away()?;
                if locks::port_is_free(&self.settings.listen_peer_urls) {
                    self.board.set_phase(Phase::Preparing, "etcd waits for a decision");
                    tracing::info!(rule = %decision.rule, "etcd does not run, and has to wait: {}", decision.why);
                    return Ok(());
                }
                self.wait_for_the_port(seen, decision);
                watch.observer.changed(LOOK).await;
                continue;
            }
            let may_bootstrap = self.tend_file(runs, &decision)?;
            if runs {
                if asked.is_none_or(|asked| asked.elapsed() >= ASK_OWN) {
                    asked = Some(Instant::now());
                    watch.ask_own(&self.paths).await?;
                }
                if watch.promoter.look(&seen, &watch.own, &watch.client, &watch.access).await {
                    self.confirmed()?;
                }
            } else {
                watch.own.forget();
            }
            self.show(&watch, runs, &seen, decision, &mut told);
            let tick = if may_bootstrap { LOOK_FIRST } else { LOOK };
            watch.observer.changed(tick).await;
        }
    }

    /// An etcd that has lost its disk, or is on its way in or out, or something that is no etcd.
    fn wait_for_the_port(&self, seen: Observation, decision: Decision) {
        let port = &self.settings.listen_peer_urls[0];
        let why =
            format!("somebody still listens on {port}, where etcd has no configuration file: that one ends first");
        self.board.set_phase(Phase::Preparing, &why);
        let wait = Decision { action: Action::Wait { on: BTreeMap::new() }, why, ..decision };
        self.status.send_replace(Arc::new(status_of(&self.settings, seen, wait)));
    }

    /// Sees to it that the file can only restart once there is a WAL. True while it could still bootstrap.
    fn tend_file(&mut self, runs: bool, decision: &Decision) -> Result<bool, Fatal> {
        self.forced &= !runs;
        match turn::file(self.places()?) {
            File::RestartOnly if self.forced => {}
            File::RestartOnly => {
                self.rewrite(&self.restart_only)?;
                return Ok(false);
            }
            // A joining etcd compares the whole list of members, which may have changed since.
            File::Keep => match &decision.action {
                Action::Start(start) if start.first && !runs => {
                    self.rewrite(&etcd_command::config_text(&self.settings, start)?)?;
                }
                _ => {}
            },
            File::TakeAway if runs => self.take_file_away()?,
            File::TakeAway => {}
        }
        Ok(true)
    }

    /// In this order: the mark goes before the WAL is there, and the database is there before both.
    fn places(&self) -> Result<Places, Fatal> {
        Ok(Places {
            is_marked: unstarted::read(&self.paths)?.is_some(),
            has_wal: wal::exists(&self.paths.wal_dir)?,
            has_db: disk_error::exists(&self.paths.db())?,
            has_data_volume: self.paths.has_data_volume()?,
        })
    }

    fn rewrite(&self, text: &str) -> Result<(), Fatal> {
        if fs::read_to_string(&self.output).ok().as_deref() != Some(text) {
            failpoint::reach("rewrite-before");
            launch::write_config(&self.output, text)?;
            failpoint::reach("rewrite-after");
        }
        Ok(())
    }

    fn take_file_away(&self) -> Result<(), Fatal> {
        let fail = |error| DiskError::io("remove", &self.output, error);
        failpoint::reach("take-away-before");
        if found(fs::remove_file(&self.output)).map_err(fail)?.is_some() {
            tracing::info!("etcd cannot start for now: `{}` is taken away", self.output.display());
        }
        failpoint::reach("take-away-after");
        Ok(())
    }

    /// A leader lists the member as a voter: what this process has counted is confirmed.
    fn confirmed(&mut self) -> Result<(), Fatal> {
        if let Some(left_over) = self.unconfirmed.take() {
            after_start::note_confirmed(&self.paths, left_over.as_ref())?;
        }
        Ok(())
    }

    fn show(&self, watch: &Watch, runs: bool, seen: &Observation, decision: Decision, told: &mut Option<Instant>) {
        match (runs, self.output.exists()) {
            (true, _) => self.board.set_phase(Phase::Running, "etcd runs"),
            (false, true) => self.board.set_phase(Phase::Starting, "etcd has its configuration file and does not run"),
            (false, false) => self.board.set_phase(Phase::Preparing, "this member leaves: etcd is not started again"),
        }
        if told.is_none_or(|told| told.elapsed() >= LOOK) {
            *told = Some(Instant::now());
            self.board.set_member(watch.own.last().map(|own| member::Report::of(own, seen, watch.quota_set)));
            self.status.send_replace(Arc::new(status_of(&self.settings, seen.clone(), decision)));
        }
    }

    /// Decides as `run` does, with etcd kept off, and hands the file over. The file is away; comes back without one where
    /// somebody else is on the peer port.
    async fn prepare(&mut self) -> Result<(), Fatal> {
        self.board.set_member(None);
        let mut startup = Startup::begin(self.settings.clone(), Instant::now(), self.dns.clone())?;
        if !startup.hold_peer_port()? || locks::held(&self.paths)? {
            startup.close().await;
            sleep(LOOK).await;
            return Ok(());
        }
        let (status, counters) = startup.shown();
        self.board.follow(status, counters);
        self.board.set_phase(Phase::Preparing, "etcd waits for a decision");
        let ready = startup.until_ready().await?;
        self.unconfirmed = (!ready.start.confirmed).then(|| ready.journal.leaving.clone());
        self.forced = ready.start.force_new_cluster;
        let taken = Taken::now(&ready.decision);
        taken.write(&self.output)?;
        hand_over::hand_over(startup, ready, &self.settings, &self.output).await?;
        self.board.set_taken(taken);
        self.decided = true;
        Ok(())
    }
}

/// What looks at etcd and its peers, from one decision to the next.
struct Watch {
    settings: Arc<Settings>,
    observer: Observer,
    disks: data_dir::Observer,
    /// What was on the disk when no etcd ran, or at the beginning.
    disk: Disk,
    /// An etcd had its locks at the last look.
    held: bool,
    client: Arc<PeerClient>,
    access: Access,
    own: OwnEtcd,
    /// `--quota-backend-bytes`, for an etcd that does not say its quota.
    quota_set: Option<i64>,
    promoter: Promoter,
}

impl Watch {
    fn begin(settings: &Arc<Settings>, paths: &Paths, dns: Arc<DnsWatch>) -> Result<Self, Fatal> {
        let intent = Arc::new(settings.intent.clone());
        let (client, access) = startup::clients(settings, &Tls::load(settings)?);
        let client = Arc::new(client);
        let mut disks = data_dir::Observer::new(paths.clone());
        let disk = disks.observe()?;
        let process_id = ProcessId("sidecar".to_owned());
        let observer = Observer::new(intent, process_id, dns, client.clone(), disk.clone(), Instant::now());
        Ok(Self {
            settings: settings.clone(),
            observer,
            disks,
            disk,
            held: false,
            client,
            own: OwnEtcd::new(settings, access.clone()),
            access,
            quota_set: settings.etcd_settings.get("quota-backend-bytes").and_then(|text| text.parse().ok()),
            promoter: Promoter::new(),
        })
    }

    /// Where etcd has given up its locks, what anybody said before that counts no more: it may have ended, and been
    /// removed, and is started again within a second.
    fn note_locks(&mut self, held: bool) -> Result<(), Fatal> {
        let has_ended = self.held && !held;
        self.held = held;
        if !held {
            self.disk = self.disks.observe()?;
        }
        if has_ended {
            self.observer.at_most_every(PAUSE_MAX);
            self.observer.after_step(self.disk.clone());
        }
        Ok(())
    }

    /// Whether an etcd without locks answers on the peer port: one whose disk was taken from under it. Such an answer
    /// is no older than the last look.
    fn own_port_is_etcd(&self, seen: &Observation) -> bool {
        let is_etcd = member::own_port_is_etcd(seen, &self.settings.intent.pod);
        if is_etcd && !self.held {
            self.observer.ask(&self.settings.intent.pod);
        }
        is_etcd
    }

    fn look(&mut self) -> (Observation, Decision) {
        let mut seen = self.observer.observe();
        seen.disk = self.disk.clone();
        let decision = decide(&self.settings.intent, &seen);
        (seen, decision)
    }

    /// Asks the own etcd; its answer is the first word of a WAL that was made since.
    async fn ask_own(&mut self, paths: &Paths) -> Result<(), Fatal> {
        if let Err(failure) = self.own.ask().await {
            tracing::debug!(%failure, "the own etcd does not answer");
        }
        if !turn::has_wal(&self.disk) && wal::exists(&paths.wal_dir)? {
            self.disk = self.disks.observe()?;
        }
        self.observer.at_most_every(if self.promoter.is_done() { ASK_PEERS } else { ASK_OWN });
        Ok(())
    }
}

fn status_of(settings: &Settings, seen: Observation, decision: Decision) -> Status {
    Status::new(settings.intent.clone(), seen, decision, std::time::Instant::now())
}

fn serve(settings: &Arc<Settings>, board: Arc<Board>) -> Result<Server, Fatal> {
    let (host, port) = (settings.status_address.ip().to_string(), settings.status_address.port());
    let url = Url { scheme: Scheme::Http, host, port };
    let settings = settings.clone();
    let handler = move |request: Request| {
        let (settings, board) = (settings.clone(), board.clone());
        async move { if request.path() == "/leave" { leave(settings).await } else { board.answer(&request) } }
    };
    Server::bind_with_deadline(&[url], &Security::Plain, LEAVE_DEADLINE, handler)
        .map_err(|error| Fatal::new(Exit::Config, format!("BOOTSTRAP_STATUS_ADDRESS: {error}")).hint(error.hint))
}

/// `leave`, for the preStop hook of an etcd whose image has no program that could be run: its kubelet asks here.
async fn leave(settings: Arc<Settings>) -> Response {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
    let _turn = ONE_AT_A_TIME.lock().await;
    match commands::leave::leave(settings).await {
        Ok(()) => response(StatusCode::OK, "text/plain; charset=utf-8", "done\n"),
        Err(fatal) => {
            tracing::error!(hint = fatal.hint, "{fatal}");
            response(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", format!("{fatal}\n"))
        }
    }
}

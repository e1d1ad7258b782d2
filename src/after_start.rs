//! The short-lived child that outlives the exec: it notes the first WAL in the journal, promotes a learner, and notes
//! that a leader has confirmed the start. It is started with the entrypoint's own arguments and environment.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::act::endpoints;
use crate::cluster::{Cluster, newest_of_all};
use crate::data_dir::{self, Paths};
use crate::decide::decide;
use crate::dns_watch::DnsWatch;
use crate::etcd::{Access, CallFailure};
use crate::exec;
use crate::exit::{Exit, Fatal};
use crate::intent::Intent;
use crate::journal::{Journal, Leaving};
use crate::journal_file;
use crate::membership::Writer;
use crate::names::{MemberId, ProcessId};
use crate::observation::{JournalFile, ListFailure, Member, MemberList, Observation, PeerView};
use crate::observe::Observer;
use crate::own_etcd::OwnEtcd;
use crate::peers::PeerClient;
use crate::settings::Settings;
use crate::startup::clients;
use crate::tls::Tls;

/// The hidden command.
pub const COMMAND: &str = "after-start";
/// How often the WAL's directory is looked at: the note has to be there within milliseconds of the WAL.
const WAL_POLL: Duration = Duration::from_millis(2);
/// How long the own etcd may take to serve before its peers are asked all the same.
const SERVE_PATIENCE: Duration = Duration::from_secs(5);
/// A learner is promoted once it is in sync; it is tried again soon at first.
const PROMOTE_PAUSE_MIN: Duration = Duration::from_millis(100);
const PROMOTE_PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long a promotion may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the peers and DNS have to answer for the warnings.
const SETTLE: Duration = Duration::from_secs(2);
/// How long nothing may happen before everything is looked at again.
const TICK: Duration = Duration::from_millis(200);

/// What is left to do once etcd runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duties {
    /// Note the WAL as soon as it is there.
    pub note_wal: bool,
    /// The member that etcd runs.
    pub member_id: MemberId,
    /// Wait for a leader that lists the member; promote it if it is a learner.
    pub confirm: bool,
}

/// The child's arguments: the duties, then this process's own arguments.
pub fn arguments(duties: &Duties, own_args: &[String]) -> Vec<String> {
    let mut args = vec![COMMAND.to_owned(), duties.member_id.to_string()];
    args.extend(duties.note_wal.then(|| "note-wal".to_owned()));
    args.extend(duties.confirm.then(|| "confirm".to_owned()));
    args.push("--".to_owned());
    args.extend(own_args.iter().cloned());
    args
}

/// The duties in arguments that [`arguments`] made, and the entrypoint's own; none where they are anything else.
pub fn of_arguments(args: &[String]) -> Option<(Duties, Vec<String>)> {
    let (command, rest) = args.split_first()?;
    let at = rest.iter().position(|arg| arg == "--").filter(|_| command == COMMAND)?;
    let (own, original) = rest.split_at(at);
    let has = |word: &str| own.iter().any(|arg| arg == word);
    let member_id = own.first()?.parse().ok()?;
    Some((Duties { note_wal: has("note-wal"), member_id, confirm: has("confirm") }, original[1..].to_vec()))
}

/// Does the duties.
///
/// # Errors
/// Where the WAL cannot be noted; etcd is ended then, for its disk could not be told from a new one after a loss.
pub async fn run(settings: Arc<Settings>, duties: Duties, dns: Arc<DnsWatch>) -> Result<(), Fatal> {
    if let Err(error) = exec::die_with_parent() {
        tracing::debug!(%error, "this child may outlive etcd");
    }
    let paths = Paths::locate(&settings.data_dir, settings.wal_dir.as_deref())?;
    if duties.note_wal
        && let Err(error) = note_wal(&paths, duties.member_id).await
    {
        end_etcd();
        return Err(error);
    }
    if duties.confirm {
        // While etcd starts nothing can be promoted or confirmed, and questions to the peers would take from its time.
        let clients = clients(&settings, &Tls::load(&settings)?);
        OwnEtcd::new(&settings, clients.1.clone()).starts_to_serve(SERVE_PATIENCE).await;
        let left_over = leaving(&paths)?;
        confirm(&settings.intent, clients, &paths, duties.member_id, dns, None).await?;
        note_confirmed(&paths, left_over.as_ref())?;
    }
    Ok(())
}

/// A leader has confirmed the start; `left_over` is a leave that was given up before it.
pub(crate) fn note_confirmed(paths: &Paths, left_over: Option<&Leaving>) -> Result<(), Fatal> {
    journal_file::update(&paths.journal_dir, |journal: &mut Journal| {
        journal.unconfirmed_starts = 0;
        // What is noted since then is another one.
        journal.leaving.take_if(|leaving| left_over == Some(leaving));
    })?;
    Ok(())
}

/// What the journal says of a member that leaves.
fn leaving(paths: &Paths) -> Result<Option<Leaving>, Fatal> {
    match journal_file::read(&paths.journal_dir)? {
        JournalFile::Valid(journal) => Ok(journal.leaving),
        _ => Ok(None),
    }
}

/// Waits for the WAL, and puts its member into the journal.
async fn note_wal(paths: &Paths, member_id: MemberId) -> Result<(), Fatal> {
    while !has_wal(&paths.wal_dir) {
        sleep(WAL_POLL).await;
    }
    crate::failpoint::reach("note-wal-before");
    let noted = journal_file::update(&paths.journal_dir, |journal| journal.wal_seen = Some(member_id))?;
    crate::failpoint::reach("note-wal-after");
    match noted {
        Some(_) => Ok(()),
        None => Err(Fatal::new(Exit::Data, "the journal is gone: the WAL of this member cannot be noted")),
    }
}

fn has_wal(dir: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(dir) else { return false };
    entries.flatten().any(|entry| entry.path().extension().is_some_and(|extension| extension == "wal"))
}

fn end_etcd() {
    use nix::sys::signal::{Signal, kill};
    let parent = nix::unistd::getppid();
    tracing::error!("the WAL of this member cannot be noted in the journal: etcd is ended");
    if let Err(error) = kill(parent, Signal::SIGTERM) {
        tracing::error!(%error, "etcd could not be ended");
    }
}

/// Waits until a leader lists the member as a voter; promotes it where it is a learner. `until` bounds it.
///
/// # Errors
/// The time-out, with what it waited for.
pub async fn confirm(
    intent: &Intent,
    (client, access): (PeerClient, Access),
    paths: &Paths,
    member_id: MemberId,
    dns: Arc<DnsWatch>,
    until: Option<Instant>,
) -> Result<(), Fatal> {
    let (intent, client) = (Arc::new(intent.clone()), Arc::new(client));
    let disk = data_dir::observe(paths)?;
    let process_id = ProcessId("after-start".to_owned());
    let mut observer = Observer::new(intent.clone(), process_id, dns, client.clone(), disk, Instant::now());
    let mut pause = PROMOTE_PAUSE_MIN;
    let mut next_try = Instant::now();
    let mut has_warned = false;
    loop {
        let seen = observer.observe();
        let reason = match newest_of_all(&seen).map(|list| (list, member(list, member_id))) {
            Some((_, Some(own))) if !own.is_learner => {
                warn(&mut observer, &intent).await;
                return Ok(());
            }
            Some((list, Some(_))) if Instant::now() >= next_try => {
                match promote(list, member_id, &client, &access, &seen).await {
                    Ok(()) => {
                        tracing::info!(%member_id, "this member is a voter now");
                        return Ok(());
                    }
                    Err(failure) => {
                        tracing::debug!(%member_id, %failure, "not promoted yet");
                        next_try = Instant::now() + pause.mul_f64(rand::random_range(0.75..1.25));
                        pause = (pause * 2).min(PROMOTE_PAUSE_MAX);
                        failure.to_string()
                    }
                }
            }
            Some((_, Some(_))) => "the learner is not in sync yet".to_owned(),
            Some((list, None)) => format!("the cluster {} does not list the member {member_id}", list.cluster_id),
            None => denied(&seen).unwrap_or_else(|| "no peer has told of a leader".to_owned()),
        };
        if !has_warned && let Some(reason) = denied(&seen) {
            has_warned = true;
            tracing::warn!(%member_id, "this start cannot be confirmed, nor a learner be promoted: {reason}");
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return Err(Fatal::new(Exit::TimedOut, format!("the member {member_id} was not promoted: {reason}"))
                .hint("try again: `etcd-bootstrap promote`"));
        }
        observer.changed(TICK).await;
    }
}

/// What etcd's authentication keeps from this pod.
fn denied(seen: &Observation) -> Option<String> {
    seen.peers.values().find_map(|answer| match &answer.view {
        PeerView::Etcd(etcd) => match &etcd.list {
            Err(failure @ ListFailure::Denied(_)) => Some(failure.to_string()),
            _ => None,
        },
        _ => None,
    })
}

fn member(list: &MemberList, id: MemberId) -> Option<&Member> {
    crate::cluster::by_id(&list.members, id)
}

/// The log of each start has the warnings; without a leader there were none to give before the exec.
async fn warn(observer: &mut Observer, intent: &Intent) {
    let until = Instant::now() + SETTLE;
    loop {
        let seen = observer.observe();
        // A peer's last answer may be from before there was a leader.
        let told = Cluster::of(intent, &seen).newest.is_some() && observer.is_settled(&seen);
        if told || Instant::now() >= until {
            return decide(intent, &seen).warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        }
        observer.changed(TICK).await;
    }
}

/// Promotes a member that this list has.
pub(crate) async fn promote(
    list: &MemberList,
    member_id: MemberId,
    client: &PeerClient,
    access: &Access,
    seen: &Observation,
) -> Result<(), CallFailure> {
    let endpoints = endpoints(client, seen, |_| true);
    let writer =
        Writer { cluster_id: list.cluster_id, endpoints: &endpoints, access, deadline: Instant::now() + CALL_TIMEOUT };
    match writer.promote(member_id).await {
        Ok(_) | Err(CallFailure::NotLearner) => Ok(()),
        Err(failure) => Err(failure),
    }
}

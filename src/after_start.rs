//! The short-lived child that outlives the exec: it notes the first WAL in the journal, promotes a learner, and notes
//! that a leader has confirmed the start. It is started with the entrypoint's own arguments and environment.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::act::endpoints;
use crate::data_dir::{self, Paths};
use crate::dns_watch::DnsWatch;
use crate::etcd::{Access, CallFailure};
use crate::exec;
use crate::exit::{Exit, Fatal};
use crate::journal::Journal;
use crate::journal_file;
use crate::membership::Writer;
use crate::names::{MemberId, ProcessId};
use crate::observation::{Member, MemberList, Observation, PeerView};
use crate::observe::Observer;
use crate::peers::PeerClient;
use crate::settings::Settings;

/// The hidden command.
pub const COMMAND: &str = "after-start";
/// How often the WAL's directory is looked at: the note has to be there within milliseconds of the WAL.
const WAL_POLL: Duration = Duration::from_millis(2);
/// A learner is promoted once it is in sync; it is tried again soon at first.
const PROMOTE_PAUSE_MIN: Duration = Duration::from_millis(100);
const PROMOTE_PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long a promotion may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
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
        confirm(&settings, &paths, duties.member_id, dns, None).await?;
        journal_file::update(&paths.journal_dir, |journal: &mut Journal| journal.unconfirmed_starts = 0)?;
    }
    Ok(())
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
    settings: &Settings,
    paths: &Paths,
    member_id: MemberId,
    dns: Arc<DnsWatch>,
    until: Option<Instant>,
) -> Result<(), Fatal> {
    let intent = Arc::new(settings.intent.clone());
    let (client, access) = crate::startup::clients(settings);
    let client = Arc::new(client);
    let disk = data_dir::observe(paths)?;
    let process_id = ProcessId("after-start".to_owned());
    let mut observer = Observer::new(intent, process_id, dns, client.clone(), disk, Instant::now());
    let mut pause = PROMOTE_PAUSE_MIN;
    let mut next_try = Instant::now();
    loop {
        let seen = observer.observe();
        let reason = match newest_list(&seen).map(|list| (list, member(list, member_id))) {
            Some((_, Some(own))) if !own.is_learner => return Ok(()),
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
            None => "no peer has told of a leader".to_owned(),
        };
        if until.is_some_and(|until| Instant::now() >= until) {
            return Err(Fatal::new(Exit::TimedOut, format!("the member {member_id} was not promoted: {reason}"))
                .hint("try again: `etcd-bootstrap promote`"));
        }
        observer.changed(TICK).await;
    }
}

/// The newest list of this disk's cluster that anybody gives, this member included.
fn newest_list(seen: &Observation) -> Option<&MemberList> {
    let own = crate::cluster::expected_cluster(&seen.disk);
    let lists = seen.peers.values().filter_map(|answer| match &answer.view {
        PeerView::Etcd(etcd) => etcd.list.as_ref().ok(),
        _ => None,
    });
    lists.filter(|list| own.is_none_or(|own| list.cluster_id == own)).max_by_key(|list| (list.term, list.index))
}

fn member(list: &MemberList, id: MemberId) -> Option<&Member> {
    crate::cluster::by_id(&list.members, id)
}

async fn promote(
    list: &MemberList,
    member_id: MemberId,
    client: &PeerClient,
    access: &Access,
    seen: &Observation,
) -> Result<(), CallFailure> {
    let endpoints = endpoints(client, seen);
    let writer =
        Writer { cluster_id: list.cluster_id, endpoints: &endpoints, access, deadline: Instant::now() + CALL_TIMEOUT };
    match writer.promote(member_id).await {
        Ok(_) | Err(CallFailure::NotLearner) => Ok(()),
        Err(failure) => Err(failure),
    }
}

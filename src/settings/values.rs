//! The values of this program's own settings: texts in, checked values out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::{Credentials, SettingsError, Surroundings};
use crate::cli::{Invocation, Verb};
use crate::intent::{JoinAs, OnLostData, OnRemoved, State};
use crate::options::{self, OPTIONS};

/// How it is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The options, checked.
pub(super) struct Values {
    pub(super) ordinal_start: u32,
    pub(super) initial_cluster_size: Option<u32>,
    pub(super) discovery: Option<crate::intent::Discovery>,
    pub(super) state: State,
    pub(super) join_as: JoinAs,
    pub(super) on_lost_data: OnLostData,
    pub(super) on_removed: OnRemoved,
    pub(super) timeout: Option<Duration>,
    pub(super) status_address: SocketAddr,
    pub(super) etcd: PathBuf,
    pub(super) etcd_here: Option<PathBuf>,
    pub(super) dns_server: Option<SocketAddr>,
    pub(super) dry_run: bool,
    pub(super) hold: bool,
    pub(super) log: String,
    pub(super) log_format: Option<LogFormat>,
}

/// The most members that a cluster is founded with: far beyond what etcd is good for, and a bound for a typing error.
const FOUNDERS_MAX: u32 = 99;

/// How long commands that somebody waits for take at most, unless told otherwise.
const TIMEOUT_COMMANDS: Duration = Duration::from_secs(30);

pub(super) fn values(given: &Invocation, has_ipv6: bool) -> Result<Values, SettingsError> {
    let small = |text: &str| text.parse::<u32>().ok();
    let size = |text: &str| small(text).filter(|size| (1..=FOUNDERS_MAX).contains(size));
    let renders = matches!(given.verb, Verb::Render { .. });
    let waits_for_ever = matches!(given.verb, Verb::Run | Verb::Render { .. } | Verb::Sidecar { .. });
    let timeout = parsed(given, options::TIMEOUT, "a duration (30s, 5m) or seconds; 0 waits for ever", duration)?;
    let timeout = timeout.unwrap_or(if waits_for_ever { Duration::ZERO } else { TIMEOUT_COMMANDS });
    let status = parsed(given, options::STATUS_ADDRESS, "[IP]:PORT, such as :2382", |text| listener(text, has_ipv6))?;
    let etcd: PathBuf = given.option(options::ETCD).unwrap_or("/usr/local/bin/etcd").into();
    let is_here = !given.beside_etcd || given.option(options::ETCD).is_some();
    Ok(Values {
        ordinal_start: parsed(given, options::ORDINAL_START, "a number, 0 as a rule", small)?.unwrap_or(0),
        initial_cluster_size: parsed(given, options::INITIAL_CLUSTER_SIZE, "a number from 1 to 99", size)?,
        discovery: choice(given, options::DISCOVERY)?,
        state: choice(given, options::STATE)?.unwrap_or(State::Auto),
        join_as: choice(given, options::JOIN_AS)?.unwrap_or(if renders { JoinAs::Voter } else { JoinAs::Learner }),
        on_lost_data: choice(given, options::ON_LOST_DATA)?.unwrap_or(OnLostData::Replace),
        on_removed: choice(given, options::ON_REMOVED)?.unwrap_or(OnRemoved::Rejoin),
        timeout: (!timeout.is_zero()).then_some(timeout),
        status_address: status.unwrap_or(SocketAddr::new(unspecified(has_ipv6), 2382)),
        etcd_here: is_here.then(|| etcd.clone()),
        etcd,
        dns_server: parsed(given, options::DNS_SERVER, "IP or IP:PORT", resolver)?,
        dry_run: parsed(given, options::DRY_RUN, "true or false", switch)?.unwrap_or(false),
        hold: parsed(given, options::HOLD, "true or false", switch)?.unwrap_or(false),
        log: parsed(
            given,
            options::LOG,
            "a level (error, warn, info, debug, trace) or TARGET=LEVEL, by commas",
            filter,
        )?
        .unwrap_or_else(|| "info".to_owned()),
        log_format: choice(given, options::LOG_FORMAT)?,
    })
}

/// As the operator wrote it: `--size=3` or `BOOTSTRAP_SIZE=3`.
pub(super) fn shown(given: &Invocation, variable: &str) -> String {
    let Some(option) = given.options.get(variable) else { return variable.to_owned() };
    let flag = OPTIONS.iter().find(|row| row.variable == variable).filter(|_| option.by_flag);
    flag.map_or_else(|| format!("{variable}={}", option.value), |row| format!("--{}={}", row.flag, option.value))
}

fn parsed<T>(
    given: &Invocation,
    variable: &str,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, SettingsError> {
    let Some(text) = given.option(variable) else { return Ok(None) };
    parse(text).map(Some).ok_or_else(|| {
        SettingsError::config(
            format!("{} is not {expected}", shown(given, variable)),
            format!("set {variable} to {expected}, or leave it out"),
        )
    })
}

fn choice<T: ValueEnum>(given: &Invocation, variable: &str) -> Result<Option<T>, SettingsError> {
    let names: Vec<String> =
        T::value_variants().iter().filter_map(|variant| Some(variant.to_possible_value()?.get_name().into())).collect();
    let expected = format!("one of {}", names.join(", "));
    parsed(given, variable, &expected, |text| T::from_str(text, true).ok())
}

fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "y" | "yes" | "on" => Some(true),
        "0" | "f" | "false" | "n" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn duration(text: &str) -> Option<Duration> {
    let seconds = text.parse::<u64>().ok().map(Duration::from_secs);
    seconds.or_else(|| humantime::parse_duration(text).ok())
}

/// `IP`, `IP:PORT` or `[IP]:PORT`.
fn resolver(text: &str) -> Option<SocketAddr> {
    let bare = || text.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 53));
    text.parse().ok().or_else(bare)
}

fn listener(text: &str, has_ipv6: bool) -> Option<SocketAddr> {
    let everywhere = || Some(SocketAddr::new(unspecified(has_ipv6), text.strip_prefix(':')?.parse().ok()?));
    text.parse().ok().or_else(everywhere)
}

/// The address that listens everywhere: `[::]` serves IPv4 too.
pub(super) fn unspecified(has_ipv6: bool) -> IpAddr {
    if has_ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// A filter; a lone word has to be a level, for a misspelt one would pass as the name of a target.
fn filter(text: &str) -> Option<String> {
    let level = |word: &str| word.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
    let lone_word = |part: &str| !part.contains(['=', '[', ':']);
    let plausible = text.split(',').map(str::trim).all(|part| !lone_word(part) || level(part));
    (plausible && EnvFilter::builder().parse(text).is_ok()).then(|| text.to_owned())
}

/// etcd's user: `BOOTSTRAP_USER` or `ETCDCTL_USER`, with the password inside it, in a file or in `ETCDCTL_PASSWORD`.
///
/// # Errors
/// Exit code 78: a password without a user, two passwords, none, or a file that cannot be read.
pub(super) fn credentials(
    given: &Invocation,
    env: impl Fn(&str) -> Option<String>,
    surroundings: &Surroundings<'_>,
) -> Result<Option<Credentials>, SettingsError> {
    let file = given.option(options::PASSWORD_FILE);
    let (variable, user) = match given.option(options::USER) {
        Some(user) => (options::USER, Some(user.to_owned())),
        None => ("ETCDCTL_USER", env("ETCDCTL_USER")),
    };
    let Some(user) = user else {
        return file.map_or(Ok(None), |file| {
            Err(SettingsError::config(
                format!("BOOTSTRAP_PASSWORD_FILE={file} is set, but no user"),
                "set BOOTSTRAP_USER, such as root",
            ))
        });
    };
    let (name, inline) =
        user.split_once(':').map_or((user.as_str(), None), |(name, word)| (name, Some(word.to_owned())));
    let password = match (file, inline) {
        (Some(file), Some(_)) if variable == options::USER => {
            return Err(SettingsError::config(
                format!("{variable} has a password for {name}, and BOOTSTRAP_PASSWORD_FILE={file} has one too"),
                "give one of them",
            ));
        }
        (Some(file), _) => password_of(file, surroundings)?,
        (None, inline) => inline.or_else(|| env("ETCDCTL_PASSWORD")).unwrap_or_default(),
    };
    if password.is_empty() && variable != options::USER && file.is_none() {
        // etcdctl would ask for it: nothing that this program could use.
        return Ok(None);
    }
    if name.is_empty() || password.is_empty() {
        let missing = if name.is_empty() { "names no user" } else { "has no password" };
        return Err(SettingsError::config(
            format!("{variable} ({name}) {missing}"),
            "set BOOTSTRAP_USER and BOOTSTRAP_PASSWORD_FILE, or ETCDCTL_USER=USER:PASSWORD",
        ));
    }
    Ok(Some(Credentials { user: name.to_owned(), password }))
}

fn password_of(file: &str, surroundings: &Surroundings<'_>) -> Result<String, SettingsError> {
    let text = (surroundings.read_file)(Path::new(file)).map_err(|error| {
        SettingsError::config(
            format!("BOOTSTRAP_PASSWORD_FILE={file} cannot be read: {error}"),
            "mount the secret there, readable by the user that etcd runs as",
        )
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

//! Log lines on stderr that look like etcd's own, so that a pod's log reads as one; and how often waiting is logged.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::fs::File;
use std::io::{self, IsTerminal};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::writer::MakeWriterExt as _;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::plan::Decision;
use crate::settings::LogFormat;

/// What is shown where nothing is set.
const FILTER: &str = "info";
/// Libraries that are shown from WARN on, unless the filter names them.
const QUIET: [&str; 7] = ["h2", "hickory", "hyper", "hyper_util", "rustls", "tonic", "tower"];

impl LogFormat {
    /// Text on a terminal, JSON elsewhere.
    pub fn of_stderr() -> Self {
        if io::stderr().is_terminal() { Self::Text } else { Self::Json }
    }
}

/// Why `BOOTSTRAP_LOG` is no filter.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a filter such as `info` or `info,etcd_bootstrap::dns=debug`: {reason}")]
pub struct FilterError {
    text: String,
    reason: String,
}

/// Starts logging to stderr, and to a file as well where one is given. A second call in one process changes nothing.
///
/// # Errors
/// Where the filter cannot be read; then nothing is logged yet.
pub fn start(filter: Option<&str>, format: Option<LogFormat>, also: Option<File>) -> Result<(), FilterError> {
    let (filter, format) = (filter.unwrap_or(FILTER), format.unwrap_or_else(LogFormat::of_stderr));
    let _already = match also {
        None => subscriber(filter, format, io::stderr)?.try_init(),
        Some(file) => subscriber(filter, format, io::stderr.and(Mutex::new(file)))?.try_init(),
    };
    Ok(())
}

fn subscriber<W>(filter: &str, format: LogFormat, writer: W) -> Result<impl Subscriber + Send + Sync, FilterError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().event_format(Line(format)).with_writer(writer);
    Ok(tracing_subscriber::registry().with(layer.with_filter(targets(filter)?)))
}

/// `LEVEL` and `TARGET=LEVEL` with commas between. These are `Targets` and not an `EnvFilter`, whose filters by
/// span nobody here needs, and which brings a regex engine.
fn targets(text: &str) -> Result<Targets, FilterError> {
    let failed = |reason: String| FilterError { text: text.to_owned(), reason };
    let given: Targets =
        text.parse().map_err(|error: tracing_subscriber::filter::ParseError| failed(error.to_string()))?;
    // A lone word that is no level would be a target, and silence all the rest.
    if let Some((word, _)) =
        given.iter().find(|(target, level)| *level == LevelFilter::TRACE && !text.contains(&format!("{target}=")))
    {
        return Err(failed(format!("`{word}` is not a level (off, error, warn, info, debug, trace)")));
    }
    let default = given.default_level().unwrap_or(LevelFilter::OFF);
    let quiet = QUIET.iter().filter(|library| !given.iter().any(|(target, _)| target.starts_with(**library)));
    let quiet: Vec<_> = quiet.map(|library| (*library, default.min(LevelFilter::WARN))).collect();
    Ok(given.with_targets(quiet))
}

struct Line(LogFormat);

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields { format: self.0, message: String::new(), rest: String::new() };
        event.record(&mut fields);
        let Fields { message, rest, .. } = fields;
        let now = humantime::format_rfc3339_millis(SystemTime::now());
        let level = *event.metadata().level();
        match self.0 {
            LogFormat::Text => writeln!(writer, "{now} {level:>5} {message}{rest}"),
            LogFormat::Json => {
                let message = quoted(&message);
                writeln!(writer, "{{\"level\":\"{}\",\"ts\":\"{now}\",\"msg\":{message}{rest}}}", zap_level(level))
            }
        }
    }
}

fn zap_level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// The message, and the other fields as they stand behind it.
struct Fields {
    format: LogFormat,
    message: String,
    rest: String,
}

impl Fields {
    /// `plain` is a number or a boolean, as JSON has it too.
    fn add(&mut self, field: &Field, value: &str, plain: bool) {
        let name = field.name();
        if name == "message" {
            value.clone_into(&mut self.message);
            return;
        }
        let _never = match self.format {
            LogFormat::Text if plain || !value.contains([' ', '"', '\n']) => write!(self.rest, " {name}={value}"),
            LogFormat::Text => write!(self.rest, " {name}={value:?}"),
            LogFormat::Json => {
                let taken = ["level", "ts", "msg"].contains(&name);
                let value = if plain { value.to_owned() } else { quoted(value) };
                write!(self.rest, ",\"{name}{}\":{value}", if taken { "_" } else { "" })
            }
        };
    }
}

impl Visit for Fields {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, &value.to_string(), true);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, &value.to_string(), true);
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, &value.to_string(), value.is_finite());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, &value.to_string(), true);
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value, false);
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"), false);
    }
}

/// How often the reason for waiting is logged: when it changes, and as a reminder.
///
/// A reason that comes back within [`Self::REMINDER`] is no news, and no more than [`Self::CHANGES_MAX`] new ones
/// are logged in that time; what holds then is said by the next reminder.
#[derive(Clone, Debug, Default)]
pub struct WaitingLog {
    /// What was logged within the last [`Self::REMINDER`], the newest last.
    logged: VecDeque<(String, Duration)>,
    /// The last reason that was seen, logged or not.
    reason: Option<String>,
    /// When waiting began.
    since: Duration,
    /// Changes that were not logged since the last line.
    swallowed: u32,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingLine {
    /// What is waited for.
    pub reason: String,
    /// How long this pod has been waiting, whatever the reason.
    pub waited: Duration,
    /// The reason is not new.
    pub reminder: bool,
    /// How often the reason has changed unlogged since the line before.
    pub changes: u32,
}

impl WaitingLog {
    /// The time between reminders.
    pub const REMINDER: Duration = Duration::from_secs(10);
    /// New reasons that are logged within the time between reminders.
    pub const CHANGES_MAX: usize = 5;

    /// The line that is due for a decision to wait; `now` is the time since the process started.
    pub fn line(&mut self, decision: &Decision, now: Duration) -> Option<WaitingLine> {
        let reason = decision.why.as_str();
        let changed = self.reason.as_deref() != Some(reason);
        if self.reason.is_none() {
            self.since = now;
        }
        if changed {
            self.reason = Some(reason.to_owned());
            self.swallowed = self.swallowed.saturating_add(1);
        }
        let age = |at: &Duration| now.saturating_sub(*at);
        let newest_is_this = self.logged.back().is_some_and(|(logged, _)| logged == reason);
        let reminder_is_due = self.logged.back().is_none_or(|(_, at)| age(at) >= Self::REMINDER);
        self.logged.retain(|(_, at)| age(at) < Self::REMINDER);
        let is_new = self.logged.iter().all(|(logged, _)| logged != reason);
        let has_room = self.logged.len() < Self::CHANGES_MAX;
        let is_due = reminder_is_due || (is_new && has_room);
        if !is_due {
            return None;
        }
        self.logged.push_back((reason.to_owned(), now));
        let swallowed = std::mem::take(&mut self.swallowed);
        let changes = swallowed.saturating_sub(u32::from(!newest_is_this));
        let waited = now.saturating_sub(self.since);
        Some(WaitingLine { reason: reason.to_owned(), waited, reminder: newest_is_this, changes })
    }

    /// Waiting is over (a step is taken): the next wait is logged as a new one.
    pub fn over(&mut self) {
        self.reason = None;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::plan::{Action, Rule};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(filter: &str, format: LogFormat, log: impl FnOnce()) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(filter, format, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_json_line_is_one_flat_object_like_etcds() {
        let lines = logged("info", LogFormat::Json, || {
            let error = io::Error::other("a \"quoted\" cause\nin two lines");
            tracing::warn!(pod = %"etcd-1", attempts = 3, ready = false, share = f64::NAN, level = "x", %error, "peer is silent");
        });
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with(r#"{"level":"warn","ts":"2"#), "{}", lines[0]);
        let value: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        let ts = value["ts"].as_str().unwrap();
        assert!(ts.len() == "2025-11-23T09:22:17.123Z".len() && ts.ends_with('Z'), "{ts}");
        assert_eq!(value["msg"], "peer is silent");
        assert_eq!(value["pod"], "etcd-1");
        assert_eq!(value["attempts"], 3);
        assert_eq!(value["ready"], false);
        assert_eq!(value["share"], "NaN");
        assert_eq!(value["level_"], "x");
        assert_eq!(value["error"], "a \"quoted\" cause\nin two lines");
    }

    #[test]
    fn a_text_line_is_for_people() {
        let lines = logged("info", LogFormat::Text, || tracing::info!(pod = "etcd-1", why = "no record", "waits"));
        assert_eq!(lines.len(), 1);
        assert!(lines[0].ends_with("Z  INFO waits pod=etcd-1 why=\"no record\""), "{}", lines[0]);
    }

    #[test]
    fn libraries_are_quiet_unless_they_are_named() {
        let log = || {
            tracing::info!(target: "hickory_resolver::x", "a");
            tracing::warn!(target: "hyper_util::client", "b");
            tracing::debug!(target: "tonic::transport", "c");
            tracing::debug!(target: "etcd_bootstrap::dns", "d");
            tracing::error!(target: "h2", "e");
        };
        let messages = |filter: &str| {
            let lines = logged(filter, LogFormat::Text, log);
            lines.iter().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect::<String>()
        };
        assert_eq!(messages("info"), "be");
        assert_eq!(messages("debug"), "bde");
        assert_eq!(messages("debug,tonic=debug"), "bcde");
        assert_eq!(messages("info,hickory_resolver=info"), "abe");
        assert_eq!(messages("error"), "e");
        assert_eq!(messages("off"), "");
        assert_eq!(messages("warn,etcd_bootstrap::dns=debug"), "bde");
    }

    #[test]
    fn a_filter_that_says_nothing_is_an_error() {
        assert!(targets("etcd_bootstrap=loud").is_err());
        let error = targets("verbose").unwrap_err().to_string();
        assert!(error.contains("`verbose`"), "{error}");
        assert!(targets("trace").is_ok() && targets("etcd_bootstrap=trace").is_ok());
    }

    fn wait(why: &str) -> Decision {
        let action = Action::Wait { on: BTreeMap::new() };
        Decision { rule: Rule::RollCall, action, why: why.to_owned(), warnings: Vec::new() }
    }

    /// Runs the reasons, one each second, and gives the second, the reason and whether it was a reminder.
    fn lines(reasons: &[&str]) -> Vec<(u64, String, bool, u32)> {
        let mut log = WaitingLog::default();
        let at = |(second, why): (usize, &&str)| {
            let line = log.line(&wait(why), Duration::from_secs(second as u64))?;
            Some((second as u64, line.reason, line.reminder, line.changes))
        };
        reasons.iter().enumerate().filter_map(at).collect()
    }

    fn said(second: u64, reason: &str, reminder: bool, changes: u32) -> (u64, String, bool, u32) {
        (second, reason.to_owned(), reminder, changes)
    }

    #[test]
    fn a_change_is_logged_at_once_and_the_rest_each_ten_seconds() {
        let reasons = [vec!["A"; 4], vec!["B"; 22]].concat();
        let expected = [said(0, "A", false, 0), said(4, "B", false, 0), said(14, "B", true, 0), said(24, "B", true, 0)];
        assert_eq!(lines(&reasons), expected);
    }

    #[test]
    fn reasons_that_flap_are_logged_once_each_in_ten_seconds() {
        let expected =
            [said(0, "A", false, 0), said(1, "B", false, 0), said(10, "A", false, 8), said(11, "B", false, 0)];
        assert_eq!(lines(&["A", "B"].repeat(10))[..4], expected);
        assert!(lines(&["A", "B"].repeat(50)).len() <= 22, "two lines in ten seconds");
    }

    #[test]
    fn ever_new_reasons_are_limited() {
        let reasons: Vec<String> = (0..100).map(|number| format!("reason {number}")).collect();
        let reasons: Vec<&str> = reasons.iter().map(String::as_str).collect();
        let lines = lines(&reasons);
        assert!(lines.len() <= 55, "five in ten seconds: {}", lines.len());
        let unlogged: u32 = lines.iter().map(|(.., changes)| changes).sum();
        assert!(lines.len() + unlogged as usize >= 95, "the rest is counted");
    }

    #[test]
    fn a_wait_after_a_step_counts_anew() {
        let mut log = WaitingLog::default();
        log.line(&wait("A"), Duration::from_secs(1));
        log.over();
        let line = log.line(&wait("C"), Duration::from_secs(9)).unwrap();
        assert_eq!((line.waited, line.reminder), (Duration::ZERO, false));
        let line = log.line(&wait("C"), Duration::from_secs(19)).unwrap();
        assert_eq!((line.waited, line.reminder), (Duration::from_secs(10), true));
    }
}

//! etcd's own settings: read from flags and variables as etcd reads them, and kept once each.

use std::collections::BTreeMap;
use std::fmt;

use crate::known_flags::{Kind, KnownFlag, flag_of_variable, known_flag};
use crate::settings::SettingsError;

/// etcd's settings, each once, with where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EtcdSettings {
    known: BTreeMap<&'static str, Setting>,
    unknown: Vec<(String, String)>,
    /// `ETCD_*` variables that are no settings of etcd, by name: they are kept from etcd, which would log their values.
    pub foreign_variables: Vec<String>,
}

/// The value of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// As it was written; `true` for a bare boolean flag.
    pub value: String,
    /// Where it was written.
    pub origin: Origin,
}

/// Where a setting comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// One of etcd's flags.
    Flag,
    /// One of etcd's `ETCD_*` variables.
    Variable,
    /// etcd's configuration file.
    File,
    /// Nobody set it, or something that goes before etcd's settings did (`BOOTSTRAP_NAME`).
    Bootstrap,
}

/// A setting with its name, as a message shows it: `--name=x`, `ETCD_NAME=x`, `name: x`.
pub struct Shown<'a>(pub &'a str, pub &'a Setting);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, Setting { value, origin }) = (self.0, self.1);
        match origin {
            Origin::Variable => match known_flag(name) {
                Some(flag) => write!(f, "{}={value}", flag.variable()),
                None => write!(f, "{name}={value}"),
            },
            Origin::File => write!(f, "{name}: {value} (in the configuration file)"),
            Origin::Flag | Origin::Bootstrap => write!(f, "--{name}={value}"),
        }
    }
}

/// Whether these arguments ask for help (`-h`) or the version, and nothing else is to be done.
pub fn asks_for(args: &[String], names: &[&str]) -> bool {
    let flags = args.iter().take_while(|arg| *arg != "--");
    flags.filter_map(|arg| arg.strip_prefix('-')).any(|arg| names.contains(&arg.strip_prefix('-').unwrap_or(arg)))
}

impl EtcdSettings {
    /// Reads etcd's flags by the rules of Go's `flag` package. Where a flag is repeated the last one counts, except
    /// for `--feature-gates`, which etcd adds up.
    ///
    /// A flag that etcd 3.4 to 3.7 does not have is passed on, for a newer etcd to take or to refuse. Where it has no
    /// `=`, the next word is its value unless that begins with a dash: were it a boolean, etcd would refuse the stray
    /// word anyway.
    ///
    /// # Errors
    /// Exit code 64: words that are no flags, a flag without its value, a value of the wrong type.
    pub fn from_args(args: &[String]) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        let mut words = args.iter().map(String::as_str).peekable();
        while let Some(word) = words.next() {
            let Some((name, value)) = split_flag(word)? else {
                let stray = if word == "--" { words.next() } else { Some(word) };
                return stray.map_or(Ok(settings), |stray| Err(stray_word(stray)));
            };
            let value = match (value, known_flag(name).map(|flag| flag.kind)) {
                (Some(value), _) => value.to_owned(),
                (None, Some(Kind::Bool | Kind::Ignored)) => "true".to_owned(),
                (None, Some(_)) => match words.next() {
                    Some(next) if looks_like_known_flag(next) => return Err(missing_value(name, Some(next))),
                    Some(next) => next.to_owned(),
                    None => return Err(missing_value(name, None)),
                },
                (None, None) => words.next_if(|next| !next.starts_with('-')).unwrap_or("true").to_owned(),
            };
            match known_flag(name) {
                Some(flag) => settings.add_flag(flag, value)?,
                None => settings.unknown.push((name.to_owned(), value)),
            }
        }
        Ok(settings)
    }

    fn add_flag(&mut self, flag: &'static KnownFlag, value: String) -> Result<(), SettingsError> {
        check_type(flag, &value).map_err(|expected| {
            SettingsError::usage(
                format!("--{}={value} is not {expected}", flag.name),
                format!("give --{} {expected}", flag.name),
            )
        })?;
        let value = match self.known.remove(flag.name) {
            Some(before) if flag.name == "feature-gates" => format!("{},{value}", before.value),
            _ => value,
        };
        self.known.insert(flag.name, Setting { value, origin: Origin::Flag });
        Ok(())
    }

    /// Adds what etcd would read from `ETCD_*` variables, where no flag sets it: an empty variable is as good as none.
    /// Returns a warning for each that a flag goes before.
    ///
    /// # Errors
    /// Exit code 78: a value of the wrong type.
    pub fn add_variables(&mut self, env: &BTreeMap<String, String>) -> Result<Vec<String>, SettingsError> {
        let mut warnings = Vec::new();
        for (variable, value) in env.iter().filter(|(variable, _)| variable.starts_with("ETCD_")) {
            let flag = match flag_of_variable(variable) {
                // Images have ETCD_VERSION, and etcd itself puts it aside.
                Some(flag) if flag.name != "version" => flag,
                _ if READ_BY_ETCD_ITSELF.contains(&variable.as_str()) => continue,
                _ => {
                    self.foreign_variables.push(variable.clone());
                    if !is_service_link(variable) && variable != "ETCD_VERSION" {
                        warnings.push(format!(
                            "{variable} is no setting of etcd 3.4 to 3.7 and is kept from etcd, which would log its value; \
                             if a newer etcd has it, give it as a flag"
                        ));
                    }
                    continue;
                }
            };
            if value.is_empty() {
                continue;
            }
            match self.known.get(flag.name) {
                Some(given) if same_value(flag, &given.value, value) => {}
                Some(given) => warnings.push(format!(
                    "{} goes before {variable}={value}; etcd itself would refuse the two",
                    Shown(flag.name, given)
                )),
                None => {
                    check_type(flag, value).map_err(|expected| {
                        SettingsError::config(
                            format!("{variable}={value} is not {expected}"),
                            format!("set {variable} to {expected}"),
                        )
                    })?;
                    let setting = Setting { value: value.clone(), origin: Origin::Variable };
                    self.known.insert(flag.name, setting);
                }
            }
        }
        Ok(warnings)
    }

    /// The setting of this name, as it was given.
    pub fn given(&self, name: &str) -> Option<&Setting> {
        self.known.get(name)
    }

    /// The value of this setting; none where it is not set or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.given(name).map(|setting| setting.value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether this boolean is set, and true.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).and_then(go_bool) == Some(true)
    }

    /// Sets what nobody set, or what goes before etcd's own settings.
    pub fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.known.insert(name, Setting { value: value.into(), origin: Origin::Bootstrap });
    }

    /// Takes a setting out.
    pub fn remove(&mut self, name: &str) -> Option<Setting> {
        self.known.remove(name)
    }

    /// Puts a setting in that a configuration file has.
    pub(crate) fn insert_from_file(&mut self, flag: &'static KnownFlag, value: String) {
        self.known.insert(flag.name, Setting { value, origin: Origin::File });
    }

    /// Every setting that this program knows, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static KnownFlag, &Setting)> {
        self.known.iter().filter_map(|(name, setting)| Some((known_flag(name)?, setting)))
    }

    /// Flags that this program does not know, in their order, and as often as they were given.
    pub fn unknown(&self) -> &[(String, String)] {
        &self.unknown
    }
}

/// Variables that etcd reads without having a flag for them.
pub const READ_BY_ETCD_ITSELF: [&str; 3] = ["ETCD_UNSUPPORTED_ARCH", "ETCD_VERIFY", "ETCD_CLIENT_DEBUG"];

/// `NAME` and `VALUE` of `-NAME`, `--NAME` and `--NAME=VALUE`; none where the flags end.
fn split_flag(word: &str) -> Result<Option<(&str, Option<&str>)>, SettingsError> {
    let Some(rest) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else { return Ok(None) };
    let rest = rest.strip_prefix('-').unwrap_or(rest);
    if rest.is_empty() {
        return Ok(None);
    }
    if rest.starts_with(['-', '=']) {
        let message = format!("`{word}` is not written as a flag is");
        return Err(SettingsError::usage(message, "write --NAME=VALUE"));
    }
    Ok(Some(rest.split_once('=').map_or((rest, None), |(name, value)| (name, Some(value)))))
}

fn looks_like_known_flag(word: &str) -> bool {
    word.starts_with("--") && matches!(split_flag(word), Ok(Some((name, _))) if known_flag(name).is_some())
}

fn stray_word(word: &str) -> SettingsError {
    SettingsError::usage(
        format!("`{word}` stands where one of etcd's flags belongs"),
        "write --NAME=VALUE; a boolean flag never takes the next word (--pre-vote=false)",
    )
}

fn missing_value(name: &str, next: Option<&str>) -> SettingsError {
    let follows = next.map_or("nothing".to_owned(), |next| format!("`{next}`"));
    SettingsError::usage(
        format!("--{name} has no value: {follows} follows it"),
        format!("write --{name}=VALUE, or --{name}= for an empty one"),
    )
}

/// A variable that Kubernetes sets for a Service: for one named `etcd`, ETCD_SERVICE_HOST, ETCD_PORT_2379_TCP_ADDR
/// and so on.
pub fn is_service_link(variable: &str) -> bool {
    let parts: Vec<&str> = variable.split('_').collect();
    let number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (1..parts.len()).any(|at| match &parts[at..] {
        ["SERVICE", "HOST"] | ["SERVICE", "PORT", ..] | ["PORT"] => true,
        ["PORT", port, "TCP" | "UDP" | "SCTP", rest @ ..] => {
            number(port) && matches!(rest, [] | ["PROTO" | "PORT" | "ADDR"])
        }
        _ => false,
    })
}

fn check_type(flag: &KnownFlag, value: &str) -> Result<(), &'static str> {
    let signless = value.strip_prefix(['-', '+']).unwrap_or(value);
    match flag.kind {
        Kind::Bool if go_bool(value).is_none() => Err("true or false"),
        Kind::Number if !signless.starts_with(|first: char| first.is_ascii_digit()) => Err("a number"),
        Kind::Duration if go_duration(value).is_none() => Err("a duration, such as 500ms or 1h30m"),
        _ => Ok(()),
    }
}

/// Whether two texts are the same value of a flag.
pub(crate) fn same_value(flag: &KnownFlag, left: &str, right: &str) -> bool {
    let items = |list: &str| list.split(',').map(|item| item.trim().to_owned()).collect::<Vec<_>>();
    match flag.kind {
        Kind::Bool => go_bool(left) == go_bool(right),
        Kind::Duration => nanoseconds(left) == nanoseconds(right),
        Kind::List => items(left) == items(right),
        Kind::Ignored | Kind::Text | Kind::Number => left.trim() == right.trim(),
    }
}

/// A boolean in the spellings of Go's `strconv.ParseBool`.
pub fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// A duration as a flag (`1h30m`) or a configuration file (a number) has it, in nanoseconds.
pub(crate) fn nanoseconds(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| go_duration(text))
}

/// A duration in the spelling of Go's `time.ParseDuration`, in nanoseconds.
pub fn go_duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let scale = match &tail[..unit] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * scale;
        rest = &tail[unit..];
    }
    text.ends_with(char::is_alphabetic).then_some((sign * total).round() as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(args: &[&str]) -> Result<EtcdSettings, SettingsError> {
        EtcdSettings::from_args(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn flags_are_read_as_go_reads_them() {
        let cases: &[(&[&str], &str, &str)] = &[
            (&["--name", "x"], "name", "x"),
            (&["--name=x"], "name", "x"),
            (&["-name=x"], "name", "x"),
            (&["-name", "x"], "name", "x"),
            (&["--name", "-x"], "name", "-x"),
            (&["--name=a", "-name", "b"], "name", "b"),
            (&["--name=a=b"], "name", "a=b"),
            (&["--pre-vote"], "pre-vote", "true"),
            (&["--pre-vote=F"], "pre-vote", "F"),
            (&["--pre-vote", "--name=x"], "pre-vote", "true"),
            (&["--name=x", "--"], "name", "x"),
            (&["--log-outputs=a", "--log-outputs=b"], "log-outputs", "b"),
            (&["--feature-gates=A=true", "--feature-gates=B=false"], "feature-gates", "A=true,B=false"),
        ];
        for (args, name, value) in cases {
            assert_eq!(parse(args).unwrap().get(name), Some(*value), "{args:?}");
        }
    }

    #[test]
    fn unknown_flags_pass_as_they_can_only_be_meant() {
        let settings = parse(&["--new", "v", "--switch", "--other=1", "--other=2", "--last"]).unwrap();
        let unknown: Vec<String> = settings.unknown().iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(unknown, ["new=v", "switch=true", "other=1", "other=2", "last=true"]);
    }

    #[test]
    fn service_links_are_told_from_settings() {
        for name in [
            "ETCD_PORT",
            "ETCD_SERVICE_HOST",
            "ETCD_SERVICE_PORT",
            "ETCD_SERVICE_PORT_ETCD_CLIENT",
            "ETCD_PORT_2379_TCP",
            "ETCD_PORT_2379_TCP_ADDR",
            "ETCD_CLIENT_SERVICE_HOST",
            "ETCD_CLIENT_PORT_53_UDP_PROTO",
        ] {
            assert!(is_service_link(name), "{name}");
        }
        for name in ["ETCD_NAME", "ETCD_PORT_NAME", "ETCD_ROOT_PASSWORD", "PORT", "ETCD_PORT_X_TCP"] {
            assert!(!is_service_link(name), "{name}");
        }
    }

    #[test]
    fn durations_are_gos() {
        for (text, expected) in [
            ("1h30m", Some(5_400_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("-2ms", Some(-2_000_000)),
            ("10us", Some(10_000)),
            ("0", Some(0)),
            ("5", None),
            ("", None),
            ("s", None),
            ("1d", None),
            ("-", None),
        ] {
            assert_eq!(go_duration(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_words_make_the_parser_panic(args in prop::collection::vec("(-{0,3}[a-z=-]{0,9}|--(name|pre-vote|snapshot-count)(=.{0,4})?|.{0,6})", 0..8)) {
            _ = EtcdSettings::from_args(&args);
            _ = crate::cli::parse(&args, &BTreeMap::new());
        }

        #[test]
        fn every_given_setting_is_kept(
            given in prop::collection::btree_map(0..KNOWN_NAMES.len(), "[a-zA-Z0-9/:.,=-]{1,12}", 0..6),
            dashes in prop::collection::vec(any::<(bool, bool)>(), 6),
        ) {
            let given: Vec<(&str, &String)> = given.iter().map(|(index, value)| (KNOWN_NAMES[*index], value)).collect();
            let word = |((name, value), (long, joined)): (&(&str, &String), &(bool, bool))| {
                let dash = if *long { "--" } else { "-" };
                if *joined { vec![format!("{dash}{name}={value}")] } else { vec![format!("{dash}{name}"), (*value).clone()] }
            };
            prop_assume!(!given.iter().any(|(_, value)| looks_like_known_flag(value)));
            let args: Vec<String> = given.iter().zip(&dashes).flat_map(word).collect();
            let settings = EtcdSettings::from_args(&args).unwrap();
            let kept: Vec<(&str, &String)> = settings.iter().map(|(flag, setting)| (flag.name, &setting.value)).collect();
            let mut given = given;
            given.sort_unstable();
            prop_assert_eq!(kept, given);
        }
    }

    const KNOWN_NAMES: [&str; 6] = ["auth-token", "cors", "data-dir", "host-whitelist", "initial-cluster", "name"];
}

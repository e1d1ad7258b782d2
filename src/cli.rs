//! The command line: etcd's flags bare, or a command with options; each option is a `BOOTSTRAP_*` variable as well.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand};

use crate::flags::{asks_for, is_service_link};
use crate::known_flags::known_flag;
use crate::options::{OPTIONS, OptionRow};
use crate::settings::SettingsError;

/// What was asked for on the command line, and in `BOOTSTRAP_*` variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// What to do.
    pub verb: Verb,
    /// etcd runs in another container, of another image: for `render`, for `sidecar`, and for what is called beside them.
    pub beside_etcd: bool,
    /// The options that were given, by the name of their variable; never empty values.
    pub options: BTreeMap<&'static str, Given>,
    /// etcd's own flags.
    pub etcd_args: Vec<String>,
    /// `BOOTSTRAP_*` variables that mean nothing, each in a sentence.
    pub warnings: Vec<String>,
}

impl Invocation {
    /// The value of an option.
    pub fn option(&self, variable: &str) -> Option<&str> {
        self.options.get(variable).map(|given| given.value.as_str())
    }
}

/// The value of an option, and whether a flag or its variable gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The value; never empty.
    pub value: String,
    /// A flag gave it.
    pub by_flag: bool,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Verb {
    /// Find out where the pod stands, register the member where needed, and become etcd
    Run,
    /// Observe and decide; print facts, rule, planned calls and etcd's command; change nothing
    Plan {
        /// How to print it
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Look for mistakes beforehand: one line for each finding, with its fix
    Check {
        /// How to print it
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Print a table of the peers as this pod sees them
    Status {
        /// How to print it
        #[arg(long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Promote this member if it is a learner
    Promote,
    /// Say whether the pod is ready, for an OrderedReady StatefulSet (readiness probe)
    Ready,
    /// Leave the cluster if the pod is scaled away, else do nothing (preStop)
    Leave,
    /// Decide and register, write an etcd configuration file, and end (init container)
    Render {
        /// The configuration file to write
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// As render, then stay: promote, serve status and metrics, leave on scale-in (native sidecar)
    Sidecar {
        /// The configuration file to write
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Copy this program into a directory that etcd's container shares
    Install {
        /// The directory
        directory: PathBuf,
    },
    /// Print this text and end: the help, or the version.
    #[command(skip)]
    Print(String),
}

/// How something is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

const AFTER_HELP: &str = "Without a command, all arguments are etcd's flags, and etcd-bootstrap does what `run` does. \
    etcd's own flags are shown by `etcd --help`, its version by `etcd --version`.";

#[derive(Debug, Parser)]
#[command(name = "etcd-bootstrap", version, about = "The entrypoint of etcd's pods in a Kubernetes StatefulSet")]
#[command(
    override_usage = "etcd-bootstrap [ETCD FLAGS...]\n       etcd-bootstrap COMMAND [OPTIONS] [-- ETCD FLAGS...]"
)]
#[command(after_help = AFTER_HELP, disable_help_subcommand = true)]
struct Line {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    options: Options,
}

/// The options, made from their table.
#[derive(Clone, Debug, Default)]
struct Options(BTreeMap<&'static str, String>);

/// Takes a command line and the environment apart; looks at nothing else.
///
/// # Errors
/// Exit code 64: an unknown command, option or word.
pub fn parse(args: &[String], env: &BTreeMap<String, String>) -> Result<Invocation, SettingsError> {
    let bare = args.first().is_none_or(|first| first.starts_with('-'));
    let (verb, by_flag, etcd_args) = if !bare {
        parse_command(args)?
    } else if asks_for(args, &["h", "help"]) {
        (Verb::Print(command_line().render_long_help().to_string()), Options::default(), Vec::new())
    } else if asks_for(args, &["version"]) {
        (Verb::Print(command_line().render_version()), Options::default(), Vec::new())
    } else {
        (Verb::Run, Options::default(), args.to_vec())
    };
    let mut options = BTreeMap::new();
    for OptionRow { variable, .. } in OPTIONS {
        let flag = by_flag.0.get(variable).map(|value| (value, true));
        let given = flag.or_else(|| env.get(*variable).map(|value| (value, false)));
        if let Some((value, by_flag)) = given.filter(|(value, _)| !value.trim().is_empty()) {
            options.insert(*variable, Given { value: value.trim().to_owned(), by_flag });
        }
    }
    let beside_etcd = matches!(verb, Verb::Render { .. } | Verb::Sidecar { .. });
    Ok(Invocation { verb, beside_etcd, options, etcd_args, warnings: unknown_variables(env) })
}

fn command_line() -> Command {
    <Line as clap::CommandFactory>::command().term_width(100)
}

fn parse_command(args: &[String]) -> Result<(Verb, Options, Vec<String>), SettingsError> {
    let (own, etcd_args) = match args.iter().position(|arg| arg == "--") {
        Some(at) => (&args[..at], args[at + 1..].to_vec()),
        None => (args, Vec::new()),
    };
    let words = std::iter::once("etcd-bootstrap").chain(own.iter().map(String::as_str));
    let matches = command_line().try_get_matches_from(words).and_then(|matches| Line::from_arg_matches(&matches));
    match matches {
        Ok(Line { verb: Verb::Install { .. }, .. }) if !etcd_args.is_empty() => {
            Err(SettingsError::usage("`install` takes no flags of etcd", "write `etcd-bootstrap install DIRECTORY`"))
        }
        Ok(Line { verb, options }) => Ok((verb, options, etcd_args)),
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            Ok((Verb::Print(error.to_string()), Options::default(), Vec::new()))
        }
        Err(error) => Err(usage_error(&args[0], &error)),
    }
}

fn usage_error(first: &str, error: &clap::Error) -> SettingsError {
    let text = error.to_string();
    let sentence: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let message = sentence.join(" ").trim_start_matches("error: ").to_owned();
    let program = first.rsplit('/').next();
    let invalid = error.get(clap::error::ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
    let hint = match error.kind() {
        ErrorKind::InvalidSubcommand if program == Some("etcd") => {
            "leave `etcd` out: the arguments are etcd's flags, and BOOTSTRAP_ETCD names another program".to_owned()
        }
        ErrorKind::InvalidSubcommand if matches!(first, "gateway" | "grpc-proxy") => {
            "etcd's proxies need no bootstrap: let /usr/local/bin/etcd be the command".to_owned()
        }
        ErrorKind::UnknownArgument if known_flag(invalid.trim_start_matches('-')).is_some() => {
            format!("{invalid} is etcd's: put etcd's flags behind `--`")
        }
        _ => match text.lines().find_map(|line| line.trim().strip_prefix("tip: ")) {
            Some(tip) => tip.to_owned(),
            None => "see `etcd-bootstrap --help`".to_owned(),
        },
    };
    SettingsError::usage(message, hint)
}

/// Variables of this program's prefix that it does not have, such as a misspelt one.
fn unknown_variables(env: &BTreeMap<String, String>) -> Vec<String> {
    let known = |name: &str| OPTIONS.iter().any(|row| row.variable == name);
    let unknown =
        env.keys().filter(|name| name.starts_with("BOOTSTRAP_") && !known(name) && !is_service_link(name.as_str()));
    let warning = |name: &String| {
        let nearest = OPTIONS.iter().map(|row| (distance(name, row.variable), row.variable)).min();
        match nearest.filter(|(distance, _)| *distance <= 4) {
            Some((_, nearest)) => format!("{name} means nothing; did you mean {nearest}?"),
            None => format!("{name} means nothing"),
        }
    };
    unknown.map(warning).collect()
}

/// How many letters have to be changed, put in or taken out to make one word of the other.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, letter) in left.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (index, other) in right.iter().enumerate() {
            let change = diagonal + usize::from(letter != *other);
            diagonal = row[index + 1];
            row[index + 1] = change.min(diagonal + 1).min(row[index] + 1);
        }
    }
    row[right.len()]
}

impl Args for Options {
    fn augment_args(command: Command) -> Command {
        let argument = |row: &'static OptionRow| {
            let help = format!("{} [{}; default: {}]", row.help, row.variable, row.default);
            let argument = Arg::new(row.variable).long(row.flag).global(true).help(help);
            if row.value.is_empty() {
                argument.value_name("BOOL").num_args(0..=1).require_equals(true).default_missing_value("true")
            } else {
                argument.value_name(row.value)
            }
        };
        command.args(OPTIONS.iter().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Options {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut options = Self::default();
        options.update_from_arg_matches(matches)?;
        Ok(options)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for row in OPTIONS {
            if let Some(value) = matches.get_one::<String>(row.variable) {
                self.0.insert(row.variable, value.clone());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str, env: &[(&str, &str)]) -> Result<Invocation, SettingsError> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        parse(&args, &env)
    }

    #[test]
    fn clap_accepts_the_definition() {
        command_line().debug_assert();
    }

    #[test]
    fn bare_arguments_are_etcds() {
        for line in ["", "--name=x --data-dir /data", "-name x run"] {
            let parsed = parse_line(line, &[]).unwrap();
            assert_eq!(parsed.verb, Verb::Run);
            assert_eq!(parsed.etcd_args.join(" "), line);
        }
    }

    #[test]
    fn commands_take_options_and_etcds_flags_behind_dashes() {
        let parsed = parse_line("plan --service=etcd --output json --dry-run -- --name=x --service=y", &[]).unwrap();
        assert_eq!(parsed.verb, Verb::Plan { output: Output::Json });
        assert_eq!(parsed.option("BOOTSTRAP_SERVICE"), Some("etcd"));
        assert_eq!(parsed.option("BOOTSTRAP_DRY_RUN"), Some("true"));
        assert_eq!(parsed.etcd_args, ["--name=x", "--service=y"]);
        for (line, verb) in [
            ("run", Verb::Run),
            ("check", Verb::Check { output: Output::Text }),
            ("status", Verb::Status { output: Output::Text }),
            ("promote", Verb::Promote),
            ("ready", Verb::Ready),
            ("leave", Verb::Leave),
            ("render --output=/x", Verb::Render { output: "/x".into() }),
            ("sidecar --output /x", Verb::Sidecar { output: "/x".into() }),
            ("install /shared", Verb::Install { directory: "/shared".into() }),
        ] {
            assert_eq!(parse_line(line, &[]).unwrap().verb, verb);
        }
    }

    #[test]
    fn an_option_goes_before_its_variable_and_an_empty_one_counts_as_none() {
        let env = [("BOOTSTRAP_STATE", "existing"), ("BOOTSTRAP_TIMEOUT", ""), ("BOOTSTRAP_HOLD", "yes")];
        let parsed = parse_line("run --state=new", &env).unwrap();
        assert_eq!(parsed.option("BOOTSTRAP_STATE"), Some("new"));
        assert_eq!(parsed.option("BOOTSTRAP_TIMEOUT"), None);
        assert_eq!(parsed.option("BOOTSTRAP_HOLD"), Some("yes"));
    }

    #[test]
    fn help_and_version_say_where_etcds_are() {
        for line in ["--help", "-h", "-help", "--name=x --help", "run --help"] {
            let Ok(Invocation { verb: Verb::Print(text), .. }) = parse_line(line, &[]) else { panic!("{line}") };
            assert!(text.contains("etcd"), "{line}");
        }
        let Ok(Invocation { verb: Verb::Print(help), .. }) = parse_line("--help", &[]) else { panic!() };
        assert!(help.contains("etcd --help") && help.contains("etcd --version"));
        for row in OPTIONS {
            assert!(help.contains(row.variable), "{}", row.variable);
        }
        assert!(
            matches!(parse_line("--version", &[]).unwrap().verb, Verb::Print(text) if text.starts_with("etcd-bootstrap "))
        );
    }

    #[test]
    fn mistakes_get_one_sentence_and_a_way_out() {
        for (line, message, hint) in [
            ("etcd --name=x", "unrecognized subcommand 'etcd'", "leave `etcd` out"),
            ("/usr/local/bin/etcd --name=x", "unrecognized subcommand", "leave `etcd` out"),
            ("grpc-proxy start", "unrecognized subcommand", "proxies"),
            ("run --data-dir=/data", "unexpected argument '--data-dir'", "behind `--`"),
            ("run --servise=x", "unexpected argument '--servise'", "--service"),
            ("plan --output=yaml", "invalid value 'yaml'", ""),
            ("install", "<DIRECTORY>", ""),
            ("install /x -- --name=y", "`install`", ""),
            ("run extra", "extra", ""),
        ] {
            let error = parse_line(line, &[]).unwrap_err();
            assert_eq!(error.exit_code, 64);
            assert!(error.message.contains(message) && !error.message.contains('\n'), "{line}: {}", error.message);
            assert!(error.hint.contains(hint) && !error.hint.is_empty(), "{line}: {}", error.hint);
        }
    }

    #[test]
    fn a_misspelt_variable_is_noticed_and_a_service_link_is_not() {
        let env = [
            ("BOOTSTRAP_TIMEOUTS", "1"),
            ("BOOTSTRAP_SERVICE_HOST", "10.0.0.1"),
            ("BOOTSTRAP_PORT", "tcp://10.0.0.1:1"),
        ];
        assert_eq!(
            parse_line("", &env).unwrap().warnings,
            ["BOOTSTRAP_TIMEOUTS means nothing; did you mean BOOTSTRAP_TIMEOUT?"]
        );
    }
}

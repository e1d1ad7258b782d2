//! Parse, start the telemetry and a current-thread runtime, dispatch; exec after the runtime is dropped.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use etcd_bootstrap::cli::{self, Invocation, Output, Verb};
use etcd_bootstrap::etcd_command::EtcdCommand;
use etcd_bootstrap::exit::{Exit, Fatal, TERMINATION_LOG};
use etcd_bootstrap::settings::Settings;
use etcd_bootstrap::signals::Signals;
use etcd_bootstrap::{after_start, commands, launch, pid_one, surroundings, telemetry};
use tokio::time::Instant;

/// What a command came to.
enum Outcome {
    Exit(Exit),
    Exec(EtcdCommand),
}

fn main() -> ExitCode {
    let ended = match run() {
        Ok(Outcome::Exit(exit)) => return exit.into(),
        Ok(Outcome::Exec(command)) => launch::become_etcd(command),
        Err(fatal) => fatal,
    };
    ended.report(Path::new(TERMINATION_LOG))
}

fn run() -> Result<Outcome, Fatal> {
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let mut env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let duties = after_start::of_arguments(&args);
    let mut invocation = cli::parse(duties.as_ref().map_or(&args, |(_, original)| original), &env)?;
    if let Verb::Print(text) = &invocation.verb {
        print!("{text}");
        return Ok(Outcome::Exit(Exit::Done));
    }
    if let Verb::Install { directory } = &invocation.verb {
        commands::install::install(directory)?;
        return Ok(Outcome::Exit(Exit::Done));
    }
    pid_one::complete(&mut invocation, &mut env);
    let settings = match settings(&invocation, &env) {
        Ok(settings) => Arc::new(settings),
        Err(fatal) => match invocation.verb {
            Verb::Check { output } => return Ok(Outcome::Exit(commands::check::refused(&fatal, output))),
            _ => return Err(fatal),
        },
    };
    // The output of a preStop hook goes nowhere.
    let container_log = (invocation.verb == Verb::Leave).then(pid_one::log).flatten();
    telemetry::start(Some(&settings.log), settings.log_format, container_log)
        .map_err(|error| Fatal::new(Exit::Config, format!("BOOTSTRAP_LOG: {error}")))?;
    settings.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Fatal::new(Exit::Exec, format!("failed to start the runtime: {error}")))?;
    runtime.block_on(async {
        let mut signals =
            Signals::install().map_err(|error| Fatal::new(Exit::Exec, format!("failed to handle signals: {error}")))?;
        let ending = settings.clone();
        let work = async {
            match duties {
                Some((duties, _)) => {
                    after_start::run(settings.clone(), duties, commands::dns(&settings)?).await?;
                    Ok(Outcome::Exit(Exit::Done))
                }
                None => dispatch(&invocation, settings, &args).await,
            }
        };
        let outcome = tokio::select! {
            biased;
            exit = signals.ended() => {
                if matches!(invocation.verb, Verb::Sidecar { .. }) && exit == Exit::Terminated {
                    tokio::select! {
                        _again = signals.ended() => {}
                        () = commands::sidecar::at_the_end(ending) => {}
                    }
                }
                return Ok(Outcome::Exit(exit));
            }
            outcome = work => outcome,
        };
        match signals.ended_already().await {
            Some(exit) => Ok(Outcome::Exit(exit)),
            None => outcome,
        }
    })
}

fn settings(invocation: &Invocation, env: &BTreeMap<String, String>) -> Result<Settings, Fatal> {
    Ok(surroundings::settings(invocation, env)?)
}

async fn dispatch(invocation: &Invocation, settings: Arc<Settings>, args: &[String]) -> Result<Outcome, Fatal> {
    match &invocation.verb {
        Verb::Run | Verb::Render { .. } | Verb::Sidecar { .. } | Verb::Promote | Verb::Leave if settings.dry_run => {
            commands::plan::plan(&settings, Output::Text).await?;
            Ok(Outcome::Exit(Exit::Done))
        }
        Verb::Plan { output } => {
            commands::plan::plan(&settings, *output).await?;
            Ok(Outcome::Exit(Exit::Done))
        }
        Verb::Status { output } => {
            commands::status::status(&settings, *output).await?;
            Ok(Outcome::Exit(Exit::Done))
        }
        Verb::Run => Ok(Outcome::Exec(commands::run::run(settings, args, Instant::now()).await?)),
        Verb::Render { output } => {
            commands::render::render(settings, output, Instant::now()).await?;
            Ok(Outcome::Exit(Exit::Done))
        }
        Verb::Sidecar { output } => {
            commands::sidecar::sidecar(settings, output).await?;
            Ok(Outcome::Exit(Exit::Done))
        }
        Verb::Promote => {
            commands::promote::promote(settings).await?;
            Ok(Outcome::Exit(Exit::Done))
        }
        Verb::Ready => Ok(Outcome::Exit(commands::ready::ready(&settings).await?)),
        Verb::Leave => {
            commands::leave::leave(settings).await?;
            Ok(Outcome::Exit(Exit::Done))
        }
        Verb::Check { output } => Ok(Outcome::Exit(commands::check::check(&settings, *output).await?)),
        Verb::Install { .. } | Verb::Print(_) => Ok(Outcome::Exit(Exit::Done)),
    }
}

//! `plan`, and `BOOTSTRAP_DRY_RUN`: observe and decide as `run` does, print it, change nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::cli::Output;
use crate::data_dir::{self, Paths};
use crate::decide::decide;
use crate::etcd_command;
use crate::exit::Fatal;
use crate::names::ProcessId;
use crate::observe::{ANSWER_TIMEOUT, Observer};
use crate::plan::{Action, Decision};
use crate::settings::Settings;
use crate::startup::clients;
use crate::status::Status;

/// How long the peers are listened to where nothing is decided: twice as long as one of them may take.
const LISTEN: Duration = ANSWER_TIMEOUT.saturating_mul(2);
const TICK: Duration = Duration::from_millis(50);

/// Observes until something is decided, or until everybody has had the time to answer.
///
/// # Errors
/// Where the disk cannot be read.
pub async fn observe(settings: &Settings) -> Result<Status, Fatal> {
    let start = Instant::now();
    let paths = Paths::locate(&settings.data_dir, settings.wal_dir.as_deref())?;
    let disk = data_dir::observe(&paths)?;
    let intent = Arc::new(settings.intent.clone());
    let (client, _) = clients(settings);
    let dns = super::dns(settings)?;
    let mut observer = Observer::new(intent.clone(), ProcessId("plan".to_owned()), dns, Arc::new(client), disk, start);
    let listen = settings.intent.timeout.map_or(LISTEN, |timeout| timeout.min(LISTEN));
    loop {
        let seen = observer.observe();
        let decision = decide(&intent, &seen);
        if !matches!(decision.action, Action::Wait { .. }) || start.elapsed() >= listen {
            return Ok(Status::new((*intent).clone(), seen, decision, start.into_std()));
        }
        observer.changed(TICK).await;
    }
}

/// Prints the facts, the rule, what would be done, and etcd's command line where it would start.
///
/// # Errors
/// Where the disk cannot be read.
pub async fn plan(settings: &Settings, output: Output) -> Result<(), Fatal> {
    let status = observe(settings).await?;
    match output {
        Output::Json => println!("{}", status.json(true).unwrap_or_default().trim_end()),
        Output::Text => {
            println!("{status}");
            print!("{}", text(settings, &status.decision));
        }
    }
    Ok(())
}

fn text(settings: &Settings, decision: &Decision) -> String {
    let mut lines = vec![format!("rule:  {}", decision.rule), format!("why:   {}", decision.why)];
    match &decision.action {
        Action::Wait { .. } => lines.push("next:  wait".to_owned()),
        Action::Take(step) => lines.push(format!("next:  {step:?}")),
        Action::Refuse { exit_code, hint } => lines.push(format!("next:  end with exit code {exit_code}; {hint}")),
        Action::Start(start) => {
            let command = etcd_command::command(settings, start, [], "etcd.yaml".as_ref());
            lines.push(format!("next:  exec {} {}", command.program.display(), command.args.join(" ")));
        }
    }
    lines.extend(decision.warnings.iter().map(|warning| format!("note:  {warning}")));
    lines.join("\n") + "\n"
}

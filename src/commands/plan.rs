//! `plan`, and `BOOTSTRAP_DRY_RUN`: observe and decide as `run` does, print it, change nothing.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::cli::Output;
use crate::data_dir::{self, Paths};
use crate::decide::decide;
use crate::etcd_command;
use crate::exit::{Exit, Fatal};
use crate::image::Binary;
use crate::names::ProcessId;
use crate::observation::Disk;
use crate::observe::{ANSWER_TIMEOUT, Observer};
use crate::plan::{Action, Decision, Rule};
use crate::settings::Settings;
use crate::startup::clients;
use crate::status::Status;
use crate::tls::Tls;

/// How long the peers are listened to where nothing is decided: twice as long as one of them has at first.
pub(super) const LISTEN: Duration = ANSWER_TIMEOUT.saturating_mul(2);
pub(super) const TICK: Duration = Duration::from_millis(50);

/// Observes until everybody has answered and something is decided, or has had the time to.
///
/// # Errors
/// Where the disk cannot be read.
pub async fn observe(settings: &Settings) -> Result<Status, Fatal> {
    let paths = Paths::locate(&settings.data_dir, settings.wal_dir.as_deref())?;
    let listen = settings.intent.timeout.map_or(LISTEN, |timeout| timeout.min(LISTEN));
    look(settings, data_dir::observe(&paths)?, listen).await
}

/// The same with this disk, and with this much time. Where it would wait, those that are late get a moment.
///
/// # Errors
/// Where DNS cannot be asked at all.
pub async fn look(settings: &Settings, disk: Disk, at_most: Duration) -> Result<Status, Fatal> {
    let start = Instant::now();
    let intent = Arc::new(settings.intent.clone());
    let (client, _) = clients(settings, &Tls::load(settings)?);
    let dns = super::dns(settings)?;
    let mut binary = Binary::look(settings.etcd_here.as_deref(), &disk);
    let paths = Paths::locate(&settings.data_dir, settings.wal_dir.as_deref()).ok();
    let mut image_known = false;
    let mut observer = Observer::new(intent.clone(), ProcessId("plan".to_owned()), dns, Arc::new(client), disk, start);
    observer.ask_kubernetes(&settings.kube_api);
    loop {
        let seen = observer.observe();
        let decision = decide(&intent, &seen);
        if let (Some(paths), false, true) = (&paths, image_known, decision.action.depends_on_etcd()) {
            observer.set_image(binary.image(paths, &seen.disk).await?);
            image_known = true;
            continue;
        }
        let decided = match &decision.action {
            Action::Wait { .. } => start.elapsed() >= LISTEN && decision.rule != Rule::DataGrace,
            _ => true,
        };
        if (decided && observer.is_settled(&seen)) || start.elapsed() >= at_most {
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
    let plan = Plan::of(settings, &status);
    match output {
        Output::Json => {
            let json = serde_json::to_string_pretty(&plan);
            println!("{}", json.map_err(|error| Fatal::new(Exit::Exec, format!("failed to print the plan: {error}")))?);
        }
        Output::Text => {
            println!("{status}");
            print!("{}", plan.text());
        }
    }
    Ok(())
}

/// What would be done next, beside all that it rests on.
#[derive(Serialize)]
struct Plan<'a> {
    #[serde(flatten)]
    status: &'a Status,
    next: String,
    /// etcd's command line, where it would start.
    argv: Option<Vec<String>>,
}

impl<'a> Plan<'a> {
    fn of(settings: &Settings, status: &'a Status) -> Self {
        let mut argv = None;
        let next = match &status.decision.action {
            Action::Wait { .. } => "wait".to_owned(),
            Action::Take(step) => step.to_string(),
            Action::Refuse { exit_code, hint } => format!("end with exit code {exit_code}; {hint}"),
            Action::Start(start) => {
                let command = etcd_command::command(settings, start, [], "etcd.yaml".as_ref());
                let words = [vec![command.program.display().to_string()], command.args].concat();
                let next = format!("exec {}", words.join(" "));
                argv = Some(words);
                next
            }
        };
        Self { status, next, argv }
    }

    fn text(&self) -> String {
        let Decision { rule, why, warnings, .. } = &self.status.decision;
        let mut lines = vec![format!("rule:  {rule}"), format!("why:   {why}"), format!("next:  {}", self.next)];
        lines.extend(warnings.iter().map(|warning| format!("note:  {warning}")));
        lines.join("\n") + "\n"
    }
}

//! `render`: an init container that decides and registers, and leaves etcd a configuration file.

use std::path::Path;
use std::sync::Arc;

use tokio::time::Instant;

use crate::data_dir::Paths;
use crate::exit::{Exit, Fatal};
use crate::hand_over;
use crate::settings::Settings;
use crate::startup::Startup;

/// Waits, decides and acts until etcd can be started, and writes its configuration file.
///
/// # Errors
/// A refusal, a time-out, or a disk or a file that cannot be used.
pub async fn render(settings: Arc<Settings>, output: &Path, start: Instant) -> Result<(), Fatal> {
    if settings.intent.force_new_cluster {
        let message = "BOOTSTRAP_FORCE_NEW_CLUSTER cannot be used with `render`: nobody would take the flag out of the \
                       file again, and each restart of etcd would throw out whoever has joined since";
        return Err(
            Fatal::new(Exit::Config, message).hint("let `etcd-bootstrap run` be this pod's entrypoint for once")
        );
    }
    hand_over::check(output, &Paths::locate(&settings.data_dir, settings.wal_dir.as_deref())?)?;
    let dns = super::dns(&settings)?;
    let mut startup = Startup::begin(settings.clone(), start, dns)?;
    let ready = startup.until_ready().await?;
    let learner = ready.start.learner.then_some(ready.start.member_id);
    hand_over::hand_over(startup, ready, &settings, output).await?;
    if let Some(member_id) = learner {
        tracing::warn!(
            %member_id,
            "this member is a learner, and nobody promotes it: run `etcdctl member promote {member_id}` once it serves; \
             another pod that joins does so as well"
        );
    }
    Ok(())
}

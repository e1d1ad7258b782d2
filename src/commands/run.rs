//! `run`, and the bare form: the entrypoint.

use std::sync::Arc;

use tokio::time::Instant;

use crate::etcd_command::EtcdCommand;
use crate::exit::Fatal;
use crate::launch::launch;
use crate::settings::Settings;
use crate::startup::Startup;

/// Waits, decides and acts until etcd can be started; what comes back is what to exec.
///
/// # Errors
/// A refusal, a time-out, or a disk that cannot be used.
pub async fn run(settings: Arc<Settings>, own_args: &[String], start: Instant) -> Result<EtcdCommand, Fatal> {
    let dns = super::dns(&settings)?;
    // Its first questions are on their way while the disk is read: it opens its sockets, and then it sends.
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    let mut startup = Startup::begin(settings.clone(), start, dns)?;
    startup.becomes_etcd();
    let ready = startup.until_ready().await?;
    launch(startup, ready, &settings, own_args).await
}

//! `promote`: promotes this member if it is a learner.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::after_start::confirm;
use crate::data_dir::{self, Paths};
use crate::exit::{Exit, Fatal};
use crate::observation::Wal;
use crate::settings::Settings;
use crate::startup::clients;
use crate::tls::Tls;

/// How long it is tried where `BOOTSTRAP_TIMEOUT` says nothing.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Promotes the member whose WAL is on this disk.
///
/// # Errors
/// Where there is none, or the time is up.
pub async fn promote(settings: Arc<Settings>) -> Result<(), Fatal> {
    let paths = Paths::locate(&settings.data_dir, settings.wal_dir.as_deref())?;
    let Wal::Present(facts) = data_dir::observe(&paths)?.wal else {
        return Err(Fatal::new(Exit::Data, format!("no member has run on `{}` yet", paths.wal_dir.display()))
            .hint("start the pod first, or check --data-dir and --wal-dir"));
    };
    let until = Instant::now() + settings.intent.timeout.unwrap_or(TIMEOUT);
    let dns = super::dns(&settings)?;
    let clients = clients(&settings, &Tls::load(&settings)?);
    confirm(&settings.intent, clients, &paths, facts.member_id, dns, Some(until)).await
}

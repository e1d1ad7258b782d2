//! `sidecar`: as `render`, and then for the pod's life.

use std::path::Path;
use std::sync::Arc;

use crate::exit::Fatal;
use crate::settings::Settings;

/// Decides, hands etcd its configuration file, and stays.
///
/// # Errors
/// A refusal, a time-out, or a disk, a file or an address that cannot be used.
pub async fn sidecar(settings: Arc<Settings>, output: &Path) -> Result<(), Fatal> {
    let dns = super::dns(&settings)?;
    match crate::sidecar::run(settings, output.to_owned(), dns).await? {}
}

/// At the pod's end etcd is gone before its sidecar is told so: what a preStop hook of etcd has not done, its peers may
/// still do.
pub async fn at_the_end(settings: Arc<Settings>) {
    if let Err(fatal) = super::leave::leave(settings).await {
        tracing::error!(hint = fatal.hint, "{fatal}");
    }
}

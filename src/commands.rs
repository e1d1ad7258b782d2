//! The commands, one file each.

pub mod check;
pub mod install;
pub mod leave;
pub mod plan;
pub mod promote;
pub mod ready;
pub mod render;
pub mod run;
pub mod sidecar;
pub mod status;

use std::sync::Arc;

use crate::dns::Resolver;
use crate::dns_watch::DnsWatch;
use crate::exit::{Exit, Fatal};
use crate::local::LocalAddresses;
use crate::settings::Settings;
use crate::surroundings::RESOLV_CONF;

/// Begins to ask DNS as the settings say.
///
/// # Errors
/// Where resolv.conf cannot be read.
pub fn dns(settings: &Settings) -> Result<Arc<DnsWatch>, Fatal> {
    let resolv_conf = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    let resolver = Resolver::new(settings.dns_server, &resolv_conf).map_err(|error| {
        Fatal::new(Exit::Config, error.to_string()).hint("set BOOTSTRAP_DNS_SERVER, or the pod's dnsPolicy")
    })?;
    Ok(Arc::new(DnsWatch::start(Arc::new(settings.intent.clone()), Arc::new(resolver), LocalAddresses::now)))
}

//! The commands, one file each.

pub mod install;
pub mod plan;
pub mod promote;
pub mod run;
pub mod status;

use std::sync::Arc;

use crate::dns::Resolver;
use crate::dns_watch::DnsWatch;
use crate::exit::{Exit, Fatal};
use crate::local::LocalAddresses;
use crate::names::Scheme;
use crate::settings::Settings;
use crate::surroundings::RESOLV_CONF;

/// Peers are spoken to in plain http only, so far.
///
/// # Errors
/// Exit code 78 where a URL says https.
pub fn refuse_tls(settings: &Settings) -> Result<(), Fatal> {
    let intent = &settings.intent;
    let urls = [&intent.peer_urls, &intent.client_urls, &settings.listen_peer_urls, &settings.listen_client_urls];
    match urls.into_iter().flatten().find(|url| url.scheme == Scheme::Https) {
        None => Ok(()),
        Some(url) => Err(Fatal::new(Exit::Config, format!("`{url}`: this version does not speak TLS"))
            .hint("use http on the peer and client URLs, or let etcd start without this entrypoint")),
    }
}

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

//! `ready`: a readiness probe for StatefulSets that create their pods one after the other.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;

use super::plan::{LISTEN, TICK};
use crate::dns_watch::DnsWatch;
use crate::exit::{Exit, Fatal};
use crate::kube_api::KubeApi;
use crate::names::{PodName, ProcessId};
use crate::observation::{Disk, PodsWanted};
use crate::observe::Observer;
use crate::readiness::{Readiness, readiness};
use crate::settings::Settings;
use crate::startup::clients;
use crate::tls::Tls;

/// Says whether the pod is ready, and why: 0 or 75. The disk is not looked at, and the termination log, which tells of
/// the container's end, is left alone.
///
/// # Errors
/// Where nobody can be asked.
pub async fn ready(settings: &Settings) -> Result<Exit, Fatal> {
    let until = Instant::now() + settings.intent.timeout.map_or(LISTEN, |timeout| timeout.min(LISTEN));
    let intent = Arc::new(settings.intent.clone());
    let (client, _) = clients(settings, &Tls::load(settings)?);
    let dns = super::dns(settings)?;
    let process = ProcessId("ready".to_owned());
    let mut observer =
        Observer::new(intent.clone(), process, dns.clone(), Arc::new(client), Disk::blank(), Instant::now());
    // The own etcd may not have answered yet, nor DNS.
    while readiness(&intent, &observer.observe()) != Readiness::Serves && Instant::now() < until {
        observer.changed(TICK).await;
    }
    let mut seen = observer.observe();
    if readiness(&intent, &seen) != Readiness::Serves {
        seen.pods_wanted = replicas(settings, dns).await;
    }
    let (exit, sentence) = match readiness(&intent, &seen) {
        Readiness::Serves => (Exit::Done, "ready: etcd serves".to_owned()),
        Readiness::Needs(pods) => {
            let pods: Vec<&str> = pods.iter().map(PodName::as_str).collect();
            let sentence = format!("ready: it does not serve, but {} can only be created after it", pods.join(", "));
            (Exit::Done, sentence)
        }
        Readiness::NotYet(reason) => (Exit::TimedOut, format!("not ready: {reason}")),
    };
    println!("{sentence}");
    Ok(exit)
}

/// How many replicas are wanted, where the Kubernetes API tells.
async fn replicas(settings: &Settings, dns: Arc<DnsWatch>) -> Option<PodsWanted> {
    let api = KubeApi::new(&settings.kube_api, &settings.intent, dns).ok()?;
    match api.replicas(Instant::now() + LISTEN).await {
        Ok(replicas) => Some(PodsWanted { replicas: Some(replicas), claimed: BTreeSet::new() }),
        Err(failure) => {
            tracing::debug!("founders and members have to do: {failure}");
            None
        }
    }
}

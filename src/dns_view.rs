//! What DNS answers amount to: which hosts there are to ask for, and what a decision sees. No IO and no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::dns::{ServicePods, SrvName, is_in_service};
use crate::dns_schedule::{Outcome, Role};
use crate::intent::{Discovery, Intent};
use crate::local::LocalAddresses;
use crate::names::PodName;
use crate::observation::{Dns, DnsFailure, OwnName, Resolution, ServiceRecords};

/// How long an answer still counts while later questions bring none: a silent server does not take an address away.
const KEEP: Duration = Duration::from_secs(30);
/// How many ordinals beyond the initial members are looked for by their names.
const PROBES_MAX: u32 = 64;
/// How many hosts that SRV records name are kept known.
const NAMED_MAX: usize = 64;

/// Whether a host's addresses are this pod's, as far as its kind of host allows one to tell.
///
/// A name in the service's domain has to resolve to this pod. Any other advertised host leads here by ways that the
/// pod cannot see (a load balancer), so it only has to resolve; and an address is what it is.
pub fn own_name(intent: &Intent, resolution: &Resolution, local: &LocalAddresses) -> OwnName {
    match resolution {
        Resolution::Failed(failure) => OwnName::No(failure.clone()),
        Resolution::Addresses(_) if !is_in_service(intent, &intent.peer_urls[0].host) => OwnName::Ours,
        Resolution::Addresses(addresses) if local.contains_any(addresses) => OwnName::Ours,
        Resolution::Addresses(addresses) => OwnName::Elsewhere(addresses.clone()),
    }
}

/// An answer, and when the last one that said something came.
#[derive(Clone, Debug)]
struct Heard<T> {
    answer: T,
    at: Duration,
}

/// The answers so far.
#[derive(Debug)]
pub struct Knowledge {
    intent: Arc<Intent>,
    own: OwnName,
    hosts: BTreeMap<String, Heard<Resolution>>,
    services: BTreeMap<SrvName, Heard<Result<ServicePods, DnsFailure>>>,
}

impl Knowledge {
    /// Nothing is known yet.
    pub fn new(intent: Arc<Intent>) -> Self {
        Self { intent, own: OwnName::NotAsked, hosts: BTreeMap::new(), services: BTreeMap::new() }
    }

    /// The service's SRV names are of use.
    pub fn asks_service(&self) -> bool {
        self.intent.discovery == Discovery::Srv && self.intent.service.is_some()
    }

    /// The host that this pod advertises.
    pub fn own_host(&self) -> &str {
        &self.intent.peer_urls[0].host
    }

    /// The hosts to ask for, with their roles and whether they lie in the service's domain; forgets all others.
    pub fn keep_hosts<'a>(&mut self, extra: impl Iterator<Item = &'a String>) -> BTreeMap<String, (Role, bool)> {
        let mut roles: BTreeMap<String, Role> = BTreeMap::new();
        let mut add = |host: String, role: Role| {
            let known = roles.entry(host).or_insert(role);
            *known = role.min(*known);
        };
        add(self.own_host().to_owned(), Role::Own);
        for pod in self.intent.plan.pods() {
            add(self.intent.peer_url(&pod).host, Role::Founder);
        }
        extra.for_each(|host| add(host.clone(), Role::Wanted));
        for pod in self.named_pods().into_iter().take(NAMED_MAX) {
            add(self.intent.peer_url(&pod).host, Role::Wanted);
        }
        self.probes().into_iter().for_each(|(_, host)| add(host, Role::Probe));
        self.hosts.retain(|host, _| roles.contains_key(host));
        let placed = roles.into_iter().map(|(host, role)| {
            let in_service = is_in_service(&self.intent, &host);
            (host, (role, in_service))
        });
        placed.collect()
    }

    /// Takes a host's answer.
    pub fn hear_host(&mut self, host: &str, resolution: Resolution, local: &LocalAddresses, now: Duration) -> Outcome {
        let unclear = matches!(&resolution, Resolution::Failed(failure) if !failure.is_absent());
        let kept = self.hosts.get(host).is_some_and(|known| {
            matches!(known.answer, Resolution::Addresses(_)) && now.saturating_sub(known.at) < KEEP
        });
        if unclear && kept {
            return Outcome::Unclear;
        }
        let mut outcome = match &resolution {
            Resolution::Addresses(_) => Outcome::Known,
            Resolution::Failed(_) if unclear => Outcome::Unclear,
            Resolution::Failed(_) => Outcome::Absent,
        };
        if host == self.own_host() {
            self.own = own_name(&self.intent, &resolution, local);
            if matches!(self.own, OwnName::Elsewhere(_)) {
                outcome = Outcome::Absent;
            }
        }
        self.hosts.insert(host.to_owned(), Heard { answer: resolution, at: now });
        outcome
    }

    /// Takes the answer for one of the service's names.
    pub fn hear_service(&mut self, srv: SrvName, answer: Result<ServicePods, DnsFailure>, now: Duration) -> Outcome {
        let outcome = match &answer {
            Ok(_) => Outcome::Known,
            Err(failure) if failure.is_absent() => Outcome::Absent,
            Err(_) => Outcome::Unclear,
        };
        let known = self.services.get(&srv);
        let kept = known.is_some_and(|known| known.answer.is_ok() && now.saturating_sub(known.at) < KEEP);
        if outcome != Outcome::Unclear || !kept {
            self.services.insert(srv, Heard { answer, at: now });
        }
        outcome
    }

    /// What a decision sees.
    pub fn view(&self) -> Dns {
        let hosts = self.hosts.iter().map(|(host, heard)| (host.clone(), heard.answer.clone()));
        Dns { own: self.own.clone(), service: self.service_records(), hosts: hosts.collect() }
    }

    /// The hosts whose pods an SRV answer names, as they are asked for, with the addresses that came along.
    pub fn hosts_named(&self, found: &ServicePods) -> Vec<(String, Option<Vec<IpAddr>>)> {
        let hosts = self.hosts.keys().cloned().chain(found.pods.iter().map(|pod| self.intent.peer_url(pod).host));
        let hosts: BTreeSet<String> = hosts.chain([self.own_host().to_owned()]).collect();
        let named = hosts.into_iter().filter(|host| is_in_service(&self.intent, host)).filter_map(|host| {
            let addresses = found.addresses.get(&self.intent.absolute(&host)?.to_ascii_lowercase());
            let is_named = addresses.is_some() || found.pods.contains(&PodName::of_host(&host));
            is_named.then(|| (host, addresses.cloned()))
        });
        named.collect()
    }

    /// The host has addresses.
    pub fn is_resolved(&self, host: &str) -> bool {
        matches!(self.hosts.get(host), Some(Heard { answer: Resolution::Addresses(_), .. }))
    }

    /// The SRV records name the pod that this host is of, or no SRV record would.
    pub fn names_pod_of(&self, host: &str) -> bool {
        !is_in_service(&self.intent, host) || self.named_pods().contains(&PodName::of_host(host))
    }

    fn named_pods(&self) -> BTreeSet<PodName> {
        let answers = self.services.values().filter_map(|heard| heard.answer.as_ref().ok());
        answers.flat_map(|found| found.pods.iter().cloned()).collect()
    }

    /// Both SRV names are said not to exist although this pod is published: the service has no such port.
    fn falls_back(&self) -> bool {
        let absent = |srv| {
            let heard: Option<&Heard<Result<ServicePods, DnsFailure>>> = self.services.get(&srv);
            heard.is_some_and(|heard| heard.answer.as_ref().is_err_and(DnsFailure::is_absent))
        };
        self.asks_service() && self.own == OwnName::Ours && SrvName::ALL.into_iter().all(absent)
    }

    /// The ordinals are looked for by their names.
    fn asks_ordinals(&self) -> bool {
        let own_is_name = self.own_host().parse::<IpAddr>().is_err();
        own_is_name && (self.intent.discovery == Discovery::A || self.falls_back())
    }

    /// The pods beyond the initial members that are looked for by their names: up to the first that has no record.
    fn probes(&self) -> Vec<(PodName, String)> {
        let mut probes = Vec::new();
        if !self.asks_ordinals() {
            return probes;
        }
        let founders = u32::try_from(self.intent.plan.founders.len()).unwrap_or(u32::MAX);
        let first = self.intent.ordinal_start.saturating_add(founders);
        for ordinal in first..first.saturating_add(PROBES_MAX) {
            let Some(pod) = self.intent.pod.sibling(ordinal) else { break };
            let host = self.intent.peer_url(&pod).host;
            let resolved = self.is_resolved(&host);
            probes.push((pod, host));
            if !resolved {
                break;
            }
        }
        probes
    }

    fn service_records(&self) -> ServiceRecords {
        if self.asks_ordinals() {
            return self.records_by_ordinal();
        }
        if !self.asks_service() {
            return ServiceRecords::Static;
        }
        let mut absent = None;
        for srv in SrvName::ALL {
            match self.services.get(&srv).map(|heard| &heard.answer) {
                None => return ServiceRecords::NotAsked,
                // A name that could not be asked for may name pods that the other one does not.
                Some(Err(failure)) if !failure.is_absent() => return ServiceRecords::Failed(failure.clone()),
                Some(Err(failure)) => absent = absent.or(Some(failure)),
                Some(Ok(_)) => {}
            }
        }
        let pods = self.named_pods();
        match absent {
            Some(failure) if pods.is_empty() => ServiceRecords::Failed(failure.clone()),
            _ => ServiceRecords::Pods(pods),
        }
    }

    /// The pods whose ordinal names resolve; it is only known once the last name that was looked for has an answer.
    fn records_by_ordinal(&self) -> ServiceRecords {
        let probes = self.probes();
        if let Some((_, host)) = probes.last() {
            match self.hosts.get(host).map(|heard| &heard.answer) {
                None => return ServiceRecords::NotAsked,
                Some(Resolution::Failed(failure)) if !failure.is_absent() => {
                    return ServiceRecords::Failed(failure.clone());
                }
                Some(_) => {}
            }
        }
        let founders = self.intent.plan.pods().into_iter().chain([self.intent.pod.clone()]);
        let founders = founders.map(|pod| {
            let host = self.intent.peer_url(&pod).host;
            (pod, host)
        });
        let resolved = founders.chain(probes).filter(|(_, host)| self.is_resolved(host));
        ServiceRecords::Pods(resolved.map(|(pod, _)| pod).collect())
    }
}

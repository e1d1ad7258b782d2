//! The records of headless services with publishNotReadyAddresses, as CoreDNS serves them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// One pod's place in a service's EndpointSlices.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) pod: String,
    pub(super) service: String,
    pub(super) namespace: String,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ports: Vec<(String, u16)>,
    pub(super) from: Instant,
    pub(super) until: Option<Instant>,
}

impl Endpoint {
    pub(super) fn key(&self) -> String {
        format!("{}.{}.{}", self.pod, self.service, self.namespace)
    }

    pub(super) fn host(&self) -> String {
        format!("{}.{DOMAIN}", self.key())
    }

    fn is_visible(&self, now: Instant) -> bool {
        self.from <= now && self.until.is_none_or(|until| now < until)
    }
}

/// Services live below this name.
const DOMAIN: &str = "svc.cluster.local";

#[derive(Default)]
pub(super) struct Zone {
    endpoints: Vec<Endpoint>,
    frozen: Option<Vec<Endpoint>>,
    pub(super) publication_delay: Duration,
    pub(super) removal_delay: Duration,
    pub(super) withheld: BTreeSet<String>,
    pub(super) pointed: BTreeMap<String, Vec<IpAddr>>,
    pub(super) omitted_from_srv: BTreeSet<String>,
}

/// What the zone has at a name and type.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    NoSuchName,
    /// The name exists, with other types.
    NoData,
    Addresses(Vec<IpAddr>),
    /// Port, host name, the host's addresses.
    Services(Vec<(u16, String, Vec<IpAddr>)>),
    /// Whose address it is.
    Hosts(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Address,
    Service,
    Other,
}

impl Zone {
    pub(super) fn publish(&mut self, mut endpoint: Endpoint) {
        endpoint.from += self.publication_delay;
        for old in &mut self.endpoints {
            if old.key() == endpoint.key() {
                let until = old.until.unwrap_or(endpoint.from);
                old.until = Some(until.min(endpoint.from));
            }
        }
        let now = Instant::now();
        self.endpoints.retain(|old| old.until.is_none_or(|until| now < until));
        self.endpoints.push(endpoint);
    }

    pub(super) fn withdraw(&mut self, key: &str) {
        let end = Instant::now() + self.removal_delay;
        for endpoint in self.endpoints.iter_mut().filter(|e| e.key() == key) {
            let until = endpoint.until.unwrap_or(end);
            endpoint.until = Some(until.min(end));
        }
    }

    pub(super) fn freeze(&mut self) {
        let mut seen = self.visible();
        for endpoint in &mut seen {
            endpoint.until = None;
        }
        self.frozen = Some(seen);
    }

    pub(super) fn thaw(&mut self) {
        self.frozen = None;
    }

    pub(super) fn tell_the_truth(&mut self) {
        self.frozen = None;
        self.withheld.clear();
        self.pointed.clear();
        self.omitted_from_srv.clear();
    }

    /// What exists for a client now, lies included.
    fn visible(&self) -> Vec<Endpoint> {
        let now = Instant::now();
        let known = self.frozen.as_ref().unwrap_or(&self.endpoints);
        let mut visible: Vec<Endpoint> = known
            .iter()
            .filter(|endpoint| endpoint.is_visible(now))
            .filter(|endpoint| !self.withheld.contains(&endpoint.key()))
            .cloned()
            .collect();
        for endpoint in &mut visible {
            if let Some(addresses) = self.pointed.get(&endpoint.key()) {
                endpoint.addresses.clone_from(addresses);
            }
        }
        visible
    }

    /// Looks a lower-case name without its last dot up.
    pub(super) fn find(&self, name: &str, wanted: Wanted) -> Found {
        let Some(rest) = name.strip_suffix(DOMAIN) else {
            let is_parent = name == "cluster.local";
            return if is_parent { Found::NoData } else { Found::NoSuchName };
        };
        let visible = self.visible();
        let labels: Vec<&str> = rest.split('.').filter(|label| !label.is_empty()).collect();
        match labels.as_slice() {
            [] | [_] => Found::NoData,
            [service, namespace] => self.of(visible, wanted, |e| e.service == *service && e.namespace == *namespace),
            ["_tcp", service, namespace] => {
                self.of(visible, Wanted::Other, |e| e.service == *service && e.namespace == *namespace)
            }
            [pod, service, namespace] => {
                self.of(visible, wanted, |e| e.pod == *pod && e.service == *service && e.namespace == *namespace)
            }
            [port, "_tcp", service, namespace] => {
                let port = port.strip_prefix('_').unwrap_or_default();
                let wanted = match wanted {
                    Wanted::Service => wanted,
                    _ => Wanted::Other,
                };
                let mut named = visible;
                for endpoint in &mut named {
                    endpoint.ports.retain(|(name, _)| name == port);
                }
                self.of(named, wanted, |e| !e.ports.is_empty() && e.service == *service && e.namespace == *namespace)
            }
            _ => Found::NoSuchName,
        }
    }

    fn of(&self, mut endpoints: Vec<Endpoint>, wanted: Wanted, matches: impl Fn(&Endpoint) -> bool) -> Found {
        endpoints.retain(|endpoint| matches(endpoint));
        if endpoints.is_empty() {
            return Found::NoSuchName;
        }
        match wanted {
            Wanted::Address => Found::Addresses(endpoints.into_iter().flat_map(|e| e.addresses).collect()),
            Wanted::Service => Found::Services(self.services(&endpoints)),
            Wanted::Other => Found::NoData,
        }
    }

    fn services(&self, endpoints: &[Endpoint]) -> Vec<(u16, String, Vec<IpAddr>)> {
        endpoints
            .iter()
            .filter(|endpoint| !self.omitted_from_srv.contains(&endpoint.key()))
            .flat_map(|endpoint| {
                let host = endpoint.host();
                let ports = endpoint.ports.iter();
                ports.map(move |(_, port)| (*port, host.clone(), endpoint.addresses.clone()))
            })
            .collect()
    }

    /// Whose address this is (PTR).
    pub(super) fn find_host(&self, address: IpAddr) -> Found {
        let visible = self.visible();
        let hosts: Vec<String> =
            visible.iter().filter(|endpoint| endpoint.addresses.contains(&address)).map(Endpoint::host).collect();
        if hosts.is_empty() {
            return Found::NoSuchName;
        }
        Found::Hosts(hosts)
    }
}

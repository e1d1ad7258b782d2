//! What DNS says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Member;
use crate::names::PodName;

/// What DNS says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dns {
    /// Whether this pod's own advertised host resolves to this pod.
    pub own: OwnName,
    /// The pods that the service's SRV records name (or, in discovery `a`, the ordinals that resolve).
    pub service: ServiceRecords,
    /// Each host that was asked for.
    pub hosts: BTreeMap<String, Resolution>,
}

impl Dns {
    /// Whether a host is known to have this address.
    pub fn points_at(&self, host: &str, address: IpAddr) -> bool {
        matches!(self.hosts.get(host), Some(Resolution::Addresses(known)) if known.contains(&address.to_canonical()))
    }

    /// The server says that a member's host has no record: its pod is gone.
    pub fn has_no_record(&self, member: &Member) -> bool {
        let resolution = member.hosts().first().and_then(|host| self.hosts.get(host));
        matches!(resolution, Some(Resolution::Failed(failure)) if failure.is_absent())
    }

    /// There was an answer for a member's host, or it needs none.
    pub fn has_looked_up(&self, member: &Member) -> bool {
        let hosts = member.hosts();
        hosts.first().is_none_or(|host| host.parse::<IpAddr>().is_ok() || self.hosts.contains_key(host))
    }
}

/// Whether this pod's own name is published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnName {
    /// Not asked yet.
    #[default]
    NotAsked,
    /// It resolves to an address of this pod. So does a host outside the service's domain that resolves at all.
    Ours,
    /// It resolves to somebody else: a record of an earlier pod.
    Elsewhere(Vec<IpAddr>),
    /// It does not resolve.
    No(DnsFailure),
}

/// The pods of the headless service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceRecords {
    /// Not asked yet.
    #[default]
    NotAsked,
    /// Nobody is asked: the peers are given.
    Static,
    /// These pods were named.
    Pods(BTreeSet<PodName>),
    /// Nothing was learnt.
    Failed(DnsFailure),
}

/// The last answer for one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// Its addresses, at least one.
    Addresses(Vec<IpAddr>),
    /// It has none, for this reason.
    Failed(DnsFailure),
}

/// Why a name did not resolve. Only the first two say that it has no record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum DnsFailure {
    /// The name does not exist.
    #[error("no DNS record (NXDOMAIN)")]
    NxDomain,
    /// The name exists, but has no address.
    #[error("no address record (NODATA)")]
    NoData,
    /// The server failed.
    #[error("the DNS server failed ({0})")]
    ServerFailed(String),
    /// No answer in time.
    #[error("the DNS server {0} did not answer in time")]
    TimedOut(String),
    /// Anything else.
    #[error("DNS: {0}")]
    Other(String),
}

impl DnsFailure {
    /// The server said that there is no record.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::NxDomain | Self::NoData)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intent::tests::member;

    #[test]
    fn what_is_known_of_a_host() {
        let addresses = Resolution::Addresses(vec!["10.0.0.1".parse().unwrap()]);
        let none = Resolution::Failed(DnsFailure::NxDomain);
        let hosts = BTreeMap::from([("a".to_owned(), addresses), ("b".to_owned(), none)]);
        let dns = Dns { hosts, ..Dns::default() };
        let points_at = |host, address: &str| dns.points_at(host, address.parse().unwrap());
        assert!(points_at("a", "10.0.0.1") && points_at("a", "::ffff:10.0.0.1"));
        assert!(!points_at("a", "10.0.0.2") && !points_at("b", "10.0.0.1") && !points_at("c", "10.0.0.1"));
        let looked_up = |url| dns.has_looked_up(&member(1, "m", &[url]));
        assert!(looked_up("http://a:2380") && looked_up("http://b:2380") && looked_up("http://10.0.0.9:2380"));
        assert!(!looked_up("http://c:2380"));
        assert!(dns.has_looked_up(&member(1, "m", &[])));
        assert!(dns.has_no_record(&member(1, "m", &["http://b:2380"])));
        assert!(!dns.has_no_record(&member(1, "m", &["http://a:2380"])));
        assert!(!dns.has_no_record(&member(1, "m", &["http://c:2380"])), "not asked is not absent");
    }
}

//! Questions to DNS: a host's addresses, and the pods that the headless service's SRV records name.
//!
//! Names are always absolute, and nothing is remembered of an answer but which of a short name's forms exists: there is
//! no cache, positive or negative, so an answer is as fresh as the server's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use hickory_resolver::proto::op::{Message, Query};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_resolver::system_conf::parse_resolv_conf;

use crate::dns_budget::Bucket;
use crate::dns_wire::{Budget, Payment, Servers};
use crate::intent::Intent;
use crate::local::LocalAddresses;
use crate::names::PodName;
use crate::observation::{DnsFailure, Resolution};

/// The most hosts whose form is remembered.
const REMEMBERED_MAX: usize = 128;
/// The longest chain of CNAME records that is followed, within one answer.
const CHAIN_MAX: usize = 8;

/// Why there is nobody to ask.
#[derive(Debug, thiserror::Error)]
#[error("resolv.conf cannot be used: {0}\nhint: set BOOTSTRAP_DNS_SERVER, or mend the pod's dnsConfig")]
pub struct ResolvConfError(String);

/// Which addresses are of use to this pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families {
    /// A records.
    pub ipv4: bool,
    /// AAAA records.
    pub ipv6: bool,
}

impl Families {
    /// Those that the pod has an address of; both where it has none yet.
    pub fn of(local: &LocalAddresses) -> Self {
        let (ipv4, ipv6) = (local.has_ipv4(), local.has_ipv6());
        Self { ipv4: ipv4 || !ipv6, ipv6: ipv6 || !ipv4 }
    }

    fn includes(self, address: IpAddr) -> bool {
        if address.is_ipv4() { self.ipv4 } else { self.ipv6 }
    }
}

/// The two names that etcd's peers are published under; which one says nothing of the scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SrvName {
    /// `_etcd-server._tcp`
    Plain,
    /// `_etcd-server-ssl._tcp`
    Ssl,
}

impl SrvName {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Ssl];

    fn label(self) -> &'static str {
        match self {
            Self::Plain => "_etcd-server._tcp",
            Self::Ssl => "_etcd-server-ssl._tcp",
        }
    }
}

/// What an SRV name gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePods {
    /// The pods within the service's domain.
    pub pods: BTreeSet<PodName>,
    /// The addresses that came along, of use to this pod, by the target's absolute name in lower case.
    pub addresses: BTreeMap<String, Vec<IpAddr>>,
}

/// `SERVICE.NAMESPACE.svc.DOMAIN.`, where there is a service.
pub fn service_domain(intent: &Intent) -> Option<String> {
    let service = intent.service.as_deref()?;
    Some(format!("{service}.{}.svc.{}.", intent.namespace, intent.domain.trim_end_matches('.')))
}

/// The pod that an absolute name is of, where it is a pod's name directly below the service's domain.
fn pod_below<'a>(name: &'a str, domain: &str) -> Option<&'a str> {
    let (pod, rest) = name.split_once('.')?;
    // A pod without a hostname goes by its address, `10-0-0-1`: that is no pod of a StatefulSet.
    let by_ipv4 = pod.replace('-', ".").parse::<std::net::Ipv4Addr>().is_ok();
    let by_ipv6 = pod.replace('-', ":").parse::<std::net::Ipv6Addr>().is_ok();
    (rest.eq_ignore_ascii_case(domain) && !pod.is_empty() && !by_ipv4 && !by_ipv6).then_some(pod)
}

/// Whether a host is one of the headless service's names, whose record has to be this very pod's.
pub fn is_in_service(intent: &Intent, host: &str) -> bool {
    let name = intent.absolute(host).unwrap_or_else(|| format!("{host}."));
    service_domain(intent).is_some_and(|domain| pod_below(&name, &domain).is_some())
}

/// Asks DNS, within a budget of packets.
#[derive(Debug)]
pub struct Resolver {
    servers: Servers,
    search: Vec<String>,
    ndots: usize,
    remembered: Mutex<BTreeMap<String, String>>,
}

impl Resolver {
    /// One that asks `server`, else those of `resolv_conf` (the file's text), whose search list counts either way.
    ///
    /// As in the C library, a text that names no server means the one on this machine.
    ///
    /// # Errors
    /// Where the search list has something that is no domain.
    pub fn new(server: Option<SocketAddr>, resolv_conf: &str) -> Result<Self, ResolvConfError> {
        Self::with_bucket(server, resolv_conf, Bucket::default())
    }

    /// The same with a bucket of another size.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_bucket(server: Option<SocketAddr>, resolv_conf: &str, bucket: Bucket) -> Result<Self, ResolvConfError> {
        // Hickory wants a server in any case; the C library's default comes last, and goes if there is another.
        let text = format!("{resolv_conf}\nnameserver 127.0.0.1\n");
        let (config, options) = parse_resolv_conf(text).map_err(|error| ResolvConfError(error.to_string()))?;
        let mut addresses: Vec<SocketAddr> =
            config.name_servers().iter().map(|server| SocketAddr::new(server.ip, 53)).collect();
        if addresses.len() > 1 {
            addresses.pop();
        }
        if let Some(server) = server {
            addresses = vec![server];
        }
        let search = config.search().iter().map(|domain| format!("{}.", domain.to_ascii().trim_end_matches('.')));
        Ok(Self {
            servers: Servers::new(addresses, bucket),
            search: search.collect(),
            ndots: options.ndots,
            remembered: Mutex::default(),
        })
    }

    /// One that asks several servers, each at its own port.
    #[cfg(test)]
    pub(crate) fn of_servers(servers: impl IntoIterator<Item = SocketAddr>, bucket: Bucket) -> Self {
        let servers = Servers::new(servers, bucket);
        Self { servers, search: Vec::new(), ndots: 5, remembered: Mutex::default() }
    }

    /// What may be sent, and what was.
    pub fn budget(&self) -> &Budget {
        self.servers.budget()
    }

    /// The addresses of a host that are of use to this pod. A host that is an address is its own, whatever its family.
    pub async fn addresses(&self, intent: &Intent, host: &str, families: Families, mut payment: Payment) -> Resolution {
        if let Ok(address) = host.parse() {
            return Resolution::Addresses(vec![address]);
        }
        let mut failure = DnsFailure::NxDomain;
        for name in self.names(intent, host) {
            match self.addresses_of_name(&name, families, &mut payment).await {
                Ok(addresses) => {
                    self.remember(host, name);
                    return Resolution::Addresses(addresses);
                }
                // One form that could not be asked for hides whether the host exists.
                Err(next) if failure.is_absent() && next != DnsFailure::NxDomain => failure = next,
                Err(_) => {}
            }
        }
        Resolution::Failed(failure)
    }

    /// The pods that one of the service's SRV names has records for. Only targets within the service's domain count.
    ///
    /// # Errors
    /// Where there is no such record, or nothing was learnt.
    pub async fn service(
        &self,
        intent: &Intent,
        srv: SrvName,
        families: Families,
        mut payment: Payment,
    ) -> Result<ServicePods, DnsFailure> {
        let domain = service_domain(intent).ok_or(DnsFailure::NxDomain)?;
        let query = query(&format!("{}.{domain}", srv.label()), RecordType::SRV)?;
        let message = self.servers.ask(&query, &mut payment).await?;
        let targets = message.answers.iter().filter_map(|record| match &record.data {
            RData::SRV(srv) if record.dns_class == DNSClass::IN => Some(srv.target.to_ascii()),
            _ => None,
        });
        let mut found = ServicePods::default();
        for target in targets {
            let Some(pod) = pod_below(&target, &domain) else { continue };
            found.pods.insert(PodName::new(pod));
            found.addresses.entry(target.to_ascii_lowercase()).or_default();
        }
        for record in &message.additionals {
            let Some(address) = address_of(record).filter(|address| families.includes(*address)) else { continue };
            if let Some(known) = found.addresses.get_mut(&record.name.to_ascii().to_ascii_lowercase()) {
                known.push(address);
            }
        }
        found.addresses.retain(|_, addresses| !addresses.is_empty());
        if found.pods.is_empty() { Err(DnsFailure::NoData) } else { Ok(found) }
    }

    /// The absolute names that a host may stand for, in the order in which they are asked for.
    fn names(&self, intent: &Intent, host: &str) -> Vec<String> {
        if let Some(absolute) = intent.absolute(host) {
            return vec![absolute];
        }
        let mut names = candidates(host, &self.search, self.ndots);
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = remembered.get(host).and_then(|form| names.iter().position(|name| name == form)) {
            names[..=index].rotate_right(1);
        }
        names
    }

    fn remember(&self, host: &str, name: String) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() < REMEMBERED_MAX || remembered.contains_key(host) {
            remembered.insert(host.to_owned(), name);
        }
    }

    /// The addresses of an absolute name. A name that does not exist is not asked for twice.
    async fn addresses_of_name(
        &self,
        name: &str,
        families: Families,
        payment: &mut Payment,
    ) -> Result<Vec<IpAddr>, DnsFailure> {
        let mut addresses = Vec::new();
        let mut failure = DnsFailure::NoData;
        for (wanted, kind) in [(families.ipv4, RecordType::A), (families.ipv6, RecordType::AAAA)] {
            if !wanted {
                continue;
            }
            let query = query(name, kind)?;
            match self.servers.ask(&query, payment).await {
                Ok(message) => addresses.extend(addresses_in(&message, query.name())),
                Err(DnsFailure::NxDomain) if addresses.is_empty() => return Err(DnsFailure::NxDomain),
                Err(next) => failure = next,
            }
        }
        if addresses.is_empty() { Err(failure) } else { Ok(addresses) }
    }
}

fn query(name: &str, kind: RecordType) -> Result<Query, DnsFailure> {
    let mut absolute =
        Name::from_ascii(name).map_err(|error| DnsFailure::Other(format!("`{name}` is no DNS name: {error}")))?;
    absolute.set_fqdn(true);
    Ok(Query::query(absolute, kind))
}

/// The forms that the C library would try for a name: with enough dots as it is first, else with the search list first.
fn candidates(host: &str, search: &[String], ndots: usize) -> Vec<String> {
    if host.ends_with('.') {
        return vec![host.to_owned()];
    }
    let dots = host.matches('.').count();
    let mut names: Vec<String> =
        search.iter().map(|domain| format!("{host}.{}", if domain == "." { "" } else { domain })).collect();
    let place = if dots >= ndots { 0 } else { names.len() };
    names.insert(place, format!("{host}."));
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// The addresses that an answer has for a name, through the aliases in it.
fn addresses_in(message: &Message, name: &Name) -> Vec<IpAddr> {
    let mut owner = name;
    for _ in 0..CHAIN_MAX {
        let alias = message.answers.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == *owner => Some(&target.0),
            _ => None,
        });
        match alias {
            Some(target) => owner = target,
            None => break,
        }
    }
    message.answers.iter().filter(|record| record.name == *owner).filter_map(address_of).collect()
}

fn address_of(record: &Record) -> Option<IpAddr> {
    match &record.data {
        _ if record.dns_class != DNSClass::IN => None,
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use hickory_resolver::proto::op::ResponseCode;

    use super::*;
    use crate::dns_budget::Urgency;
    use crate::dns_testing::{DOMAIN, FakeDns, Mood, intent};
    use crate::intent::Discovery;

    const IPV4: Families = Families { ipv4: true, ipv6: false };
    const DUAL: Families = Families { ipv4: true, ipv6: true };
    const HOST: &str = "etcd-0.etcd.ns.svc";

    fn name(pod: &str) -> String {
        format!("{pod}.{DOMAIN}")
    }

    /// One that asks these servers and has more tokens than any test needs.
    fn resolver(servers: &[&FakeDns]) -> Resolver {
        Resolver::of_servers(servers.iter().map(|server| server.address), Bucket::new(1000.0, 1000.0))
    }

    async fn resolve(resolver: &Resolver, host: &str, families: Families) -> Result<Vec<IpAddr>, DnsFailure> {
        let intent = intent(0, 3, Discovery::Srv);
        match resolver.addresses(&intent, host, families, Payment::each(Urgency::Fresh)).await {
            Resolution::Addresses(addresses) => Ok(addresses),
            Resolution::Failed(failure) => Err(failure),
        }
    }

    async fn service(resolver: &Resolver, families: Families) -> Result<ServicePods, DnsFailure> {
        let intent = intent(0, 3, Discovery::Srv);
        resolver.service(&intent, SrvName::Plain, families, Payment::each(Urgency::Fresh)).await
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn failures_are_told_apart() {
        let server = FakeDns::start(Mood::Good).await;
        let resolver = resolver(&[&server]);
        assert_eq!(resolve(&resolver, HOST, IPV4).await, Err(DnsFailure::NxDomain));
        server.publish(&name("etcd-0"), &["fd00::1"]);
        assert_eq!(resolve(&resolver, HOST, IPV4).await, Err(DnsFailure::NoData));
        server.set_mood(Mood::Code(ResponseCode::ServFail));
        let failed = |code| DnsFailure::ServerFailed(format!("{code} from {}", server.address));
        assert_eq!(resolve(&resolver, HOST, IPV4).await, Err(failed("SERVFAIL")));
        server.set_mood(Mood::Code(ResponseCode::Refused));
        assert_eq!(resolve(&resolver, HOST, IPV4).await, Err(failed("REFUSED")));
        server.set_mood(Mood::Garbage);
        let garbage = resolve(&resolver, HOST, IPV4).await.unwrap_err();
        assert!(garbage.to_string().contains("malformed answer from 127.0.0.1"), "{garbage}");
        server.set_mood(Mood::Silent);
        assert_eq!(resolve(&resolver, HOST, IPV4).await, Err(DnsFailure::TimedOut(server.address.to_string())));
    }

    #[tokio::test]
    async fn nothing_is_cached_and_the_name_is_absolute() {
        let server = FakeDns::start(Mood::Good).await;
        let resolver = resolver(&[&server]);
        assert_eq!(resolve(&resolver, HOST, IPV4).await, Err(DnsFailure::NxDomain));
        server.publish(&name("etcd-0"), &["10.0.0.1"]);
        assert_eq!(resolve(&resolver, HOST, IPV4).await, Ok(addresses(&["10.0.0.1"])));
        server.withdraw(&name("etcd-0"));
        assert_eq!(resolve(&resolver, HOST, IPV4).await, Err(DnsFailure::NxDomain));
        assert_eq!(server.asked(), vec![format!("udp A {}", name("etcd-0")); 3]);
        assert_eq!(resolver.budget().sent(), 3);
    }

    #[tokio::test]
    async fn a_dual_stack_pod_asks_for_both_families_but_not_twice_for_what_does_not_exist() {
        let server = FakeDns::start(Mood::Good).await;
        let resolver = resolver(&[&server]);
        assert_eq!(resolve(&resolver, HOST, DUAL).await, Err(DnsFailure::NxDomain));
        assert_eq!(server.asked().len(), 1);
        server.publish(&name("etcd-0"), &["10.0.0.1", "fd00::1"]);
        assert_eq!(resolve(&resolver, HOST, DUAL).await, Ok(addresses(&["10.0.0.1", "fd00::1"])));
        let ipv6 = Families { ipv4: false, ipv6: true };
        assert_eq!(resolve(&resolver, HOST, ipv6).await, Ok(addresses(&["fd00::1"])));
        let none_yet = Families::of(&LocalAddresses::default());
        assert_eq!(none_yet, DUAL);
    }

    #[tokio::test]
    async fn a_truncated_answer_of_sixty_records_comes_over_tcp() {
        let server = FakeDns::start(Mood::Good).await;
        let targets: Vec<String> = (0..60).map(|ordinal| name(&format!("etcd-{ordinal}"))).collect();
        let targets: Vec<&str> = targets.iter().map(String::as_str).collect();
        server.publish_srv(&format!("_etcd-server._tcp.{DOMAIN}"), &targets);
        targets.iter().for_each(|target| server.publish(target, &["10.0.0.1", "fd00::1"]));
        let resolver = resolver(&[&server]);
        let found = service(&resolver, DUAL).await.unwrap();
        assert_eq!((found.pods.len(), found.addresses.len()), (60, 60));
        let question = format!("SRV _etcd-server._tcp.{DOMAIN}");
        assert_eq!(server.asked(), vec![format!("udp {question}"), format!("tcp {question}")]);
        assert_eq!(resolver.budget().sent(), 2);
    }

    #[tokio::test]
    async fn only_pods_of_the_service_count_and_their_addresses_come_along() {
        let server = FakeDns::start(Mood::Good).await;
        let resolver = resolver(&[&server]);
        assert_eq!(service(&resolver, IPV4).await, Err(DnsFailure::NxDomain));
        let srv = format!("_etcd-server._tcp.{DOMAIN}");
        let (own, other_set, by_address) = (name("etcd-0"), name("etcd-b-0"), name("10-0-0-9"));
        server.publish_srv(&srv, &["etcd-0.other.ns.svc.cluster.local.", "example.org.", &by_address]);
        assert_eq!(service(&resolver, IPV4).await, Err(DnsFailure::NoData));
        server.publish_srv(&srv, &[&own, &other_set]);
        server.publish(&own, &["10.0.0.1", "fd00::1"]);
        let found = service(&resolver, IPV4).await.unwrap();
        assert_eq!(found.pods, BTreeSet::from([PodName::new("etcd-0"), PodName::new("etcd-b-0")]));
        assert_eq!(found.addresses, BTreeMap::from([(own, addresses(&["10.0.0.1"]))]));
    }

    #[tokio::test]
    async fn aliases_are_followed_within_the_answer() {
        let server = FakeDns::start(Mood::Good).await;
        server.publish_alias("lb.example.org.", "a.example.org.");
        server.publish_alias("a.example.org.", "b.example.org.");
        server.publish("b.example.org.", &["192.0.2.1"]);
        let resolver = resolver(&[&server]);
        assert_eq!(resolve(&resolver, "lb.example.org.", IPV4).await, Ok(addresses(&["192.0.2.1"])));
        server.publish_alias("broken.example.org.", "gone.example.org.");
        assert_eq!(resolve(&resolver, "broken.example.org.", IPV4).await, Err(DnsFailure::NxDomain));
    }

    #[tokio::test]
    async fn the_next_server_is_asked_and_then_stays_the_first() {
        let nobody = FakeDns::start(Mood::Good).await;
        let dead = nobody.address;
        drop(nobody);
        // The runtime closes the sockets of an ended task when it next gets the chance.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let failing = FakeDns::start(Mood::Code(ResponseCode::ServFail)).await;
        let good = FakeDns::start(Mood::Good).await;
        good.publish(&name("etcd-0"), &["10.0.0.1"]);
        let servers = [dead, failing.address, good.address];
        let resolver = Resolver::of_servers(servers, Bucket::new(1000.0, 1000.0));
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(resolve(&resolver, HOST, IPV4).await, Ok(addresses(&["10.0.0.1"])));
        }
        assert!(start.elapsed() < Duration::from_millis(500), "nobody listens there, which is known at once");
        assert_eq!(resolver.budget().sent(), 5);
        good.set_mood(Mood::Silent);
        let failed = resolve(&resolver, HOST, IPV4).await.unwrap_err();
        assert!(matches!(&failed, DnsFailure::ServerFailed(text) if text.starts_with("SERVFAIL")), "{failed}");
    }

    #[tokio::test]
    async fn a_silent_first_server_costs_a_second_once() {
        let silent = FakeDns::start(Mood::Silent).await;
        let good = FakeDns::start(Mood::Good).await;
        good.publish(&name("etcd-0"), &["10.0.0.1"]);
        let resolver = resolver(&[&silent, &good]);
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(resolve(&resolver, HOST, IPV4).await, Ok(addresses(&["10.0.0.1"])));
        }
        let took = start.elapsed();
        assert!(took > Duration::from_millis(900) && took < Duration::from_millis(1500), "{took:?}");
    }

    #[tokio::test]
    async fn an_answer_under_the_wrong_id_is_not_taken() {
        let server = FakeDns::start(Mood::WrongIdThenGood).await;
        server.publish(&name("etcd-0"), &["10.0.0.1"]);
        let resolver = resolver(&[&server]);
        assert_eq!(resolve(&resolver, HOST, IPV4).await, Ok(addresses(&["10.0.0.1"])));
        server.set_mood(Mood::WrongId);
        assert!(matches!(resolve(&resolver, HOST, IPV4).await, Err(DnsFailure::TimedOut(_))));
    }

    #[tokio::test]
    async fn a_server_that_knows_no_edns_is_asked_without() {
        for header_only in [false, true] {
            let server = FakeDns::start(Mood::NoEdns { header_only }).await;
            server.publish(&name("etcd-0"), &["10.0.0.1"]);
            let resolver = resolver(&[&server]);
            assert_eq!(resolve(&resolver, HOST, IPV4).await, Ok(addresses(&["10.0.0.1"])));
            assert_eq!(server.asked().len(), 2);
            assert_eq!(resolve(&resolver, HOST, IPV4).await, Ok(addresses(&["10.0.0.1"])));
            assert_eq!(server.asked().len(), 3, "it is remembered");
        }
    }

    #[tokio::test]
    async fn a_short_name_is_looked_for_along_the_search_list_and_its_form_remembered() {
        let server = FakeDns::start(Mood::Good).await;
        server.publish("db.svc.cluster.local.", &["10.0.0.7"]);
        let text = "search ns.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n";
        let resolver = Resolver::with_bucket(Some(server.address), text, Bucket::new(1000.0, 1000.0)).unwrap();
        assert_eq!(resolve(&resolver, "db", IPV4).await, Ok(addresses(&["10.0.0.7"])));
        let asked = ["udp A db.ns.svc.cluster.local.", "udp A db.svc.cluster.local."];
        assert_eq!(server.asked(), asked);
        server.forget_asked();
        assert_eq!(resolve(&resolver, "db", IPV4).await, Ok(addresses(&["10.0.0.7"])));
        assert_eq!(server.asked(), asked[1..]);
        assert_eq!(resolve(&resolver, "10.1.2.3", IPV4).await, Ok(addresses(&["10.1.2.3"])));
        assert_eq!(server.asked(), asked[1..], "an address is nobody's question");
        assert_eq!(resolve(&resolver, "nowhere", IPV4).await, Err(DnsFailure::NxDomain));
    }

    #[test]
    fn candidates_come_in_the_order_of_the_c_library() {
        let search = ["a.".to_owned(), "b.".to_owned()];
        assert_eq!(candidates("x", &search, 2), ["x.a.", "x.b.", "x."]);
        assert_eq!(candidates("x.y.z", &search, 2), ["x.y.z.", "x.y.z.a.", "x.y.z.b."]);
        assert_eq!(candidates("x.y.", &search, 5), ["x.y."]);
        assert_eq!(candidates("x", &[".".to_owned()], 1), ["x."]);
    }

    #[test]
    fn resolv_conf_is_read() {
        let two = "nameserver 10.0.0.10\nnameserver fd00::a\nsearch ns.svc.cluster.local\noptions ndots:5 timeout:9\n";
        let resolver = Resolver::new(None, two).unwrap();
        assert_eq!(resolver.search, ["ns.svc.cluster.local."]);
        assert_eq!(resolver.ndots, 5);
        let text = format!("{:?}", resolver.servers);
        assert!(text.contains("10.0.0.10:53") && text.contains("[fd00::a]:53") && !text.contains("127.0.0.1"));
        let none = Resolver::new(None, "# nothing\n").unwrap();
        assert!(format!("{:?}", none.servers).contains("127.0.0.1:53"));
        let given = Resolver::new(Some("192.0.2.1:5353".parse().unwrap()), two).unwrap();
        let text = format!("{:?}", given.servers);
        assert!(text.contains("192.0.2.1:5353") && !text.contains("10.0.0.10"));
    }

    #[test]
    fn a_host_is_in_the_service_however_short_it_is_written() {
        let intent = intent(0, 3, Discovery::Srv);
        let inside = ["etcd-0.etcd", "etcd-0.etcd.ns", HOST, "etcd-0.etcd.ns.svc.cluster.local."];
        assert!(inside.iter().all(|host| is_in_service(&intent, host)));
        let outside = ["etcd-0", "etcd-0.example.org", "etcd.example.org.", "10.0.0.1", "etcd-0.etcd.other.svc"];
        assert!(!outside.iter().any(|host| is_in_service(&intent, host)));
    }
}

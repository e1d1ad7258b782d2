//! Keeps DNS known: this pod's own name, the initial members' hosts, the service's pods, and whatever else is wanted.
//!
//! One task asks, as the schedule says; [`crate::dns_view`] turns the answers into what a decision sees.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::dns::{Families, Resolver, ServicePods, SrvName};
use crate::dns_budget::Urgency;
use crate::dns_schedule::{Next, Question, Schedule};
use crate::dns_view::{Knowledge, own_name};
use crate::dns_wire::Payment;
use crate::intent::Intent;
use crate::local::LocalAddresses;
use crate::observation::{Dns, DnsFailure, OwnName, Resolution};

/// The most kicks that are kept until the task sees them; a kick for each pod that may dial.
const KICKS_MAX: usize = 64;
/// The most hosts that are asked for only because their pods have dialled this one.
const VISITORS_MAX: usize = 16;
/// How long a host that nobody wants is kept known after it was kicked: its pod has dialled this one.
const VISIT: Duration = Duration::from_secs(60);

/// Keeps DNS known, until it is dropped.
#[derive(Debug)]
pub struct DnsWatch {
    shared: Arc<Shared>,
    seen: watch::Receiver<Arc<Dns>>,
    task: JoinHandle<()>,
}

struct Shared {
    intent: Arc<Intent>,
    resolver: Arc<Resolver>,
    local: Box<dyn Fn() -> LocalAddresses + Send + Sync>,
    inbox: Mutex<Inbox>,
    notify: Notify,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("resolver", &self.resolver).finish_non_exhaustive()
    }
}

/// What the task has not seen yet.
#[derive(Debug, Default)]
struct Inbox {
    wanted: Option<BTreeSet<String>>,
    kicked: BTreeSet<String>,
    kicks_all: bool,
    answers: Vec<(String, Resolution)>,
}

enum Answer {
    Host(String, Resolution),
    Service(SrvName, Result<ServicePods, DnsFailure>),
}

impl DnsWatch {
    /// Starts asking, in a task of the runtime that this is called in.
    ///
    /// `local` gives this pod's addresses, anew each time, as [`LocalAddresses::now`] does.
    pub fn start(
        intent: Arc<Intent>,
        resolver: Arc<Resolver>,
        local: impl Fn() -> LocalAddresses + Send + Sync + 'static,
    ) -> Self {
        let (inbox, notify) = (Mutex::default(), Notify::new());
        let shared = Arc::new(Shared { intent, resolver, local: Box::new(local), inbox, notify });
        let (publish, seen) = watch::channel(Arc::new(Dns::default()));
        let task = tokio::spawn(run(shared.clone(), publish));
        Self { shared, seen, task }
    }

    /// The hosts that are to be kept known besides the own one, the initial members' and those that SRV records name.
    pub fn want(&self, hosts: BTreeSet<String>) {
        self.shared.inbox().wanted = Some(hosts);
        self.shared.notify.notify_one();
    }

    /// Something has happened that DNS may explain: the pod with this host has dialled this one, or could not be
    /// dialled. It is asked for as soon as the budget allows, and so is the own name while it is not published.
    /// Without a host, whatever is missing is asked for.
    pub fn ask_at_once(&self, host: Option<&str>) {
        let mut inbox = self.shared.inbox();
        match host {
            Some(host) if inbox.kicked.len() < KICKS_MAX => drop(inbox.kicked.insert(host.to_owned())),
            Some(_) => {}
            None => inbox.kicks_all = true,
        }
        drop(inbox);
        self.shared.notify.notify_one();
    }

    /// What DNS says, as far as it is known now.
    pub fn view(&self) -> Dns {
        (**self.seen.borrow()).clone()
    }

    /// The same, to be told of changes.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Dns>> {
        self.seen.clone()
    }

    /// Asks now, ahead of everything else, and gives what came of it, a failure too.
    pub async fn resolve_fresh(&self, host: &str) -> Resolution {
        let Shared { intent, resolver, local, .. } = &*self.shared;
        let payment = Payment::each(Urgency::Fresh);
        let resolution = resolver.addresses(intent, host, Families::of(&local()), payment).await;
        self.shared.inbox().answers.push((host.to_owned(), resolution.clone()));
        self.shared.notify.notify_one();
        resolution
    }

    /// Whether the own name is this pod's, asked now: for just before a membership call or the exec of a new member.
    pub async fn own_name_fresh(&self) -> OwnName {
        let host = &self.shared.intent.peer_urls[0].host;
        let resolution = self.resolve_fresh(host).await;
        own_name(&self.shared.intent, &resolution, &(self.shared.local)())
    }

    /// How many packets were sent to DNS servers.
    pub fn queries_sent(&self) -> u64 {
        self.shared.resolver.budget().sent()
    }
}

impl Drop for DnsWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a question whose first packet has been paid for.
    async fn ask(&self, question: Question, urgency: Urgency) -> (Question, Answer) {
        let families = Families::of(&(self.local)());
        let payment = Payment::prepaid(urgency);
        let answer = match &question {
            Question::Host(host) => {
                Answer::Host(host.clone(), self.resolver.addresses(&self.intent, host, families, payment).await)
            }
            Question::Service(srv) => {
                Answer::Service(*srv, self.resolver.service(&self.intent, *srv, families, payment).await)
            }
        };
        (question, answer)
    }
}

/// The task: asks what is due, and publishes what changes.
async fn run(shared: Arc<Shared>, publish: watch::Sender<Arc<Dns>>) {
    let budget = shared.resolver.budget();
    let mut asker = Asker::new(shared.clone());
    let mut asked: FuturesUnordered<BoxFuture<'_, (Question, Answer)>> = FuturesUnordered::new();
    loop {
        asker.read_inbox(budget.now());
        asker.settle(budget.now());
        let wake = loop {
            let next = asker.schedule.next(budget.now(), &mut budget.bucket(), rand::random());
            match next {
                Next::Ask(question, urgency) => asked.push(Box::pin(shared.ask(question, urgency))),
                Next::Wait(wake) => break wake,
            }
        };
        let view = Arc::new(asker.knowledge.view());
        publish.send_if_modified(|published| {
            let changed = *published != view;
            if changed {
                *published = view;
            }
            changed
        });
        let sleep = async {
            match wake {
                Some(at) => tokio::time::sleep_until(budget.instant(at)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some((question, answer)) = asked.next(), if !asked.is_empty() => {
                asker.hear(&question, answer, budget.now());
            }
            () = shared.notify.notified() => {}
            () = sleep => {}
        }
    }
}

/// What the task knows and what it asks next.
struct Asker {
    shared: Arc<Shared>,
    knowledge: Knowledge,
    schedule: Schedule,
    wanted: BTreeSet<String>,
    visitors: BTreeMap<String, Duration>,
}

impl Asker {
    fn new(shared: Arc<Shared>) -> Self {
        let knowledge = Knowledge::new(shared.intent.clone());
        let schedule = Schedule::new(knowledge.asks_service());
        Self { shared, knowledge, schedule, wanted: BTreeSet::new(), visitors: BTreeMap::new() }
    }

    /// Takes what callers want and what they have learnt.
    fn read_inbox(&mut self, now: Duration) {
        let Inbox { wanted, kicked, kicks_all, answers } = std::mem::take(&mut *self.shared.inbox());
        self.wanted = wanted.unwrap_or_else(|| std::mem::take(&mut self.wanted));
        self.visitors.retain(|_, until| *until > now);
        for host in &kicked {
            if self.visitors.len() < VISITORS_MAX || self.visitors.contains_key(host) {
                self.visitors.insert(host.clone(), now + VISIT);
            }
        }
        self.settle(now);
        for (host, resolution) in answers {
            self.learn(&host, resolution, now);
        }
        for host in kicked {
            if !self.knowledge.names_pod_of(&host) {
                self.schedule.kick_service();
            }
            self.schedule.kick(&Question::Host(host));
            if !self.schedule.own_is_known() {
                self.schedule.kick(&Question::Host(self.knowledge.own_host().to_owned()));
            }
        }
        if kicks_all {
            self.schedule.kick_missing();
        }
    }

    /// Says which hosts are asked for from now on.
    fn settle(&mut self, now: Duration) {
        self.visitors.retain(|_, until| *until > now);
        let extra = self.wanted.iter().chain(self.visitors.keys());
        let hosts = self.knowledge.keep_hosts(extra);
        self.schedule.set_hosts(&hosts);
        for host in hosts.into_keys() {
            // Nobody needs to be asked for an address.
            if let Some(address) = host.parse().ok().filter(|_| !self.knowledge.is_resolved(&host)) {
                self.learn(&host, Resolution::Addresses(vec![address]), now);
            }
        }
    }

    /// Takes an answer to a question of the schedule.
    fn hear(&mut self, question: &Question, answer: Answer, now: Duration) {
        let local = (self.shared.local)();
        match answer {
            Answer::Host(host, resolution) => {
                let outcome = self.knowledge.hear_host(&host, resolution, &local, now);
                self.schedule.answered(question, outcome, false);
            }
            Answer::Service(srv, answer) => {
                let pods = answer.as_ref().ok().cloned().unwrap_or_default();
                let outcome = self.knowledge.hear_service(srv, answer, now);
                self.schedule.answered(question, outcome, !pods.addresses.is_empty());
                self.settle(now);
                self.use_service(&pods, now);
            }
        }
    }

    /// Takes the addresses that an SRV answer brought along, and asks for those that it named without one.
    fn use_service(&mut self, pods: &ServicePods, now: Duration) {
        for (host, addresses) in self.knowledge.hosts_named(pods) {
            match addresses {
                Some(addresses) => self.learn(&host, Resolution::Addresses(addresses), now),
                None if !self.knowledge.is_resolved(&host) => self.schedule.kick(&Question::Host(host)),
                None => {}
            }
        }
    }

    /// Takes a host's answer that came by another way.
    fn learn(&mut self, host: &str, resolution: Resolution, now: Duration) {
        let local = (self.shared.local)();
        let outcome = self.knowledge.hear_host(host, resolution, &local, now);
        self.schedule.learnt(host, outcome, now);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use hickory_resolver::proto::op::ResponseCode;

    use super::*;
    use crate::dns_testing::{DOMAIN, FakeDns, Mood, intent, local};
    use crate::intent::Discovery;
    use crate::names::PodName;
    use crate::observation::ServiceRecords;

    fn name(ordinal: u32) -> String {
        format!("etcd-{ordinal}.{DOMAIN}")
    }

    fn host(ordinal: u32) -> String {
        format!("etcd-{ordinal}.etcd.ns.svc")
    }

    fn pods(ordinals: impl IntoIterator<Item = u32>) -> ServiceRecords {
        ServiceRecords::Pods(ordinals.into_iter().map(|ordinal| PodName::new(format!("etcd-{ordinal}"))).collect())
    }

    fn resolved(address: &str) -> Resolution {
        Resolution::Addresses(vec![address.parse().unwrap()])
    }

    fn publish(server: &FakeDns, ordinals: impl IntoIterator<Item = u32>) {
        for ordinal in ordinals {
            server.publish(&name(ordinal), &[&format!("10.0.0.{ordinal}")]);
            server.publish_srv(&format!("_etcd-server._tcp.{DOMAIN}"), &[&name(ordinal)]);
        }
    }

    /// Pod `ordinal` of three; its address is 10.0.0.`ordinal`.
    fn start(server: &FakeDns, ordinal: u32, discovery: Discovery) -> DnsWatch {
        start_with(intent(ordinal, 3, discovery), server)
    }

    fn start_with(intent: Intent, server: &FakeDns) -> DnsWatch {
        let address = format!("10.0.0.{}", intent.pod.ordinal().unwrap());
        let resolver = Resolver::new(Some(server.address), "options ndots:5\n").unwrap();
        DnsWatch::start(Arc::new(intent), Arc::new(resolver), move || local(&[&address]))
    }

    /// Waits until the view is as wanted, and says how long that took.
    async fn until(watch: &mut DnsWatch, wanted: impl Fn(&Dns) -> bool) -> Duration {
        let start = Instant::now();
        let waited = tokio::time::timeout(Duration::from_secs(10), async {
            while !wanted(&watch.view()) {
                watch.seen.changed().await.unwrap();
            }
        });
        if waited.await.is_err() {
            panic!("it stays {:#?}", watch.view());
        }
        start.elapsed()
    }

    #[tokio::test]
    async fn a_published_cluster_is_known_within_one_round() {
        let server = FakeDns::start(Mood::Good).await;
        publish(&server, 0..4);
        let mut watch = start(&server, 0, Discovery::Srv);
        let took = until(&mut watch, |dns| dns.service == pods(0..4) && dns.own == OwnName::Ours).await;
        assert!(took < Duration::from_millis(300), "{took:?}");
        let view = watch.view();
        // The fourth pod is no founder: its address came with the SRV record.
        assert!((0..4).all(|ordinal| view.hosts[&host(ordinal)] == resolved(&format!("10.0.0.{ordinal}"))));
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(watch.queries_sent(), 5, "{:?}", server.asked());
        assert_eq!(server.asked().len(), 5);
    }

    #[tokio::test]
    async fn late_records_are_seen_soon_and_the_own_one_brings_the_others() {
        let server = FakeDns::start(Mood::Good).await;
        let mut watch = start(&server, 2, Discovery::Srv);
        until(&mut watch, |dns| dns.own == OwnName::No(DnsFailure::NxDomain)).await;
        until(&mut watch, |dns| dns.service == ServiceRecords::Failed(DnsFailure::NxDomain)).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
        publish(&server, 0..3);
        let took = until(&mut watch, |dns| dns.own == OwnName::Ours).await;
        assert!(took < Duration::from_millis(500), "{took:?}");
        let took = until(&mut watch, |dns| dns.hosts.values().all(|host| *host != no_record())).await;
        assert!(took < Duration::from_millis(400), "{took:?}");
        until(&mut watch, |dns| dns.service == pods(0..3)).await;
    }

    fn no_record() -> Resolution {
        Resolution::Failed(DnsFailure::NxDomain)
    }

    #[tokio::test]
    async fn a_kick_finds_a_late_record_at_once_however_late() {
        let server = FakeDns::start(Mood::Good).await;
        publish(&server, 0..2);
        let mut watch = start(&server, 0, Discovery::Srv);
        until(&mut watch, |dns| dns.hosts.get(&host(2)) == Some(&no_record()) && dns.own == OwnName::Ours).await;
        // The burst has been used up by then.
        tokio::time::sleep(Duration::from_secs(5)).await;
        publish(&server, 2..4);
        watch.ask_at_once(Some(&host(2)));
        let took = until(&mut watch, |dns| dns.hosts[&host(2)] == resolved("10.0.0.2")).await;
        assert!(took < Duration::from_millis(300), "{took:?}");
        // A pod that nobody knew of dials.
        watch.ask_at_once(Some(&host(3)));
        let took = until(&mut watch, |dns| dns.hosts.get(&host(3)) == Some(&resolved("10.0.0.3"))).await;
        assert!(took < Duration::from_millis(300), "{took:?}");
    }

    #[tokio::test]
    async fn a_storm_of_kicks_stays_within_the_budget() {
        let server = FakeDns::start(Mood::Good).await;
        publish(&server, 0..2);
        let watch = start(&server, 0, Discovery::Srv);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(4) {
            watch.ask_at_once(Some(&host(1)));
            watch.ask_at_once(Some(&host(9)));
            watch.ask_at_once(None);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let most = 20.0 + 1.6 * begin.elapsed().as_secs_f64();
        assert!(watch.queries_sent() as f64 <= most, "{} {most}", watch.queries_sent());
        // The last ones may be on their way.
        let arrived = async {
            while server.asked().len() as u64 != watch.queries_sent() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), arrived).await.expect("all that was sent arrives");
        let fresh = Instant::now();
        assert_eq!(watch.resolve_fresh(&host(1)).await, resolved("10.0.0.1"));
        assert!(fresh.elapsed() < Duration::from_millis(300), "what is asked for a call keeps its reserve");
    }

    #[tokio::test]
    async fn both_srv_names_count_and_one_that_fails_leaves_the_pods_unknown() {
        let server = FakeDns::start(Mood::Good).await;
        publish(&server, 0..2);
        server.publish(&name(2), &["10.0.0.2"]);
        server.publish_srv(&format!("_etcd-server-ssl._tcp.{DOMAIN}"), &[&name(1), &name(2)]);
        let mut watch = start(&server, 0, Discovery::Srv);
        until(&mut watch, |dns| dns.service == pods(0..3)).await;
        server.set_mood(Mood::SslCode(ResponseCode::ServFail));
        let mut late = start(&server, 0, Discovery::Srv);
        let failed = |dns: &Dns| matches!(&dns.service, ServiceRecords::Failed(DnsFailure::ServerFailed(_)));
        until(&mut late, failed).await;
        assert_eq!(late.view().hosts[&host(1)], resolved("10.0.0.1"));
    }

    #[tokio::test]
    async fn without_addresses_in_the_srv_answer_each_host_is_asked_for() {
        let server = FakeDns::start(Mood::NoGlue).await;
        publish(&server, 0..5);
        let mut watch = start(&server, 0, Discovery::Srv);
        until(&mut watch, |dns| dns.hosts.get(&host(4)) == Some(&resolved("10.0.0.4"))).await;
        until(&mut watch, |dns| dns.service == pods(0..5)).await;
    }

    #[tokio::test]
    async fn ordinals_are_looked_for_where_there_are_no_srv_records() {
        let server = FakeDns::start(Mood::Good).await;
        for ordinal in [0, 2, 3, 4, 6] {
            server.publish(&name(ordinal), &[&format!("10.0.0.{ordinal}")]);
        }
        for discovery in [Discovery::A, Discovery::Srv] {
            let mut watch = start(&server, 0, discovery);
            until(&mut watch, |dns| dns.service == pods([0, 2, 3, 4])).await;
            // This pod lies beyond a gap, and knows itself all the same.
            let mut beyond = start(&server, 6, discovery);
            until(&mut beyond, |dns| dns.service == pods([0, 2, 3, 4, 6])).await;
        }
        let has_asked_srv = |server: &FakeDns| server.asked().iter().any(|asked| asked.contains("SRV"));
        assert!(has_asked_srv(&server));
        server.forget_asked();
        let mut watch = start(&server, 0, Discovery::Static);
        until(&mut watch, |dns| dns.service == ServiceRecords::Static && dns.own == OwnName::Ours).await;
        assert!(!has_asked_srv(&server));
    }

    #[tokio::test]
    async fn the_own_name_has_to_be_this_pods() {
        let server = FakeDns::start(Mood::Good).await;
        server.publish(&name(0), &["10.0.0.77"]);
        let mut watch = start(&server, 0, Discovery::Srv);
        let elsewhere = OwnName::Elsewhere(vec!["10.0.0.77".parse().unwrap()]);
        until(&mut watch, |dns| dns.own == elsewhere).await;
        assert_eq!(watch.own_name_fresh().await, elsewhere);
        server.withdraw(&name(0));
        publish(&server, [0]);
        assert_eq!(watch.own_name_fresh().await, OwnName::Ours);
        until(&mut watch, |dns| dns.own == OwnName::Ours).await;
    }

    #[tokio::test]
    async fn an_advertised_host_outside_of_the_service_only_has_to_resolve() {
        let server = FakeDns::start(Mood::Good).await;
        server.publish("etcd-0.example.org.", &["192.0.2.1"]);
        for advertised in ["http://etcd-0.example.org:2380", "http://192.0.2.1:2380"] {
            let mut intent = intent(0, 3, Discovery::Srv);
            intent.peer_urls = vec![advertised.parse().unwrap()];
            let mut watch = start_with(intent, &server);
            until(&mut watch, |dns| dns.own == OwnName::Ours).await;
            assert_eq!(watch.own_name_fresh().await, OwnName::Ours);
        }
        assert!(!server.asked().iter().any(|asked| asked.contains("192.0.2.1")));
    }

    #[tokio::test]
    async fn a_server_that_fails_takes_no_address_away_but_says_so_when_asked() {
        let server = FakeDns::start(Mood::Good).await;
        publish(&server, 0..3);
        let mut watch = start(&server, 0, Discovery::Srv);
        until(&mut watch, |dns| dns.own == OwnName::Ours && dns.service == pods(0..3)).await;
        let known = watch.view();
        server.set_mood(Mood::Code(ResponseCode::ServFail));
        let failed = watch.resolve_fresh(&host(1)).await;
        assert!(matches!(failed, Resolution::Failed(DnsFailure::ServerFailed(_))), "{failed:?}");
        assert!(matches!(watch.own_name_fresh().await, OwnName::No(DnsFailure::ServerFailed(_))));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(watch.view(), known);
        // A record that is gone is another matter.
        server.set_mood(Mood::Good);
        server.withdraw(&name(1));
        assert_eq!(watch.resolve_fresh(&host(1)).await, no_record());
        until(&mut watch, |dns| dns.hosts[&host(1)] == no_record()).await;
    }

    #[tokio::test]
    async fn wanted_hosts_are_kept_known_and_forgotten() {
        let server = FakeDns::start(Mood::Good).await;
        server.publish("other.example.org.", &["192.0.2.7"]);
        let mut watch = start(&server, 0, Discovery::Srv);
        watch.want(BTreeSet::from(["other.example.org".to_owned()]));
        until(&mut watch, |dns| dns.hosts.get("other.example.org") == Some(&resolved("192.0.2.7"))).await;
        watch.want(BTreeSet::new());
        until(&mut watch, |dns| !dns.hosts.contains_key("other.example.org")).await;
    }

    #[tokio::test]
    async fn silence_is_a_time_out() {
        let server = FakeDns::start(Mood::Silent).await;
        let mut watch = start(&server, 0, Discovery::Srv);
        let silent = DnsFailure::TimedOut(server.address.to_string());
        until(&mut watch, |dns| dns.own == OwnName::No(silent.clone())).await;
        until(&mut watch, |dns| dns.service == ServiceRecords::Failed(silent.clone())).await;
        server.set_mood(Mood::Good);
        publish(&server, 0..3);
        until(&mut watch, |dns| dns.own == OwnName::Ours && dns.service == pods(0..3)).await;
    }
}

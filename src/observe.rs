//! All views, side by side and bounded: each pod is asked by a task of its own, so that a slow one holds back nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::cluster::{Cluster, expected_cluster, is_ours};
use crate::decide::listener;
use crate::dns_watch::DnsWatch;
use crate::hearing::Hearing;
use crate::intent::Intent;
use crate::kube_api::{ApiPlace, KubeApi, PodsWatch};
use crate::membership::Added;
use crate::names::{MemberId, PodName, ProcessId, Url};
use crate::observation::{
    Answer, Disk, Dns, DnsFailure, EtcdView, Image, ListFailure, Member, MemberList, Observation, OwnName, PeerView,
    PodsWanted, Resolution, ServiceRecords, Silence, Since,
};
use crate::peers::{PeerClient, Question, Resolve};
use crate::standing::Standing;

/// How long one pod may take to answer, at first.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long it may take where it is known to be slow: on a far or a busy node a few handshakes need more than that.
const ANSWER_TIMEOUT_MAX: Duration = Duration::from_secs(8);
/// How soon a pod is asked again while its answers change, and how late while they do not.
const PAUSE_MIN: Duration = Duration::from_millis(25);
pub const PAUSE_MAX: Duration = Duration::from_millis(500);
/// How often the address of a silent pod is asked for out of turn.
const RENEW_PAUSE: Duration = Duration::from_secs(5);

/// Keeps the observation up to date.
pub struct Observer {
    intent: Arc<Intent>,
    process_id: ProcessId,
    shared: Arc<Shared>,
    dns_changes: watch::Receiver<Arc<Dns>>,
    askers: BTreeMap<PodName, Asker>,
    disk: Disk,
    kubernetes: Option<PodsWatch>,
    pods_wanted: Option<PodsWanted>,
    image: Image,
    hearing: Hearing,
    /// Answers to questions before this number are from before the last step.
    floor: u64,
    start: Instant,
    step: Instant,
    foreign: Option<Instant>,
    learner_without_record: BTreeMap<MemberId, Instant>,
}

/// What the tasks share.
struct Shared {
    dns: Arc<DnsWatch>,
    client: Arc<PeerClient>,
    answers: Mutex<BTreeMap<PodName, Answer>>,
    /// The digest of what this pod says itself.
    says: Mutex<Option<String>>,
    clock: AtomicU64,
    changed: Notify,
    /// The longest pause between two questions to a pod, in milliseconds.
    pause_max: AtomicU64,
}

/// The task that asks one pod.
struct Asker {
    url: Url,
    resolution: Option<Resolution>,
    kick: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Observer {
    /// Starts to ask. `start` is when the process did.
    pub fn new(
        intent: Arc<Intent>,
        process_id: ProcessId,
        dns: Arc<DnsWatch>,
        client: Arc<PeerClient>,
        disk: Disk,
        start: Instant,
    ) -> Self {
        let shared = Shared {
            dns,
            client,
            answers: Mutex::default(),
            says: Mutex::default(),
            clock: AtomicU64::new(1),
            changed: Notify::new(),
            pause_max: AtomicU64::new(PAUSE_MAX.as_millis() as u64),
        };
        let mut observer = Self {
            intent,
            process_id,
            dns_changes: shared.dns.subscribe(),
            shared: Arc::new(shared),
            askers: BTreeMap::new(),
            disk,
            kubernetes: None,
            pods_wanted: None,
            image: Image::default(),
            hearing: Hearing::default(),
            floor: 0,
            start,
            step: start,
            foreign: None,
            learner_without_record: BTreeMap::new(),
        };
        observer.ask_everybody();
        observer
    }

    /// What is known now.
    pub fn observe(&mut self) -> Observation {
        self.pods_wanted = self.kubernetes.as_ref().and_then(PodsWatch::pods).or(self.pods_wanted.take());
        self.ask_everybody();
        let floor = self.floor;
        let fresh = |(pod, answer): (&PodName, &Answer)| (answer.asked >= floor).then(|| (pod.clone(), answer.clone()));
        let peers: BTreeMap<PodName, Answer> =
            self.shared.answers().iter().filter(|(pod, _)| self.askers.contains_key(pod)).filter_map(fresh).collect();
        let mut seen = Observation {
            process_id: self.process_id.clone(),
            disk: self.disk.clone(),
            dns: self.shared.dns.view(),
            peers,
            hearing: Hearing::default(),
            pods_wanted: self.pods_wanted.clone(),
            image: self.image.clone(),
            since: Since { start: self.start.elapsed(), step: self.step.elapsed(), ..Since::default() },
        };
        self.hear(&mut seen);
        self.note_durations(&mut seen);
        seen
    }

    /// Everybody who is asked has answered, or was found not to, and so has DNS.
    pub fn is_settled(&self, seen: &Observation) -> bool {
        let dns = &seen.dns;
        let named = dns.own != OwnName::NotAsked && dns.service != ServiceRecords::NotAsked;
        let heard = |(pod, asker): (&PodName, &Asker)| {
            let found = asker.url.host.parse::<IpAddr>().is_ok()
                || matches!(dns.hosts.get(&asker.url.host), Some(Resolution::Addresses(_)));
            match seen.peers.get(pod).map(|answer| &answer.view) {
                None => false,
                // It was asked for before its address was known.
                Some(PeerView::Silent(Silence::NoAddress(_))) => !found && dns.hosts.contains_key(&asker.url.host),
                Some(PeerView::Etcd(etcd)) => etcd.list != Err(ListFailure::NotAsked),
                Some(_) => true,
            }
        };
        named && self.askers.iter().all(heard)
    }

    /// Waits until something is different, or for this long.
    pub async fn changed(&mut self, at_most: Duration) {
        let told = async {
            match &mut self.kubernetes {
                Some(kubernetes) => kubernetes.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.shared.changed.notified() => {}
            () = told => {}
            Ok(()) = self.dns_changes.changed() => {}
            () = tokio::time::sleep(at_most) => {}
        }
    }

    /// A step was taken: the disk is as given, and whatever was answered before counts no more.
    pub fn after_step(&mut self, disk: Disk) {
        self.disk = disk;
        self.kubernetes.take_if(|_| Standing::of(&self.disk) != Standing::Blank);
        self.step = Instant::now();
        self.floor = self.shared.tick();
        self.hearing = Hearing::default();
        self.kick_all();
    }

    /// The answer to an add has the list that came of it: as good as one that is asked for now.
    pub fn hear_add(&mut self, added: &Added) {
        let now = self.shared.tick();
        for answer in self.shared.answers().values_mut() {
            if let PeerView::Etcd(EtcdView { list: Ok(list), .. }) = &mut answer.view
                && (list.cluster_id, list.answered_by) == (added.cluster_id, added.answered_by)
            {
                list.members.clone_from(&added.members);
                (answer.asked, answer.answered) = (now, now);
            }
        }
    }

    /// Nothing hangs on a quick answer: while a pod has no news it is asked this seldom.
    pub fn at_most_every(&self, pause: Duration) {
        self.shared.pause_max.store(pause.as_millis() as u64, Ordering::Relaxed);
    }

    /// What became known of the image's etcd.
    pub fn set_image(&mut self, image: Image) {
        self.image = image;
    }

    /// Asks the Kubernetes API which pods there may be, where the disk is empty: nothing else needs to know.
    pub fn ask_kubernetes(&mut self, place: &ApiPlace) {
        if Standing::of(&self.disk) != Standing::Blank {
            return;
        }
        match KubeApi::new(place, &self.intent, self.shared.dns.clone()) {
            Ok(api) => self.kubernetes = Some(PodsWatch::start(api, self.intent.ordinal_start)),
            Err(failure) => tracing::debug!(%failure, "the Kubernetes API is not asked"),
        }
    }

    /// This pod says something new: the peers are told so, and asked.
    pub fn says(&self, digest: Option<String>) {
        *self.shared.says.lock().unwrap_or_else(PoisonError::into_inner) = digest;
        self.kick_all();
    }

    /// Asks this pod now.
    pub fn ask(&self, pod: &PodName) {
        if let Some(asker) = self.askers.get(pod) {
            asker.kick.notify_one();
        }
    }

    /// The last answer of a pod, if it waits.
    pub fn statement_digest(&self, pod: &PodName) -> Option<String> {
        match &self.shared.answers().get(pod)?.view {
            PeerView::Waiting(said) => Some(crate::rollcall::digest(said)),
            _ => None,
        }
    }

    /// Asks everybody now.
    pub fn kick_all(&self) {
        self.askers.values().for_each(|asker| asker.kick.notify_one());
    }

    fn hear(&mut self, seen: &mut Observation) {
        // A single founder has nobody else to tell it from a grown cluster's: it hears the Kubernetes API, too.
        let is_single = self.intent.plan.founders.len() == 1;
        if is_single && self.kubernetes.as_ref().is_some_and(PodsWatch::is_awaited) {
            return;
        }
        let now = self.shared.clock.load(Ordering::SeqCst);
        let heard = self.hearing.after(&listener(&self.intent, seen), &seen.peers, now);
        // The second round begins now.
        if heard != self.hearing && heard.heard_twice().is_none() {
            self.kick_all();
        }
        self.hearing = heard.clone();
        seen.hearing = heard;
    }

    fn note_durations(&mut self, seen: &mut Observation) {
        let cluster = Cluster::of(&self.intent, seen);
        let foreign = !cluster.foreign().is_empty();
        let learners: Option<Vec<Member>> =
            cluster.newest.map(|list| list.members.iter().filter(|member| member.is_learner).cloned().collect());
        self.foreign = foreign.then(|| self.foreign.unwrap_or_else(Instant::now));
        seen.since.foreign = self.foreign.map(|since| since.elapsed()).unwrap_or_default();
        let Some(learners) = learners else { return };
        let gone: BTreeSet<MemberId> =
            learners.iter().filter(|member| seen.dns.has_no_record(member)).map(|member| member.id).collect();
        self.learner_without_record.retain(|id, _| gone.contains(id));
        for id in gone {
            self.learner_without_record.entry(id).or_insert_with(Instant::now);
        }
        seen.since.learner_without_record =
            self.learner_without_record.iter().map(|(id, since)| (*id, since.elapsed())).collect();
    }

    /// One task for each pod that may know something: the span, this pod itself, and whoever is listed.
    fn ask_everybody(&mut self) {
        let wanted = self.urls();
        let hosts =
            wanted.values().map(|url| url.host.clone()).filter(|host| host.parse::<IpAddr>().is_err()).collect();
        self.shared.dns.want(hosts);
        let view = self.shared.dns.view();
        let resolution = |url: &Url| view.hosts.get(&url.host);
        // Who has moved is not waited for where it was.
        let is_there = |pod: &PodName, asker: &Asker| {
            wanted.get(pod) == Some(&asker.url) && !has_moved(asker.resolution.as_ref(), resolution(&asker.url))
        };
        self.askers.retain(|pod, asker| is_there(pod, asker));
        for (pod, url) in wanted {
            let resolution = resolution(&url).cloned();
            let asker = self.askers.entry(pod.clone()).or_insert_with(|| {
                let kick = Arc::new(Notify::new());
                let task = tokio::spawn(ask_forever(pod, url.clone(), self.shared.clone(), kick.clone()));
                Asker { url, resolution: resolution.clone(), kick, task }
            });
            if asker.resolution != resolution {
                asker.resolution = resolution;
                asker.kick.notify_one();
            }
        }
    }

    fn urls(&self) -> BTreeMap<PodName, Url> {
        let dns = self.shared.dns.view();
        let span = crate::span::span(&self.intent, &dns, self.pods_wanted.as_ref());
        let mut urls: BTreeMap<PodName, Url> =
            span.into_iter().map(|pod| (pod.clone(), self.intent.peer_url(&pod))).collect();
        // Somebody else's list must not lead away from the own pods: its URLs may all resolve.
        let expected = expected_cluster(&self.disk);
        for answer in self.shared.answers().values().filter(|answer| answer.asked >= self.floor) {
            let PeerView::Etcd(EtcdView { list: Ok(list), .. }) = &answer.view else { continue };
            if !is_ours(&self.intent, expected, &answer.url, list) {
                continue;
            }
            for member in &list.members {
                // This pod itself is asked by its own scheme, which may have changed since it was listed.
                let is_here =
                    member.pod() == self.intent.pod && self.intent.is_listed_at(member, &self.intent.peer_urls[0]);
                let listed = member.peer_urls.iter().filter_map(|url| url.parse::<Url>().ok()).next();
                if let Some(url) = listed.filter(|_| !is_here) {
                    urls.insert(member.pod(), url);
                }
            }
        }
        urls
    }
}

impl Shared {
    fn answers(&self) -> MutexGuard<'_, BTreeMap<PodName, Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Notes an answer, unless there is one to a later question; true where it says something new.
    fn publish(&self, pod: &PodName, answer: Answer) -> bool {
        let mut answers = self.answers();
        if answers.get(pod).is_some_and(|last| last.asked > answer.asked) {
            return false;
        }
        let news = answers.get(pod).is_none_or(|last| is_news(&last.view, &answer.view));
        answers.insert(pod.clone(), answer);
        drop(answers);
        self.changed.notify_one();
        news
    }

    /// What a known etcd said last when it was asked for a list.
    fn last_list(&self, pod: &PodName) -> Option<Result<MemberList, ListFailure>> {
        match &self.answers().get(pod)?.view {
            PeerView::Etcd(etcd) => Some(etcd.list.clone()),
            _ => None,
        }
    }
}

/// None of the addresses is left. The order means nothing, and one of two families may have failed for a moment.
fn has_moved(last: Option<&Resolution>, now: Option<&Resolution>) -> bool {
    match (last, now) {
        (Some(Resolution::Addresses(last)), Some(Resolution::Addresses(now))) => {
            !last.iter().any(|address| now.contains(address))
        }
        _ => false,
    }
}

/// A leader's index grows all the time; that is no news.
fn is_news(last: &PeerView, new: &PeerView) -> bool {
    match (last, new) {
        (PeerView::Etcd(last), PeerView::Etcd(new)) => {
            let list = |view: &crate::observation::EtcdView| {
                view.list.as_ref().map(|list| (list.leader, list.members.clone())).map_err(Clone::clone)
            };
            last.cluster_id != new.cluster_id || last.members != new.members || list(last) != list(new)
        }
        _ => last != new,
    }
}

async fn ask_forever(pod: PodName, url: Url, shared: Arc<Shared>, kick: Arc<Notify>) {
    let mut pause = PAUSE_MIN;
    let mut patience = ANSWER_TIMEOUT;
    let mut renew = Instant::now();
    loop {
        let (asked, begun) = (shared.tick(), Instant::now());
        let view = ask_once(&pod, &url, &shared, asked, begun + patience).await;
        patience = patience_after(patience, begun.elapsed());
        if matches!(&view, PeerView::Silent(_)) && Instant::now() >= renew {
            shared.dns.ask_at_once(Some(&url.host));
            renew = Instant::now() + RENEW_PAUSE;
        }
        let answer = Answer { asked, answered: shared.tick(), url: url.clone(), view };
        let transient = matches!(&answer.view, PeerView::Silent(Silence::Refused(_)));
        let pause_max = Duration::from_millis(shared.pause_max.load(Ordering::Relaxed));
        pause = if shared.publish(&pod, answer) { PAUSE_MIN } else { (pause * 2).min(pause_max) };
        // Who refuses is starting, or about to: its etcd listens within a fraction of a second.
        let pause = if transient { pause.min(PAUSE_MAX / 5) } else { pause };
        let jittered = pause.mul_f64(rand::random_range(0.75..1.25));
        let _ = timeout(jittered, kick.notified()).await;
    }
}

/// Whoever has used up the time that it had gets more of it.
fn patience_after(patience: Duration, took: Duration) -> Duration {
    let next = if took >= patience { patience * 2 } else { took * 2 };
    next.clamp(ANSWER_TIMEOUT, ANSWER_TIMEOUT_MAX)
}

async fn ask_once(pod: &PodName, url: &Url, shared: &Shared, asked: u64, deadline: Instant) -> PeerView {
    let addresses = match shared.known_addresses(&url.host) {
        Some(Ok(addresses)) => addresses,
        Some(Err(failure)) => return PeerView::Silent(Silence::NoAddress(failure)),
        None => return PeerView::Silent(Silence::NoAddress(DnsFailure::Other("not asked yet".into()))),
    };
    let question = Question {
        pod: pod.clone(),
        url: url.clone(),
        addresses,
        says: shared.says.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        own_name_resolves: shared.dns.view().own == OwnName::Ours,
        deadline,
    };
    let hosts = Hosts(shared);
    let report = |view: &PeerView| {
        let mut view = view.clone();
        match (&mut view, shared.last_list(pod)) {
            // A known etcd's list is not taken back while it is asked again.
            (_, Some(Ok(_))) => return,
            (PeerView::Etcd(etcd), Some(failure)) => etcd.list = failure,
            _ => {}
        }
        let answered = shared.tick();
        shared.publish(pod, Answer { asked, answered, url: url.clone(), view });
    };
    shared.client.ask(&question, &hosts, report).await
}

impl Shared {
    fn known_addresses(&self, host: &str) -> Option<Result<Vec<IpAddr>, DnsFailure>> {
        if let Ok(address) = host.parse() {
            return Some(Ok(vec![address]));
        }
        match self.dns.view().hosts.get(host)? {
            Resolution::Addresses(addresses) => Some(Ok(addresses.clone())),
            Resolution::Failed(failure) => Some(Err(failure.clone())),
        }
    }
}

/// Hosts that are no pod's peer host: a member's client URL elsewhere.
struct Hosts<'a>(&'a Shared);

impl Resolve for Hosts<'_> {
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsFailure> {
        if let Some(known) = self.0.known_addresses(host) {
            return known;
        }
        self.0.dns.addresses(host).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::connect::Security;
    use crate::dns::Resolver;
    use crate::dns_testing::{FakeDns, Mood, intent, local};
    use crate::etcd::Access;
    use crate::intent::Discovery;
    use crate::peers;

    #[test]
    fn who_needs_more_time_gets_it_and_who_is_quick_again_is_given_up_sooner() {
        let seconds = Duration::from_secs;
        assert_eq!(patience_after(seconds(1), seconds(1)), seconds(2));
        assert_eq!(patience_after(seconds(8), seconds(8)), seconds(8));
        assert_eq!(patience_after(seconds(4), seconds(3)), seconds(6));
        assert_eq!(patience_after(seconds(8), Duration::from_millis(10)), seconds(1));
    }

    #[test]
    fn who_is_at_none_of_its_addresses_any_more_has_moved() {
        let at = |addresses: &[&str]| {
            Some(Resolution::Addresses(addresses.iter().map(|address| address.parse().unwrap()).collect()))
        };
        let moved = |last: Option<Resolution>, now: Option<Resolution>| has_moved(last.as_ref(), now.as_ref());
        assert!(moved(at(&["10.0.0.1"]), at(&["10.0.0.2"])));
        assert!(!moved(at(&["10.0.0.1", "fd00::1"]), at(&["fd00::1", "10.0.0.1"])));
        assert!(!moved(at(&["10.0.0.1", "fd00::1"]), at(&["10.0.0.1"])));
        assert!(!moved(None, at(&["10.0.0.1"])));
        assert!(!moved(at(&["10.0.0.1"]), Some(Resolution::Failed(DnsFailure::NxDomain))));
    }

    /// Answers every question after so long.
    async fn slow_peer(delay: Duration) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (mut tcp, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let _ = tcp.read(&mut [0; 4096]).await;
                    tokio::time::sleep(delay).await;
                    let _ = tcp
                        .write_all(b"HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                        .await;
                });
            }
        });
        port
    }

    #[tokio::test]
    async fn a_peer_that_takes_longer_than_usual_is_heard_all_the_same() {
        let server = FakeDns::start(Mood::Good).await;
        let mut intent = intent(0, 3, Discovery::Srv);
        let port = slow_peer(ANSWER_TIMEOUT + Duration::from_millis(200)).await;
        intent.plan.founders[1].peer_urls = vec![format!("http://127.0.0.1:{port}").parse().unwrap()];
        let intent = Arc::new(intent);
        let resolver = Resolver::new(Some(server.address), "options ndots:5\n").unwrap();
        let dns = Arc::new(DnsWatch::start(intent.clone(), Arc::new(resolver), || local(&["10.0.0.0"])));
        let asker = peers::Asker { pod: intent.pod.clone(), namespace: String::new(), service: String::new() };
        let client = PeerClient::new(asker, Security::Plain, Access::default(), intent.client_urls[0].clone());
        let process_id = ProcessId("p".to_owned());
        let mut observer =
            Observer::new(intent.clone(), process_id, dns, Arc::new(client), Disk::blank(), Instant::now());
        let heard = async {
            loop {
                let seen = observer.observe();
                let answer = seen.peers.get(&PodName::from("etcd-1"));
                if let Some(PeerView::Silent(Silence::NotEtcd(_))) = answer.map(|answer| &answer.view) {
                    return;
                }
                observer.changed(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(20), heard).await.unwrap();
    }
}

//! Reads a peer: first its peer port, then, where etcd runs there, the linearizable member list of its client port.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::{Instant, timeout_at};

use crate::connect::{self, Security};
use crate::dns_watch::DnsWatch;
use crate::etcd::{Access, CallFailure, Connection, Endpoint};
use crate::names::{PodName, Url};
use crate::observation::{DnsFailure, EtcdView, ListFailure, Member, MemberList, PeerView, Resolution, Silence};

mod peer_port;
#[cfg(test)]
mod tests;

pub use peer_port::parse_members;

/// Who asks; it says so, and an answer from another service or namespace counts as silence.
#[derive(Clone, Debug)]
pub struct Asker {
    /// This pod.
    pub pod: PodName,
    /// Its namespace; empty where it is not known.
    pub namespace: String,
    /// Its headless service; empty where there is none.
    pub service: String,
}

/// One question to one pod.
#[derive(Clone, Debug)]
pub struct Question {
    /// The pod; a statement of any other counts as silence.
    pub pod: PodName,
    /// Its peer URL.
    pub url: Url,
    /// Where DNS says that it is; all are tried.
    pub addresses: Vec<IpAddr>,
    /// Whether the asker's own name resolves, which it tells.
    pub own_name_resolves: bool,
    /// The digest of the asker's own statement.
    pub says: Option<String>,
    /// When an answer comes too late.
    pub deadline: Instant,
}

/// Looks up hosts that are no pod of the question, such as a member's client URL elsewhere.
pub trait Resolve: Sync {
    /// The addresses of a host; at least one, or why there is none.
    fn addresses(&self, host: &str) -> impl Future<Output = Result<Vec<IpAddr>, DnsFailure>> + Send;
}

impl Resolve for DnsWatch {
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsFailure> {
        match self.resolve_fresh(host).await {
            Resolution::Addresses(addresses) => Ok(addresses),
            Resolution::Failed(failure) => Err(failure),
        }
    }
}

/// What a peer port gave, and which address gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerPortAnswer {
    /// What came; an etcd's list is [`ListFailure::NotAsked`].
    pub view: PeerView,
    /// The address that answered, if one did.
    pub address: Option<IpAddr>,
}

/// Asks peers, and remembers of each what makes the next question quicker.
pub struct PeerClient {
    asker: Asker,
    peer_security: Security,
    access: Access,
    own_client_url: Url,
    memory: Mutex<BTreeMap<PodName, Memory>>,
}

/// What is remembered of a pod.
#[derive(Default)]
struct Memory {
    was_etcd: bool,
    /// The address that answered last.
    address: Option<IpAddr>,
    /// The client port that gave a list last.
    client_port: Option<ClientPort>,
}

struct ClientPort {
    endpoint: Endpoint,
    /// Taken by the question that is under way.
    connection: Option<Connection>,
}

impl PeerClient {
    /// A client for the peers of `asker`, whose own advertised client URL is the pattern for those of peers that have
    /// not published theirs.
    pub fn new(asker: Asker, peer_security: Security, access: Access, own_client_url: Url) -> Self {
        Self { asker, peer_security, access, own_client_url, memory: Mutex::default() }
    }

    /// Asks one peer whatever it can say. `report` gets the peer port's part as soon as it is there, where more is
    /// to come.
    pub async fn ask(&self, question: &Question, resolve: &impl Resolve, report: impl FnOnce(&PeerView)) -> PeerView {
        let PeerPortAnswer { view, address } = self.ask_peer_port(question).await;
        let PeerView::Etcd(mut etcd) = view else { return view };
        let view = PeerView::Etcd(etcd.clone());
        report(&view);
        etcd.list = self.ask_client_port(question, &etcd, address, resolve).await;
        PeerView::Etcd(etcd)
    }

    /// Asks the peer port at all its addresses, one a little after the other. The first statement wins, or the first
    /// etcd that lists the pod that was dialled; then an etcd that does not; then the failure that says most.
    pub async fn ask_peer_port(&self, question: &Question) -> PeerPortAnswer {
        let (was_etcd, last) = {
            let memory = self.memory();
            memory.get(&question.pod).map_or((false, None), |known| (known.was_etcd, known.address))
        };
        let mut addresses = question.addresses.clone();
        addresses.sort_by_key(|address| Some(*address) != last);
        let attempt = |address| async move {
            let answer = peer_port::ask(question, address, &self.asker, &self.peer_security, was_etcd).await;
            match answer {
                Ok(PeerView::Etcd(view)) if !lists(&view, question) => Err((PeerView::Etcd(view), address)),
                Ok(view) => Ok((view, address)),
                Err(silence) => Err((PeerView::Silent(silence), address)),
            }
        };
        let (view, address) = match connect::race(&addresses, attempt).await {
            Ok((view, address)) => (view, Some(address)),
            Err(mut failures) => {
                failures.sort_by_key(|(view, _)| rank(view));
                let none = || {
                    let reason = format!("{}: no address is known", question.url.authority());
                    (PeerView::Silent(Silence::Unreachable(reason)), None)
                };
                failures.into_iter().next().map_or_else(none, |(view, address)| (view, Some(address)))
            }
        };
        let address = address.filter(|_| !matches!(view, PeerView::Silent(_)));
        let mut memory = self.memory();
        let known = memory.entry(question.pod.clone()).or_default();
        match &view {
            // A silent one may be back soon: only its connection goes.
            PeerView::Silent(_) => {
                if let Some(port) = &mut known.client_port {
                    port.connection = None;
                }
            }
            PeerView::Waiting(_) => *known = Memory { address, ..Memory::default() },
            PeerView::Etcd(_) => (known.was_etcd, known.address) = (true, address),
        }
        drop(memory);
        PeerPortAnswer { view, address }
    }

    /// Asks the client port of a pod that runs etcd for a linearizable list.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn ask_client_port(
        &self,
        question: &Question,
        view: &EtcdView,
        address: Option<IpAddr>,
        resolve: &impl Resolve,
    ) -> Result<MemberList, ListFailure> {
        let urls = client_urls(question, view, &self.asker.pod, &self.own_client_url);
        let mut failure = ListFailure::Unreachable(format!("{} has no client URL", question.pod));
        for url in urls {
            let endpoint = match self.endpoint_of(question, url, address, resolve).await {
                Ok(endpoint) => endpoint,
                Err(missing) => {
                    failure = missing;
                    continue;
                }
            };
            match self.list_at(question, endpoint).await {
                Ok(list) if list.cluster_id != view.cluster_id => {
                    failure = ListFailure::Other(CallFailure::OtherCluster(list.cluster_id).to_string());
                }
                Ok(list) => return Ok(list),
                Err(other) => failure = other.into(),
            }
            if !matches!(failure, ListFailure::Unreachable(_) | ListFailure::Tls(_) | ListFailure::Other(_)) {
                break;
            }
        }
        Err(failure)
    }

    /// Where this pod's client port gave its last list, for a write.
    pub fn endpoint(&self, pod: &PodName) -> Option<Endpoint> {
        Some(self.memory().get(pod)?.client_port.as_ref()?.endpoint.clone())
    }

    /// The list of one client port, over the connection that is open, or else a new one.
    async fn list_at(&self, question: &Question, endpoint: Endpoint) -> Result<MemberList, CallFailure> {
        let open = {
            let mut memory = self.memory();
            let port = memory.get_mut(&question.pod).and_then(|known| known.client_port.as_mut());
            port.filter(|port| port.endpoint.url == endpoint.url).and_then(|port| port.connection.take())
        };
        if let Some(connection) = open.filter(|open| endpoint.addresses.contains(&open.address)) {
            match connection.linearizable_list(question.deadline).await {
                Ok(list) => return Ok(self.keep(question, endpoint, connection, list)),
                // It broke since the last question, and this question may be asked twice.
                Err(CallFailure::ConnectionLost(_)) => {}
                Err(failure) => return Err(failure),
            }
        }
        let connection = Connection::open(&endpoint, &self.access, question.deadline).await?;
        let list = connection.linearizable_list(question.deadline).await?;
        Ok(self.keep(question, endpoint, connection, list))
    }

    fn keep(
        &self,
        question: &Question,
        mut endpoint: Endpoint,
        connection: Connection,
        list: MemberList,
    ) -> MemberList {
        endpoint.addresses.sort_by_key(|address| *address != connection.address);
        let mut memory = self.memory();
        let connection = Some(connection);
        memory.entry(question.pod.clone()).or_default().client_port = Some(ClientPort { endpoint, connection });
        list
    }

    /// The addresses of a client URL: those of the peer port where it is the same pod, the one that answered first.
    async fn endpoint_of(
        &self,
        question: &Question,
        url: Url,
        answered: Option<IpAddr>,
        resolve: &impl Resolve,
    ) -> Result<Endpoint, ListFailure> {
        let addresses = if is_same_pod(&url, question) {
            let mut addresses = question.addresses.clone();
            addresses.sort_by_key(|address| Some(*address) != answered);
            addresses
        } else if let Ok(literal) = url.host.parse() {
            vec![literal]
        } else {
            let found = timeout_at(question.deadline, resolve.addresses(&url.host)).await;
            let found = found.map_err(|_| ListFailure::Unreachable(format!("{url}: DNS did not answer in time")))?;
            found.map_err(|failure| ListFailure::Unreachable(format!("{url}: {failure}")))?
        };
        Ok(Endpoint { url, addresses })
    }

    fn memory(&self) -> MutexGuard<'_, BTreeMap<PodName, Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sorts what says most of a pod first, where no address gave what was looked for.
fn rank(view: &PeerView) -> u8 {
    match view {
        PeerView::Waiting(_) => 0,
        PeerView::Etcd(_) => 1,
        PeerView::Silent(Silence::SomebodyElse { .. }) => 2,
        PeerView::Silent(Silence::Tls { .. }) => 3,
        PeerView::Silent(Silence::NotEtcd(_)) => 4,
        PeerView::Silent(Silence::Refused(_)) => 5,
        PeerView::Silent(Silence::Unreachable(_)) => 6,
        PeerView::Silent(Silence::TimedOut(_) | Silence::NoAddress(_)) => 7,
    }
}

/// The dialled pod's member: by its peer URL, else by that URL's host, else by the pod's name.
fn member_of<'a>(view: &'a EtcdView, question: &Question) -> Option<&'a Member> {
    let members = view.members.as_deref()?;
    let at = |fits: &dyn Fn(&Url) -> bool| {
        let has = |member: &&Member| member.peer_urls.iter().filter_map(|url| url.parse().ok()).any(|url| fits(&url));
        members.iter().find(has)
    };
    at(&|url| *url == question.url)
        .or_else(|| at(&|url| url.host == question.url.host))
        .or_else(|| members.iter().find(|member| member.pod() == question.pod || member.name == question.pod.as_str()))
}

/// Nothing speaks against the pod that was dialled being the one that answered.
fn lists(view: &EtcdView, question: &Question) -> bool {
    view.members.is_none() || member_of(view, question).is_some()
}

/// The pod's client URLs, those at the pod itself first; without any, this pod's own with the name exchanged.
fn client_urls(question: &Question, view: &EtcdView, own_pod: &PodName, own_client_url: &Url) -> Vec<Url> {
    let host = &question.url.host;
    let published = member_of(view, question).map(|member| member.client_urls.as_slice()).unwrap_or_default();
    let mut urls: Vec<Url> = Vec::new();
    for mut url in published.iter().filter_map(|url| url.parse::<Url>().ok()) {
        if is_loopback(&url.host) && !is_loopback(host) {
            // Here, that would be this pod.
            url.host.clone_from(host);
        }
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    urls.sort_by_key(|url| !is_same_pod(url, question));
    if urls.is_empty() {
        let pattern = own_client_url;
        let exchanged = if pattern.pod() == *own_pod {
            pattern.at_pod(&question.pod)
        } else {
            Url { host: host.clone(), ..pattern.clone() }
        };
        urls.push(exchanged);
    }
    urls
}

fn is_same_pod(url: &Url, question: &Question) -> bool {
    url.host == question.url.host || url.pod() == question.pod
}

fn is_loopback(host: &str) -> bool {
    let is_local = |address: IpAddr| address.is_loopback() || address.is_unspecified();
    host == "localhost" || host.parse().is_ok_and(is_local)
}

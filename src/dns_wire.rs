//! One question to the DNS servers, and its answer: which server, over UDP or TCP, within the budget.
//!
//! Hickory's messages and transports are used, not its `Resolver`: that one caches, follows the search list, asks two
//! servers at once, sends up to three packets where one was asked for, gives up at the first server's SERVFAIL, and
//! never falls back from EDNS. Here each packet is counted and paid for.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::{DnsUdpSocket, RuntimeProvider, TokioRuntimeProvider, TokioTime};
use hickory_resolver::net::tcp::TcpClientStream;
use hickory_resolver::net::udp::UdpClientStream;
use hickory_resolver::net::xfer::{DnsHandle, DnsRequestSender, FirstAnswer};
use hickory_resolver::proto::op::{DnsRequest, DnsRequestOptions, Message, Query, ResponseCode};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::dns_budget::{Bucket, Urgency};
use crate::observation::DnsFailure;

/// How long one packet is waited for. Cluster DNS answers within milliseconds, or the packet is lost.
pub const TIMEOUT: Duration = Duration::from_secs(1);

/// The bucket of tokens with a clock, and the count of the packets that were sent.
#[derive(Debug)]
pub struct Budget {
    bucket: Mutex<Bucket>,
    started: Instant,
    sent: AtomicU64,
    /// Those who wait for a token: first come, first served among the equally urgent.
    queues: [tokio::sync::Mutex<()>; 3],
}

impl Budget {
    /// A full one, whose clock starts now.
    pub fn new(bucket: Bucket) -> Self {
        Self {
            bucket: Mutex::new(bucket),
            started: Instant::now(),
            sent: AtomicU64::new(0),
            queues: Default::default(),
        }
    }

    /// The time on the bucket's clock.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The moment at which the bucket's clock shows `at`.
    pub fn instant(&self, at: Duration) -> Instant {
        self.started + at
    }

    /// The bucket, for whoever decides what is asked next.
    pub fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The packets that were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until a packet may be sent, and pays for it.
    async fn pay(&self, urgency: Urgency) {
        let _turn = self.queues[urgency as usize].lock().await;
        loop {
            let taken = self.bucket().take(self.now(), urgency.reserve());
            match taken {
                Ok(()) => return,
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }
}

/// How one question is paid for.
#[derive(Debug)]
pub struct Payment {
    urgency: Urgency,
    prepaid: bool,
}

impl Payment {
    /// Each packet is paid for as it is sent.
    pub fn each(urgency: Urgency) -> Self {
        Self { urgency, prepaid: false }
    }

    /// The first packet has been paid for, what follows of it is paid for as it is sent.
    pub fn prepaid(urgency: Urgency) -> Self {
        Self { urgency, prepaid: true }
    }

    async fn packet(&mut self, budget: &Budget) {
        if !std::mem::take(&mut self.prepaid) {
            budget.pay(self.urgency).await;
        }
        budget.sent.fetch_add(1, Ordering::Relaxed);
    }
}

/// The servers that are asked, the one that answered last first.
#[derive(Debug)]
pub struct Servers {
    servers: Vec<Server>,
    first: AtomicUsize,
    budget: Budget,
}

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    /// Questions carry EDNS, so that answers of more than 512 bytes fit into one packet.
    edns: AtomicBool,
    /// It has answered before, so a silence is no sign that it drops EDNS.
    has_answered: AtomicBool,
}

impl Servers {
    /// These servers; there has to be one.
    pub fn new(addresses: impl IntoIterator<Item = SocketAddr>, bucket: Bucket) -> Self {
        let server = |address| Server { address, edns: AtomicBool::new(true), has_answered: AtomicBool::new(false) };
        let servers = addresses.into_iter().map(server).collect();
        Self { servers, first: AtomicUsize::new(0), budget: Budget::new(bucket) }
    }

    /// What may be sent, and what was.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Asks until a server answers, each once; a single one twice where it is silent.
    ///
    /// NXDOMAIN is a failure; NOERROR is an answer, with or without records. The failure is the most telling one:
    /// a server that says that it failed, then one that cannot be understood or reached, then silence.
    pub async fn ask(&self, query: &Query, payment: &mut Payment) -> Result<Message, DnsFailure> {
        let count = self.servers.len();
        let first = self.first.load(Ordering::Relaxed);
        let mut failures = Vec::new();
        for attempt in 0..count.max(2) {
            let index = (first + attempt) % count.max(1);
            let Some(server) = self.servers.get(index) else { break };
            match self.ask_server(server, query, payment).await {
                Ok(message) => {
                    self.first.store(index, Ordering::Relaxed);
                    let exists = message.metadata.response_code != ResponseCode::NXDomain;
                    return exists.then_some(message).ok_or(DnsFailure::NxDomain);
                }
                Err(failure) => failures.push(failure),
            }
            if count == 1 && !matches!(failures.last(), Some(DnsFailure::TimedOut(_))) {
                break;
            }
        }
        Err(most_telling(failures))
    }

    /// One server's NOERROR or NXDOMAIN.
    async fn ask_server(&self, server: &Server, query: &Query, payment: &mut Payment) -> Result<Message, DnsFailure> {
        let edns = server.edns.load(Ordering::Relaxed);
        payment.packet(&self.budget).await;
        let mut answer = over_udp(server.address, query, edns).await;
        let dislikes =
            |message: &Message| matches!(message.metadata.response_code, ResponseCode::FormErr | ResponseCode::NotImp);
        if edns && answer.as_ref().is_ok_and(dislikes) {
            payment.packet(&self.budget).await;
            answer = over_udp(server.address, query, false).await;
            let helped = answer.as_ref().is_ok_and(|message| !dislikes(message));
            server.edns.store(!helped, Ordering::Relaxed);
        }
        match &answer {
            Ok(_) => server.has_answered.store(true, Ordering::Relaxed),
            // Some drop EDNS, or answer it in a way that is taken for silence: the other form next time.
            Err(NetError::Timeout) if !server.has_answered.load(Ordering::Relaxed) => {
                server.edns.store(!edns, Ordering::Relaxed);
            }
            Err(_) => {}
        }
        if answer.as_ref().is_ok_and(|message| message.metadata.truncation) {
            payment.packet(&self.budget).await;
            answer = over_tcp(server.address, query, server.edns.load(Ordering::Relaxed)).await;
        }
        let message = answer.map_err(|error| failure_of(server.address, &error))?;
        match message.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => Ok(message),
            code => Err(DnsFailure::ServerFailed(format!("{} from {}", mnemonic(code), server.address))),
        }
    }
}

/// One packet there and one back.
async fn over_udp(server: SocketAddr, query: &Query, edns: bool) -> Result<Message, NetError> {
    let builder = UdpClientStream::builder(server, Connected::default());
    let mut stream = builder.with_timeout(Some(TIMEOUT)).with_max_retries(1).build();
    let answer = stream.send_message(request(query, edns)).first_answer().await?;
    Ok(answer.into_message())
}

/// The same over a connection of its own.
async fn over_tcp(server: SocketAddr, query: &Query, edns: bool) -> Result<Message, NetError> {
    // The provider owns the task that drives the connection, which ends with it.
    let provider = Connected::default();
    let connection = TcpClientStream::exchange(server, None, TIMEOUT, Some(1), provider.clone()).await?;
    let answer = connection.send(request(query, edns)).first_answer().await?.into_message();
    if answer.queries != [query.clone()] {
        return Err(NetError::Message("it answers another question"));
    }
    if answer.metadata.truncation {
        return Err(NetError::Truncated);
    }
    Ok(answer)
}

fn request(query: &Query, edns: bool) -> DnsRequest {
    let mut options = DnsRequestOptions::default();
    options.use_edns = edns;
    // Later than the time-out: a packet is never sent twice behind the budget's back.
    options.retry_interval = 2 * TIMEOUT;
    DnsRequest::from_query(query.clone(), options)
}

fn failure_of(server: SocketAddr, error: &NetError) -> DnsFailure {
    match error {
        NetError::Timeout => DnsFailure::TimedOut(server.to_string()),
        NetError::Io(error) => DnsFailure::Other(format!("{server}: {error}")),
        NetError::Proto(error) => DnsFailure::Other(format!("malformed answer from {server}: {error}")),
        error => DnsFailure::Other(format!("{server}: {error}")),
    }
}

/// The code as RFC 1035 and `dig` write it.
fn mnemonic(code: ResponseCode) -> String {
    match code {
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        code => code.to_string(),
    }
}

/// Of several servers' failures the one that says most; silence names all that were silent.
fn most_telling(failures: Vec<DnsFailure>) -> DnsFailure {
    let mut silent: Vec<String> = Vec::new();
    let mut other = None;
    for failure in failures {
        match failure {
            DnsFailure::ServerFailed(_) => return failure,
            DnsFailure::TimedOut(server) if silent.contains(&server) => {}
            DnsFailure::TimedOut(server) => silent.push(server),
            failure => other = other.or(Some(failure)),
        }
    }
    let silence = || match silent.is_empty() {
        true => DnsFailure::Other("there is no server to ask".to_owned()),
        false => DnsFailure::TimedOut(silent.join(", ")),
    };
    other.unwrap_or_else(silence)
}

/// Tokio's sockets, the UDP ones connected: a server that nobody listens at is known at once, by its ICMP message
/// (which kube-proxy sends as well while cluster DNS has no endpoint).
#[derive(Clone, Default)]
struct Connected(TokioRuntimeProvider);

impl RuntimeProvider for Connected {
    type Handle = <TokioRuntimeProvider as RuntimeProvider>::Handle;
    type Timer = <TokioRuntimeProvider as RuntimeProvider>::Timer;
    type Udp = ConnectedUdp;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        self.0.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        local: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> BoxFuture<'static, io::Result<Self::Tcp>> {
        self.0.connect_tcp(server, local, timeout)
    }

    fn bind_udp(&self, local: SocketAddr, server: SocketAddr) -> BoxFuture<'static, io::Result<Self::Udp>> {
        Box::pin(async move {
            let socket = UdpSocket::bind(local).await?;
            socket.connect(server).await?;
            Ok(ConnectedUdp(socket))
        })
    }
}

struct ConnectedUdp(UdpSocket);

impl DnsUdpSocket for ConnectedUdp {
    type Time = TokioTime;

    fn poll_recv_from(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        DnsUdpSocket::poll_recv_from(&self.0, context, buffer)
    }

    fn poll_send_to(&self, context: &mut Context<'_>, buffer: &[u8], target: SocketAddr) -> Poll<io::Result<usize>> {
        DnsUdpSocket::poll_send_to(&self.0, context, buffer, target)
    }

    /// Receives, or ends with the socket's error, for which Tokio wakes no reader.
    fn recv_from<'socket, 'buffer, 'future>(
        &'socket self,
        buffer: &'buffer mut [u8],
    ) -> BoxFuture<'future, io::Result<(usize, SocketAddr)>>
    where
        'socket: 'future,
        'buffer: 'future,
    {
        Box::pin(async move {
            tokio::select! {
                received = self.0.recv_from(buffer) => received,
                Some(error) = async { self.0.ready(Interest::ERROR).await.and(self.0.take_error()).transpose() } => {
                    Err(error.unwrap_or_else(|error| error))
                }
            }
        })
    }
}

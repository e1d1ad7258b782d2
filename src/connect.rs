//! Dials a peer: TCP, and TLS where the URL says https. Names are never resolved here: the caller has asked DNS.

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::names::{Scheme, Url};
use crate::observation::Silence;
use crate::tls;

/// How long one address is waited for before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(100);
/// How long a TCP connection may take, however long the rest has: a new attempt does better than a lost SYN's third.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// What is used where a URL says https. A URL that says http is always dialled without TLS.
#[derive(Clone, Debug, Default)]
pub enum Security {
    /// There are no TLS settings: https cannot be dialled.
    #[default]
    Plain,
    /// Trust, this pod's certificate, and the protocol that is asked for.
    Tls(Arc<ClientConfig>),
}

impl Security {
    /// For etcd's peer port, which offers HTTP/2 and then breaks on it.
    pub fn peer_port(config: ClientConfig) -> Self {
        Self::with_protocol(config, b"http/1.1")
    }

    /// For etcd's client port.
    pub fn client_port(config: ClientConfig) -> Self {
        Self::with_protocol(config, b"h2")
    }

    fn with_protocol(mut config: ClientConfig, protocol: &[u8]) -> Self {
        config.alpn_protocols = vec![protocol.to_vec()];
        Self::Tls(Arc::new(config))
    }
}

/// Why an address could not be dialled. In each case no request was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// Nobody listens.
    #[error("connection refused at {address}")]
    Refused {
        /// Address and port.
        address: String,
    },
    /// Nothing came back in time.
    #[error("no answer from {address} in time")]
    TimedOut {
        /// Address and port.
        address: String,
    },
    /// The network said no, or there was no address.
    #[error("{address}: {reason}")]
    Unreachable {
        /// Address and port.
        address: String,
        /// What the system says.
        reason: String,
    },
    /// The TLS handshake failed, on either side.
    #[error("TLS with {address}: {reason}")]
    Tls {
        /// Address and port.
        address: String,
        /// What the library or the peer says.
        reason: String,
    },
}

impl DialError {
    /// Sorts what says most of a pod first, where several of its addresses failed.
    fn rank(&self) -> u8 {
        match self {
            Self::Tls { .. } => 0,
            Self::Refused { .. } => 1,
            Self::Unreachable { .. } => 2,
            Self::TimedOut { .. } => 3,
        }
    }
}

impl From<DialError> for Silence {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Refused { address } => Self::Refused(address),
            DialError::TimedOut { address } => Self::TimedOut(address),
            DialError::Unreachable { .. } => Self::Unreachable(error.to_string()),
            DialError::Tls { address, reason } => Self::Tls { address, reason },
        }
    }
}

/// A connection, and the address that answered.
#[derive(Debug)]
pub struct Dialled {
    /// The connection.
    pub stream: Stream,
    /// Where it goes.
    pub address: IpAddr,
    /// What was seen on it.
    pub wire: Wire,
}

/// Dials all addresses, one a little after the other; the first connection (TLS included) wins.
///
/// # Errors
/// Of several failures the one that says most: TLS, refused, unreachable, timed out.
pub async fn dial(
    url: &Url,
    addresses: &[IpAddr],
    security: &Security,
    deadline: Instant,
) -> Result<Dialled, DialError> {
    let attempt = |address| dial_one(url, address, security, deadline);
    race(addresses, attempt).await.map_err(|mut failures| {
        failures.sort_by_key(DialError::rank);
        failures.into_iter().next().unwrap_or_else(|| DialError::Unreachable {
            address: url.authority(),
            reason: "no address is known".to_owned(),
        })
    })
}

/// Dials one address.
///
/// # Errors
/// Why it could not be dialled.
pub async fn dial_one(
    url: &Url,
    address: IpAddr,
    security: &Security,
    deadline: Instant,
) -> Result<Dialled, DialError> {
    let socket = SocketAddr::new(address, url.port);
    let timed_out = || DialError::TimedOut { address: socket.to_string() };
    let work = async {
        let tcp = timeout(CONNECT_TIMEOUT, TcpStream::connect(socket)).await.map_err(|_| timed_out())?;
        let tcp = tcp.map_err(|error| tcp_error(socket, &error))?;
        // Small questions and answers: Nagle's algorithm would only delay them.
        let _ = tcp.set_nodelay(true);
        let io = match url.scheme {
            Scheme::Http => Io::Plain(tcp),
            Scheme::Https => Io::Tls(Box::new(handshake(url, tcp, security, socket).await?)),
        };
        let wire = Wire::default();
        Ok(Dialled { stream: Stream::new(io, wire.clone()), address, wire })
    };
    timeout_at(deadline, work).await.map_err(|_| timed_out())?
}

fn tcp_error(socket: SocketAddr, error: &io::Error) -> DialError {
    let address = socket.to_string();
    match error.kind() {
        io::ErrorKind::ConnectionRefused => DialError::Refused { address },
        io::ErrorKind::TimedOut => DialError::TimedOut { address },
        _ => DialError::Unreachable { address, reason: error.to_string() },
    }
}

async fn handshake(
    url: &Url,
    tcp: TcpStream,
    security: &Security,
    socket: SocketAddr,
) -> Result<TlsStream<TcpStream>, DialError> {
    let fail = |reason: String| DialError::Tls { address: socket.to_string(), reason };
    let Security::Tls(config) = security else {
        return Err(fail(format!("{url} wants TLS, and there are no TLS settings for it")));
    };
    let host = url.host.trim_end_matches('.').to_owned();
    let name = ServerName::try_from(host).map_err(|error| fail(format!("`{}`: {error}", url.host)))?;
    let connected = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await;
    connected.map_err(|error| fail(tls_reason(&error).unwrap_or_else(|| closed_reason(&error))))
}

/// What is wrong where http was asked, and there is TLS.
pub const UNASKED_TLS: &str = "it answers with TLS, and the URL says http";

/// Whether there is TLS: a handshake in which nobody is believed gets as far as a certificate, or an alert.
pub async fn speaks_tls(socket: SocketAddr, deadline: Instant) -> bool {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let Ok(builder) = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions() else {
        return false;
    };
    let config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let work = async {
        let tcp = TcpStream::connect(socket).await?;
        TlsConnector::from(Arc::new(config)).connect(socket.ip().into(), tcp).await
    };
    let Ok(Err(error)) = timeout_at(deadline, work).await else { return false };
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_)))
}

/// What a connection that ends within the handshake shows.
fn closed_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "the connection was closed during the handshake (a plain http port does that, and so does one that \
             rejects this pod's certificate)"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

/// What rustls says, where it is the cause of an error.
pub fn tls_reason(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(current) = cause {
        // An io::Error hides what it wraps from `source`.
        let inner = current.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let found = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match found.or_else(|| current.downcast_ref::<rustls::Error>()) {
            Some(error) => return Some(tls::sentence(error)),
            None => cause = inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| current.source()),
        }
    }
    None
}

/// What was seen on a connection, for the sentence that explains its end: the layers above lose it.
#[derive(Clone, Debug, Default)]
pub struct Wire(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    is_secure: bool,
    has_heard: bool,
    tls_failure: Option<String>,
}

impl Wire {
    /// Why TLS failed after the handshake, or that it came unasked.
    pub fn tls_failure(&self) -> Option<String> {
        self.seen().tls_failure.clone()
    }

    /// What a connection that broke shows, unless it had carried an answer: then TLS is right.
    pub fn closed_unheard(&self) -> Option<ClosedUnheard> {
        let seen = self.seen();
        match (seen.has_heard, seen.is_secure) {
            (true, _) => None,
            (false, true) => Some(ClosedUnheard::Secure),
            (false, false) => Some(ClosedUnheard::Plain),
        }
    }

    fn note<T>(&self, result: &Poll<io::Result<T>>, heard: &[u8]) {
        let mut seen = self.seen();
        // Record type 21 (alert), version 3.x: neither HTTP/1 nor HTTP/2 starts so.
        if !seen.is_secure && !seen.has_heard && heard.starts_with(&[0x15, 0x03]) {
            seen.tls_failure = Some(UNASKED_TLS.to_owned());
        }
        seen.has_heard |= !heard.is_empty();
        if let Poll::Ready(Err(error)) = result
            && let Some(reason) = tls_reason(error)
        {
            seen.tls_failure = Some(reason);
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that was closed before it had carried a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClosedUnheard {
    /// Without TLS.
    #[error("the connection was closed without an answer (a port that wants TLS does that)")]
    Plain,
    /// After the TLS handshake. etcd's peer listener gives no reason: its `checkSAN` closes the connection.
    #[error(
        "it closed the connection right after the handshake: it rejects this pod's certificate (etcd's peer port also \
         does that where none of the names and addresses in this pod's certificate, its SAN, leads to this pod: by an \
         address, by a name that resolves to it, or, for a wildcard, by the name of its PTR record)"
    )]
    Secure,
}

/// A connection with or without TLS.
#[derive(Debug)]
pub struct Stream {
    io: Io,
    wire: Wire,
}

#[derive(Debug)]
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    fn new(io: Io, wire: Wire) -> Self {
        wire.seen().is_secure = matches!(io, Io::Tls(_));
        Self { io, wire }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let start = buf.filled().len();
        let polled = match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Io::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        };
        self.wire.note(&polled, buf.filled().get(start..).unwrap_or_default());
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Io::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        };
        self.wire.note(&polled, &[]);
        if let (Poll::Ready(Err(_)), Io::Tls(tls)) = (&polled, &mut self.io) {
            // The peer's alert may lie there unread, and nobody would read it now.
            let mut scratch = [0; 64];
            let alert = Pin::new(tls).poll_read(cx, &mut ReadBuf::new(&mut scratch));
            self.wire.note(&alert, &[]);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Io::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Io::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

/// Runs one attempt per address, each a little after the last one or at once when that has failed.
///
/// # Errors
/// All failures, where no attempt succeeded; none where there was no address.
pub async fn race<T, E, F>(addresses: &[IpAddr], attempt: impl Fn(IpAddr) -> F) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut untried = addresses.iter().copied();
    let mut running = FuturesUnordered::new();
    let mut failures = Vec::new();
    loop {
        if let Some(address) = untried.next() {
            running.push(attempt(address));
        }
        tokio::select! {
            ended = running.next() => match ended {
                Some(Ok(success)) => return Ok(success),
                Some(Err(failure)) => failures.push(failure),
                None => return Err(failures),
            },
            () = sleep(STAGGER), if untried.len() > 0 => {}
        }
    }
}

#[cfg(test)]
mod tests;

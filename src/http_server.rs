//! A minimal HTTP/1.1 server for a port that etcd takes over: bounded in everything, and gone without a trace when
//! it is closed.
//!
//! Each connection serves one request. Who waits next to a cluster gets a few requests a second, and a connection
//! that nobody keeps is one less that could stand in etcd's way.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::connect::tls_reason;
use crate::names::{Scheme, Url};

/// Connections per listening address; the oldest makes room for one more, so that no crowd of idle ones can lock
/// a probe out.
const CONNECTIONS_MAX: usize = 64;
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 128;
/// From the accept to the end of the response, the TLS handshake included.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(5);
/// From the first byte that is waited for to the end of the request's head.
const HEAD_DEADLINE: Duration = Duration::from_secs(2);
/// A request's line and headers together; the least that hyper allows.
const HEAD_BYTES_MAX: usize = 8192;
/// Headers of a request.
const HEADERS_MAX: usize = 64;
/// How many failed handshakes are logged.
const REJECTIONS_MAX: usize = 64;
/// How long nothing is accepted after an accept failed (no file descriptors, as a rule).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A request: its head, and who asks. A body is not read.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method, URI and headers.
    pub head: Parts,
    /// Where it comes from; IPv4 as such, whatever the listener.
    pub from: IpAddr,
}

impl Request {
    /// The path, without the query.
    pub fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// Whether the query has this key, with or without a value.
    pub fn asks(&self, key: &str) -> bool {
        let pairs = self.head.uri.query().unwrap_or_default().split('&');
        pairs.into_iter().any(|pair| pair.split('=').next() == Some(key))
    }

    /// The value of a header, where it is there once and readable.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }
}

/// A response, whole in memory.
pub type Response = http::Response<Full<Bytes>>;

/// A response of this status, media type and body.
pub fn response(status: http::StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = http::Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

/// How `https` URLs are served; `http` ones are plain either way, as etcd has it.
///
/// The configuration is asked at each handshake: a resolver or a verifier that reads its files anew makes rotated
/// certificates count at once. It must not offer `h2`.
#[derive(Clone)]
pub enum Security {
    /// There is no TLS; an `https` URL is refused.
    Plain,
    /// With this configuration.
    Tls(Arc<rustls::ServerConfig>),
}

/// Why a URL cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {url}: {reason}")]
pub struct BindError {
    /// The URL.
    pub url: Url,
    /// What stands in the way.
    pub reason: BindFailure,
    /// What to look at.
    pub hint: &'static str,
}

/// What stands in the way of listening.
#[derive(Debug)]
pub enum BindFailure {
    /// Somebody listens there: an etcd of this pod that is going down, as a rule.
    InUse,
    /// The address is not this pod's, or not yet (IPv6 addresses are checked for duplicates first).
    NotOurs,
    /// The host is neither an address nor `localhost`; etcd refuses it too.
    NotAnAddress,
    /// `https` without TLS settings.
    NoTls,
    /// Anything else.
    Io(io::Error),
}

impl fmt::Display for BindFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => f.write_str("the address is in use"),
            Self::NotOurs => f.write_str("this pod does not have the address"),
            Self::NotAnAddress => f.write_str("the host is neither an IP address nor `localhost`"),
            Self::NoTls => f.write_str("the scheme is https, but there is no TLS certificate"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl BindFailure {
    fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::InUse,
            io::ErrorKind::AddrNotAvailable => Self::NotOurs,
            _ => Self::Io(error),
        }
    }

    /// It may go away by itself, so that another try makes sense.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::InUse | Self::NotOurs => true,
            Self::NotAnAddress | Self::NoTls => false,
            Self::Io(error) => error.kind() != io::ErrorKind::PermissionDenied,
        }
    }

    fn hint(&self) -> &'static str {
        match self {
            Self::InUse => "an etcd that is going down in this pod frees it by itself; else see `ss -ltnp`",
            Self::NotOurs => "listen on [::] or 0.0.0.0, for a pod's address changes with each of its lives",
            Self::NotAnAddress => "listen on [::], 0.0.0.0 or an address",
            Self::NoTls => "set the certificate and the key, or make the URL http",
            Self::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                "a port below 1024 needs root or CAP_NET_BIND_SERVICE"
            }
            Self::Io(_) => "see the pod's network and its limits",
        }
    }
}

/// A running server. Dropping it closes it too, but only [`Server::close`] tells when that is done.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    closing: watch::Sender<()>,
    acceptors: Vec<JoinHandle<()>>,
}

impl Server {
    /// Listens on all of these URLs and answers each request with what `handler` makes of it.
    ///
    /// A wildcard of either family listens on both, as Go's `net.Listen` does for etcd, so that the two of them are
    /// one. An address that is given twice is listened on once.
    ///
    /// # Errors
    /// The first URL that cannot be listened on; then none is. [`BindFailure::is_transient`] tells whether to retry.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn bind<H, F>(urls: &[Url], security: &Security, handler: H) -> Result<Self, BindError>
    where
        H: Fn(Request) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        Self::bind_with_deadline(urls, security, CONNECTION_DEADLINE, handler)
    }

    /// The same, where a response may take this long.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub fn bind_with_deadline<H, F>(
        urls: &[Url],
        security: &Security,
        deadline: Duration,
        handler: H,
    ) -> Result<Self, BindError>
    where
        H: Fn(Request) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        let mut seen = BTreeSet::new();
        let mut listeners = Vec::new();
        for url in urls {
            let failed = |reason: BindFailure| BindError { url: url.clone(), hint: reason.hint(), reason };
            let tls = match (url.scheme, security) {
                (Scheme::Http, _) => None,
                (Scheme::Https, Security::Tls(config)) => Some(TlsAcceptor::from(config.clone())),
                (Scheme::Https, Security::Plain) => return Err(failed(BindFailure::NoTls)),
            };
            let address = address_of(url).ok_or_else(|| failed(BindFailure::NotAnAddress))?;
            let wildcard = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port());
            let key = if address.ip().is_unspecified() { wildcard } else { address };
            if address.port() == 0 || seen.insert(key) {
                listeners.push((listen(address).map_err(|error| failed(BindFailure::of(error)))?, tls));
            }
        }
        let (closing, closed) = watch::channel(());
        let addresses = listeners.iter().filter_map(|(listener, _)| listener.local_addr().ok()).collect();
        let acceptors = listeners
            .into_iter()
            .map(|(listener, tls)| tokio::spawn(accept(listener, tls, deadline, handler.clone(), closed.clone())))
            .collect();
        Ok(Self { addresses, closing, acceptors })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Closes every listening socket and every connection, whatever it is at; returns when all of them are closed.
    pub async fn close(self) {
        drop(self.closing);
        for acceptor in self.acceptors {
            if let Err(error) = acceptor.await {
                tracing::debug!(%error, "a listener had failed");
            }
        }
    }
}

/// The address that a URL means.
fn address_of(url: &Url) -> Option<SocketAddr> {
    let ip = match url.host.as_str() {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => host.parse().ok()?,
    };
    Some(SocketAddr::new(ip, url.port))
}

/// Go turns `0.0.0.0` into a dual-stack `[::]` wherever the kernel has IPv6, so an etcd that is told `0.0.0.0` is
/// reached over IPv6 too.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    if address.ip() != IpAddr::V4(Ipv4Addr::UNSPECIFIED) {
        return listen_exactly(address);
    }
    match listen_exactly(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port())) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => listen_exactly(address),
        result => result,
    }
}

fn listen_exactly(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    }
    // Connections of an earlier run of this program or of etcd may still be in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts until the server is closed, then ends what is left and only then returns.
async fn accept<H, F>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    deadline: Duration,
    handler: H,
    mut closed: watch::Receiver<()>,
) where
    H: Fn(Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response> + Send + 'static,
{
    let mut connections = JoinSet::new();
    let mut by_age: VecDeque<AbortHandle> = VecDeque::new();
    let rejections = Arc::new(Rejections::default());
    loop {
        tokio::select! {
            _ = closed.changed() => break,
            Some(_) = connections.join_next() => by_age.retain(|connection| !connection.is_finished()),
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    if by_age.len() >= CONNECTIONS_MAX && let Some(oldest) = by_age.pop_front() {
                        oldest.abort();
                    }
                    let connection = {
                        let from = from.ip().to_canonical();
                        serve(stream, from, tls.clone(), rejections.clone(), deadline, handler.clone())
                    };
                    by_age.push_back(connections.spawn(connection));
                }
                Err(error) => {
                    tracing::debug!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    connections.shutdown().await;
}

/// Handshakes that failed: each is said once, for who is told nothing tries again.
#[derive(Default)]
struct Rejections(Mutex<BTreeSet<(IpAddr, String)>>);

impl Rejections {
    fn warn(&self, from: IpAddr, reason: &str) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() < REJECTIONS_MAX && said.insert((from, reason.to_owned())) {
            tracing::warn!(%from, "told nothing, for TLS with it failed: {reason}");
        }
    }
}

async fn serve<H, F>(
    stream: TcpStream,
    from: IpAddr,
    tls: Option<TlsAcceptor>,
    rejections: Arc<Rejections>,
    deadline: Duration,
    handler: H,
) where
    H: Fn(Request) -> F,
    F: Future<Output = Response>,
{
    let served = async {
        match tls {
            None => serve_http(stream, from, handler).await.map_err(|error| error.to_string()),
            Some(tls) => match tls.accept(stream).await {
                Ok(stream) => serve_http(stream, from, handler).await.map_err(|error| error.to_string()),
                Err(error) => {
                    let reason = tls_reason(&error);
                    // Who only looks whether the port is open says nothing.
                    reason.iter().for_each(|reason| rejections.warn(from, reason));
                    Err(format!("TLS: {}", reason.unwrap_or_else(|| error.to_string())))
                }
            },
        }
    };
    match tokio::time::timeout(deadline, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%from, error, "connection failed"),
        Err(_) => tracing::debug!(%from, "connection took too long"),
    }
}

async fn serve_http<S, H, F>(stream: S, from: IpAddr, handler: H) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Request) -> F,
    F: Future<Output = Response>,
{
    let answer = |request: http::Request<hyper::body::Incoming>| {
        let (head, _body) = request.into_parts();
        let response = handler(Request { head, from });
        async move { Ok::<_, Infallible>(response.await) }
    };
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false)
        // A client may close its half once it has asked.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use http::StatusCode;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn urls(texts: &[&str]) -> Vec<Url> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn server(texts: &[&str]) -> Server {
        Server::bind(&urls(texts), &Security::Plain, |request: Request| async move {
            response(StatusCode::OK, "text/plain", format!("{} {}", request.path(), request.from))
        })
        .unwrap()
    }

    async fn connect(server: &Server) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, server.addresses()[0].port())).await.unwrap()
    }

    /// Whatever comes until the server closes; a reset counts as a close.
    async fn rest(mut stream: impl AsyncRead + Unpin) -> String {
        let mut text = Vec::new();
        let _reset = stream.read_to_end(&mut text).await;
        String::from_utf8(text).unwrap()
    }

    async fn ask(server: &Server, request: &str) -> String {
        let mut stream = connect(server).await;
        let _closed_early = stream.write_all(request.as_bytes()).await;
        rest(stream).await
    }

    #[tokio::test]
    async fn answers_both_families_on_a_wildcard_of_either() {
        for wildcard in ["http://0.0.0.0:0", "http://[::]:0"] {
            let server = server(&[wildcard]);
            let port = server.addresses()[0].port();
            for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
                let mut stream = TcpStream::connect((ip, port)).await.unwrap();
                stream.write_all(b"GET /x?y HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
                let answer = rest(stream).await;
                assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
                assert!(answer.ends_with(&format!("/x {ip}")), "{answer}");
            }
            server.close().await;
        }
    }

    #[tokio::test]
    async fn an_address_given_twice_is_one() {
        let port = server(&["http://127.0.0.1:0"]).addresses()[0].port();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let twice = server(&[&format!("http://0.0.0.0:{port}"), &format!("http://[::]:{port}")]);
        assert_eq!(twice.addresses().len(), 1);
    }

    #[tokio::test]
    async fn one_request_per_connection_and_its_body_is_ignored() {
        let server = server(&["http://127.0.0.1:0"]);
        let twice = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
        let answer = ask(&server, twice).await;
        assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        let posted = "POST /raft HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
        assert!(ask(&server, posted).await.starts_with("HTTP/1.1 200"));
        let promised = "POST /raft HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\nhello";
        assert!(ask(&server, promised).await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn a_head_is_limited_in_size_and_number() {
        let server = server(&["http://127.0.0.1:0"]);
        let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20_000));
        let answer = ask(&server, &long).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(70));
        assert!(ask(&server, &many).await.starts_with("HTTP/1.1 431"));
        assert!(ask(&server, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn a_head_that_dribbles_in_is_cut_off() {
        let server = server(&["http://127.0.0.1:0"]);
        let start = Instant::now();
        let (mut read, mut write) = connect(&server).await.into_split();
        let dribble = tokio::spawn(async move {
            while write.write_all(b"GET / HTTP/1.1\r\nX: y\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        });
        rest(&mut read).await;
        assert!(start.elapsed() < CONNECTION_DEADLINE, "{:?}", start.elapsed());
        dribble.abort();
    }

    #[tokio::test]
    async fn a_crowd_of_idle_connections_locks_nobody_out() {
        let server = server(&["http://127.0.0.1:0"]);
        let mut crowd = Vec::new();
        for _ in 0..3 * CONNECTIONS_MAX {
            crowd.push(connect(&server).await);
        }
        let start = Instant::now();
        assert!(ask(&server, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.starts_with("HTTP/1.1 200"));
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
        let oldest = crowd.swap_remove(0);
        assert_eq!(rest(oldest).await, "");
    }

    #[tokio::test]
    async fn a_handler_that_hangs_is_cut_off_too() {
        let server = Server::bind(&urls(&["http://127.0.0.1:0"]), &Security::Plain, |_: Request| {
            std::future::pending::<Response>()
        })
        .unwrap();
        let start = Instant::now();
        assert_eq!(ask(&server, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await, "");
        assert!(start.elapsed() >= CONNECTION_DEADLINE);
    }

    /// What etcd needs: the port is free, and no connection of ours is left on it.
    #[tokio::test]
    async fn close_frees_the_port_at_once() {
        let server = server(&["http://0.0.0.0:0"]);
        let port = server.addresses()[0].port();
        assert!(ask(&server, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.starts_with("HTTP/1.1 200"));
        let idle = connect(&server).await;
        let mut half = connect(&server).await;
        half.write_all(b"GET / HTTP").await.unwrap();
        let probe = ask(&server, "GET / HTTP/1.0\r\n\r\n").await;
        assert!(probe.starts_with("HTTP/1.0 200"), "{probe}");

        let start = Instant::now();
        server.close().await;
        assert!(start.elapsed() < Duration::from_millis(50), "{:?}", start.elapsed());
        assert_eq!(sockets_of_this_process_on(port), 2, "the two that this test holds as a client");
        let again = std::net::TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
        drop((again, idle, half));
    }

    #[tokio::test]
    async fn dropping_closes_as_well() {
        let server = server(&["http://127.0.0.1:0"]);
        let address = server.addresses()[0];
        drop(server);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(TcpStream::connect(address).await.is_err());
    }

    /// Sockets that are open in this process and have this port on either end.
    fn sockets_of_this_process_on(port: u16) -> usize {
        let port = format!(":{port:04X}");
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap());
        let inode = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let ours = fields[1].ends_with(&port) || fields[2].ends_with(&port);
            ours.then(|| format!("socket:[{}]", fields[9]))
        };
        let inodes: BTreeSet<String> =
            tables.iter().flat_map(|table| table.lines().skip(1).filter_map(inode)).collect();
        let open =
            std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
        open.filter(|link| inodes.contains(link.to_str().unwrap_or_default())).count()
    }

    #[tokio::test]
    async fn failures_to_listen_are_told_apart() {
        let first = server(&["http://127.0.0.1:0"]);
        let taken = first.addresses()[0].to_string();
        let bind = |text: &str| {
            Server::bind(&urls(&[text]), &Security::Plain, |_: Request| std::future::pending::<Response>()).unwrap_err()
        };
        let in_use = bind(&format!("http://{taken}"));
        assert!(matches!(in_use.reason, BindFailure::InUse) && in_use.reason.is_transient());
        assert_eq!(in_use.to_string(), format!("cannot listen on http://{taken}: the address is in use"));
        let foreign = bind("http://192.0.2.1:0");
        assert!(matches!(foreign.reason, BindFailure::NotOurs) && foreign.reason.is_transient());
        let name = bind("http://etcd-0.etcd.default.svc:0");
        assert!(matches!(name.reason, BindFailure::NotAnAddress) && !name.reason.is_transient());
        assert!(matches!(bind("https://127.0.0.1:0").reason, BindFailure::NoTls));
    }

    #[tokio::test]
    async fn https_urls_are_served_with_tls_and_http_ones_without() {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![cert.der().clone()], key).unwrap();
        let security = Security::Tls(Arc::new(config));
        let server = Server::bind(&urls(&["https://127.0.0.1:0", "http://127.0.0.1:0"]), &security, |_: Request| {
            std::future::ready(response(StatusCode::OK, "text/plain", "ok"))
        })
        .unwrap();

        let mut roots = rustls::RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connect(&server).await;
        let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(rest(stream).await.ends_with("ok"));

        let mut plain = TcpStream::connect(server.addresses()[1]).await.unwrap();
        plain.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(rest(plain).await.ends_with("ok"));
        server.close().await;
    }
}

//! What a pod's peer port says: this program's statement, or etcd's `/members` and `/version`.

use std::error::Error as _;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Body as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::time::timeout_at;

use super::{Asker, Question};
use crate::connect::{self, ClosedUnheard, Security, Wire};
use crate::names::{ClusterId, MemberId};
use crate::observation::{EtcdVersion, EtcdView, ListFailure, Member, PeerView, Silence, Statement};
use crate::rollcall::{NAMESPACE_HEADER, POD_HEADER, RESOLVED_HEADER, SAYS_HEADER, SERVICE_HEADER, STATEMENT_PATH};

const STATEMENT_BYTES_MAX: usize = 64 * 1024;
const MEMBERS_BYTES_MAX: usize = 4 * 1024 * 1024;
const VERSION_BYTES_MAX: usize = 4 * 1024;
/// For the head of an answer, and what is read ahead of its body.
const BUFFER_BYTES_MAX: usize = 32 * 1024;

/// Asks one address. Who was etcd last time is asked for etcd's view first.
///
/// # Errors
/// The reason why nothing usable came.
pub(super) async fn ask(
    question: &Question,
    address: IpAddr,
    asker: &Asker,
    security: &Security,
    was_etcd: bool,
) -> Result<PeerView, Silence> {
    let mut port = PeerPort { question, address, asker, security, connection: None };
    let work = async {
        if was_etcd && let Some(view) = port.etcd().await? {
            return Ok(PeerView::Etcd(view));
        }
        if let Some(statement) = port.statement().await? {
            return Ok(PeerView::Waiting(statement));
        }
        match port.etcd().await? {
            Some(view) => Ok(PeerView::Etcd(view)),
            None => Err(port.not_etcd("has neither a statement nor /members")),
        }
    };
    match timeout_at(question.deadline, work).await {
        Ok(Err(Silence::Unreachable(_))) if port.wants_tls().await => {
            Err(Silence::Tls { address: port.socket(), reason: connect::UNASKED_TLS.to_owned() })
        }
        Ok(answer) => answer,
        Err(_) => Err(port.tls_failure().unwrap_or_else(|| Silence::TimedOut(port.socket()))),
    }
}

/// One address of a pod, and the connection to it.
struct PeerPort<'a> {
    question: &'a Question,
    address: IpAddr,
    asker: &'a Asker,
    security: &'a Security,
    connection: Option<Connection>,
}

struct Connection {
    sender: http1::SendRequest<Empty<Bytes>>,
    wire: Wire,
    driver: tokio::task::JoinHandle<hyper::Result<()>>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// An answer, read to its end.
struct Reply {
    head: http::response::Parts,
    body: Bytes,
}

impl PeerPort<'_> {
    /// The statement; none where there is no such page.
    async fn statement(&mut self) -> Result<Option<Statement>, Silence> {
        let reply = self.get(STATEMENT_PATH, STATEMENT_BYTES_MAX).await?;
        match reply.head.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            other => return Err(self.not_etcd(&format!("answers {other} to {STATEMENT_PATH}"))),
        }
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let bad = |error: serde_json::Error| self.not_etcd(&format!("makes a statement that cannot be read: {error}"));
        let version = serde_json::from_slice::<Versioned>(&reply.body).map_err(bad)?.version;
        if version != Statement::VERSION {
            let own = Statement::VERSION;
            return Err(self.not_etcd(&format!("makes statements of version {version}, this program of {own}")));
        }
        let statement: Statement = serde_json::from_slice(&reply.body).map_err(bad)?;
        let expected = (&self.question.pod, self.asker.namespace.as_str(), self.asker.service.as_str());
        if (&statement.pod, statement.namespace.as_str(), statement.service.as_str()) != expected {
            let Statement { pod, namespace, service, .. } = statement;
            let found = format!("pod {pod} of service `{service}` in namespace `{namespace}`");
            return Err(Silence::SomebodyElse { address: self.socket(), found });
        }
        Ok(Some(statement))
    }

    /// etcd's view, without the client port's part; none where there is no such page, as with a pod that waits by now.
    async fn etcd(&mut self) -> Result<Option<EtcdView>, Silence> {
        let reply = self.get("/members", MEMBERS_BYTES_MAX).await?;
        match reply.head.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::SERVICE_UNAVAILABLE => return Ok(None),
            other => return Err(self.not_etcd(&format!("answers {other} to /members"))),
        }
        let id = reply.head.headers.get("x-etcd-cluster-id").and_then(|id| id.to_str().ok());
        let cluster_id = id.and_then(|id| id.parse::<ClusterId>().ok());
        let cluster_id = cluster_id.ok_or_else(|| self.not_etcd("gives no X-Etcd-Cluster-Id with /members"))?;
        let members = parse_members(&reply.body)
            .map_err(|error| self.not_etcd(&format!("gives /members that cannot be read: {error}")))?;
        // The rest stands without it.
        let version = self.get("/version", VERSION_BYTES_MAX).await.ok();
        let version: Option<EtcdVersion> = version.and_then(|reply| serde_json::from_slice(&reply.body).ok());
        Ok(Some(EtcdView { cluster_id, members, version, list: Err(ListFailure::NotAsked) }))
    }

    async fn get(&mut self, path: &str, bytes_max: usize) -> Result<Reply, Silence> {
        if self.connection.as_ref().is_none_or(|open| open.sender.is_closed()) {
            self.connection = Some(self.open().await?);
        }
        let Some(connection) = &mut self.connection else { return Err(self.not_etcd("is not connected")) };
        let request = request(self.question, self.asker, path);
        let request = request.map_err(|error| Silence::NotEtcd(format!("no question can be made: {error}")))?;
        let exchange = async {
            connection.sender.ready().await?;
            connection.sender.send_request(request).await
        };
        let (head, body) = exchange.await.map_err(|error| self.http_failure(&error))?.into_parts();
        let too_large = || self.not_etcd(&format!("answers with more than {bytes_max} bytes to {path}"));
        if body.size_hint().lower() > bytes_max as u64 {
            return Err(too_large());
        }
        match Limited::new(body, bytes_max).collect().await {
            Ok(body) => Ok(Reply { head, body: body.to_bytes() }),
            Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
            Err(error) => match error.downcast::<hyper::Error>() {
                Ok(error) => Err(self.http_failure(&error)),
                Err(error) => Err(self.not_etcd(&error.to_string())),
            },
        }
    }

    async fn open(&self) -> Result<Connection, Silence> {
        let Question { url, deadline, .. } = self.question;
        let dialled = connect::dial_one(url, self.address, self.security, *deadline).await?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(BUFFER_BYTES_MAX);
        let handshake = builder.handshake(TokioIo::new(dialled.stream)).await;
        let (sender, connection) = handshake.map_err(|error| self.http_failure(&error))?;
        Ok(Connection { sender, wire: dialled.wire, driver: tokio::spawn(connection) })
    }

    fn http_failure(&self, error: &hyper::Error) -> Silence {
        if let Some(failure) = self.tls_failure() {
            return failure;
        }
        if error.is_parse() || error.is_parse_too_large() {
            return self.not_etcd(&format!("does not speak HTTP/1.1 ({error})"));
        }
        match self.connection.as_ref().and_then(|open| open.wire.closed_unheard()) {
            Some(ClosedUnheard::Secure) => {
                Silence::Tls { address: self.socket(), reason: ClosedUnheard::Secure.to_string() }
            }
            Some(ClosedUnheard::Plain) => Silence::Unreachable(format!("{}: {}", self.socket(), ClosedUnheard::Plain)),
            None => {
                let cause = error.source().map(|cause| format!(" ({cause})")).unwrap_or_default();
                Silence::Unreachable(format!("{}: {error}{cause}", self.socket()))
            }
        }
    }

    /// It has closed a plain connection without a word, as etcd does where it wants TLS, and as many do for other reasons.
    async fn wants_tls(&self) -> bool {
        let wire = self.connection.as_ref().map(|open| &open.wire);
        let is_closed = wire.and_then(Wire::closed_unheard) == Some(ClosedUnheard::Plain);
        let socket = SocketAddr::new(self.address, self.question.url.port);
        is_closed && connect::speaks_tls(socket, self.question.deadline).await
    }

    fn tls_failure(&self) -> Option<Silence> {
        let reason = self.connection.as_ref()?.wire.tls_failure()?;
        Some(Silence::Tls { address: self.socket(), reason })
    }

    fn not_etcd(&self, what: &str) -> Silence {
        Silence::NotEtcd(format!("{} {what}", self.socket()))
    }

    fn socket(&self) -> String {
        SocketAddr::new(self.address, self.question.url.port).to_string()
    }
}

fn request(question: &Question, asker: &Asker, path: &str) -> http::Result<Request<Empty<Bytes>>> {
    let request = Request::get(path)
        .header(header::HOST, question.url.authority())
        .header(POD_HEADER, asker.pod.as_str())
        .header(NAMESPACE_HEADER, &asker.namespace)
        .header(SERVICE_HEADER, &asker.service)
        .header(RESOLVED_HEADER, if question.own_name_resolves { "true" } else { "false" });
    let request = match &question.says {
        Some(says) => request.header(SAYS_HEADER, says),
        None => request,
    };
    request.body(Empty::new())
}

/// Reads the body of etcd's `/members`; none is `null`, which an etcd says whose WAL has no entry yet.
///
/// # Errors
/// It is not JSON, or no list of members.
pub fn parse_members(body: &[u8]) -> serde_json::Result<Option<Vec<Member>>> {
    let members: Option<Vec<PeerPortMember>> = serde_json::from_slice(body)?;
    Ok(members.map(|members| members.into_iter().map(Member::from).collect()))
}

/// A member as `/members` shows it: IDs are decimal numbers, and Go writes an empty list as `null`.
#[derive(Deserialize)]
struct PeerPortMember {
    id: u64,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "peerURLs")]
    peer_urls: Option<Vec<String>>,
    #[serde(default, rename = "clientURLs")]
    client_urls: Option<Vec<String>>,
    #[serde(default, rename = "isLearner")]
    is_learner: bool,
}

impl From<PeerPortMember> for Member {
    fn from(member: PeerPortMember) -> Self {
        Self {
            id: MemberId(member.id),
            name: member.name,
            peer_urls: member.peer_urls.unwrap_or_default(),
            client_urls: member.client_urls.unwrap_or_default(),
            is_learner: member.is_learner,
        }
    }
}

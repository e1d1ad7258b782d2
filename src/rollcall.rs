//! The roll call, as it is answered: this pod's statement on its own peer URLs, and word of who dials there.

use std::net::IpAddr;

use http::{HeaderValue, Method, StatusCode};
use tokio::sync::{mpsc, watch};

use crate::http_server::{BindError, Request, Response, Security, Server, response};
use crate::names::{PodName, Url};
use crate::observation::Statement;

/// Where the statement is.
pub const STATEMENT_PATH: &str = "/etcd-bootstrap/statement";
/// On each response: this program's version. An etcd never sends it.
pub const VERSION_HEADER: &str = "x-etcd-bootstrap";
/// On a request: the pod that asks.
pub const POD_HEADER: &str = "x-etcd-bootstrap-pod";
/// On a request: the namespace of the pod that asks.
pub const NAMESPACE_HEADER: &str = "x-etcd-bootstrap-namespace";
/// On a request: the headless service of the pod that asks; empty where it has none.
pub const SERVICE_HEADER: &str = "x-etcd-bootstrap-service";
/// On a request: `true` where the pod that asks has its own name in DNS, so that it can be dialled back.
pub const RESOLVED_HEADER: &str = "x-etcd-bootstrap-resolved";

/// On a request: the digest of the asking pod's own statement, so that this pod knows whether it has heard it yet.
pub const SAYS_HEADER: &str = "x-etcd-bootstrap-says";

/// A short name of a statement: the same statement has the same one.
pub fn digest(statement: &Statement) -> String {
    let json = serde_json::to_vec(statement).unwrap_or_default();
    format!("{:08x}", crc32c::crc32c(&json))
}

/// A pod's name is a DNS label, or an address where the peers are given as such.
const POD_NAME_BYTES_MAX: usize = 63;
const DIGEST_BYTES_MAX: usize = 8;

/// Somebody has dialled the peer port: DNS is worth asking now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialled {
    /// The pod that says it asks; none where an etcd dials, or a pod of another service. Nobody proves it.
    pub pod: Option<PodName>,
    /// It says that its own name is in DNS; false where it does not say.
    pub resolved: bool,
    /// The digest of what it says itself.
    pub says: Option<String>,
    /// The digest of what it was told.
    pub told: Option<String>,
    /// Where it dials from.
    pub address: IpAddr,
}

/// What answers on the peer URLs.
#[derive(Clone, Debug)]
pub struct RollCall {
    statement: watch::Receiver<Option<Statement>>,
    dialled: mpsc::Sender<Dialled>,
}

impl RollCall {
    /// Answers with the latest statement, and reports dials; what does not fit the channel is dropped, for one
    /// report tells as much as ten.
    pub fn new(statement: watch::Receiver<Option<Statement>>, dialled: mpsc::Sender<Dialled>) -> Self {
        Self { statement, dialled }
    }

    /// Serves it on these URLs, etcd's `--listen-peer-urls`.
    ///
    /// # Errors
    /// The first URL that cannot be listened on.
    pub fn serve(self, urls: &[Url], security: &Security) -> Result<Server, BindError> {
        Server::bind(urls, security, move |request| std::future::ready(self.answer(&request)))
    }

    /// The statement on its path, 503 without one, and 503 everywhere else: etcd says 404 there, and so is told
    /// apart.
    pub fn answer(&self, request: &Request) -> Response {
        let statement = self.statement.borrow().clone();
        let _full = self.dialled.try_send(dialled(request, statement.as_ref()));
        let is_read = matches!(request.head.method, Method::GET | Method::HEAD);
        let body = statement.filter(|_| is_read && request.path() == STATEMENT_PATH);
        let mut response = match body.map(|statement| serde_json::to_vec(&statement)) {
            Some(Ok(json)) => response(StatusCode::OK, "application/json", json),
            _ => response(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", waits_here()),
        };
        response.headers_mut().insert(VERSION_HEADER, HeaderValue::from_static(env!("CARGO_PKG_VERSION")));
        response
    }
}

fn waits_here() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("etcd-bootstrap {version} waits here: this pod's etcd has not started yet. See {STATEMENT_PATH}\n")
}

fn dialled(request: &Request, own: Option<&Statement>) -> Dialled {
    let is_ours = own.is_none_or(|own| {
        let same = |header, value: &str| request.header(header).is_none_or(|given| given == value);
        same(NAMESPACE_HEADER, &own.namespace) && same(SERVICE_HEADER, &own.service)
    });
    let pod = request.header(POD_HEADER).filter(|name| is_ours && is_pod_name(name)).map(PodName::new);
    let resolved = pod.is_some() && request.header(RESOLVED_HEADER) == Some("true");
    let says = request.header(SAYS_HEADER).filter(|says| says.len() <= DIGEST_BYTES_MAX).map(str::to_owned);
    let told = own.filter(|_| request.path() == STATEMENT_PATH).map(digest);
    Dialled { pod, resolved, says, told, address: request.from }
}

/// It ends up in DNS queries and in logs.
fn is_pod_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':' | b'_');
    (1..=POD_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intent::{Founder, Plan};
    use crate::observation::Kind;

    fn statement() -> Statement {
        let founder =
            |n: u8| Founder { name: format!("e-{n}"), peer_urls: vec![format!("http://e-{n}.e:1").parse().unwrap()] };
        Statement {
            version: Statement::VERSION,
            pod: "e-0".into(),
            service: "e".to_owned(),
            namespace: "ns".to_owned(),
            disk_id: "d".into(),
            process_id: "p".into(),
            plan: Plan::new(vec![founder(0), founder(1)], "ns/e".to_owned()),
            kind: Kind::Blank,
        }
    }

    fn request(method: Method, path: &str, headers: &[(&str, &str)]) -> Request {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Request { head: request.body(()).unwrap().into_parts().0, from: [10, 0, 0, 7].into() }
    }

    fn roll_call(said: Option<Statement>, room: usize) -> (RollCall, mpsc::Receiver<Dialled>) {
        let (dialled, dials) = mpsc::channel(room);
        (RollCall::new(watch::channel(said).1, dialled), dials)
    }

    /// Status and body, by an ordinary client.
    async fn get(server: &Server, path: &str) -> (StatusCode, Option<HeaderValue>, Vec<u8>) {
        use http_body_util::{BodyExt, Empty};
        let stream = tokio::net::TcpStream::connect(server.addresses()[0]).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut client, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get(path).body(Empty::<bytes::Bytes>::new()).unwrap();
        let (head, body) = client.send_request(request).await.unwrap().into_parts();
        let version = head.headers.get(VERSION_HEADER).cloned();
        (head.status, version, body.collect().await.unwrap().to_bytes().to_vec())
    }

    #[tokio::test]
    async fn the_latest_statement_goes_over_the_wire() {
        let (said, heard) = watch::channel(None);
        let (dialled, mut dials) = mpsc::channel(9);
        let urls = ["http://127.0.0.1:0".parse().unwrap()];
        let server = RollCall::new(heard, dialled).serve(&urls, &Security::Plain).unwrap();

        assert_eq!(get(&server, STATEMENT_PATH).await.0, StatusCode::SERVICE_UNAVAILABLE, "nothing is said yet");
        said.send_replace(Some(statement()));
        let (status, version, body) = get(&server, STATEMENT_PATH).await;
        assert_eq!((status, version.unwrap().to_str().unwrap()), (StatusCode::OK, env!("CARGO_PKG_VERSION")));
        assert_eq!(serde_json::from_slice::<Statement>(&body).unwrap(), statement());
        let prepared = Statement { kind: Kind::Prepared([("e-0".into(), "d".into())].into()), ..statement() };
        said.send_replace(Some(prepared.clone()));
        let body = get(&server, STATEMENT_PATH).await.2;
        assert_eq!(serde_json::from_slice::<Statement>(&body).unwrap(), prepared);

        let (status, version, body) = get(&server, "/members").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "an etcd would say 200, and 404 to what it does not know");
        assert!(version.is_some() && String::from_utf8(body).unwrap().starts_with("etcd-bootstrap "));
        let anonymous = Dialled { pod: None, resolved: false, says: None, told: None, address: [127, 0, 0, 1].into() };
        assert_eq!(dials.recv().await, Some(anonymous));
        server.close().await;
    }

    #[test]
    fn who_dials_is_reported() {
        let (roll_call, mut dials) = roll_call(Some(statement()), 9);
        let who = [(POD_HEADER, "e-1"), (NAMESPACE_HEADER, "ns"), (SERVICE_HEADER, "e"), (RESOLVED_HEADER, "true")];
        roll_call.answer(&request(Method::GET, STATEMENT_PATH, &who));
        let address = IpAddr::from([10, 0, 0, 7]);
        assert_eq!(
            dials.try_recv().unwrap(),
            Dialled { pod: Some("e-1".into()), resolved: true, says: None, told: Some(digest(&statement())), address }
        );
        let anonymous = Dialled { pod: None, resolved: false, says: None, told: None, address };
        let foreign = [(POD_HEADER, "e-1"), (NAMESPACE_HEADER, "other"), (RESOLVED_HEADER, "true")];
        let broken = [(POD_HEADER, "e-1\u{20}{}"), (RESOLVED_HEADER, "true")];
        let long = "x".repeat(64);
        for headers in [&foreign[..], &broken[..], &[(POD_HEADER, &long)], &[]] {
            roll_call.answer(&request(Method::GET, "/raft/stream/message/1", headers));
            assert_eq!(dials.try_recv().unwrap(), anonymous, "{headers:?}");
        }
    }

    #[test]
    fn reports_that_nobody_reads_are_dropped() {
        let (roll_call, mut dials) = roll_call(Some(statement()), 1);
        for _ in 0..3 {
            assert_eq!(roll_call.answer(&request(Method::GET, STATEMENT_PATH, &[])).status(), StatusCode::OK);
        }
        assert!(dials.try_recv().is_ok() && dials.try_recv().is_err());
        drop(dials);
        assert_eq!(roll_call.answer(&request(Method::GET, STATEMENT_PATH, &[])).status(), StatusCode::OK);
    }

    #[test]
    fn only_reading_gives_the_statement() {
        let (roll_call, _dials) = roll_call(Some(statement()), 1);
        let status = |method| roll_call.answer(&request(method, STATEMENT_PATH, &[])).status();
        assert_eq!(status(Method::HEAD), StatusCode::OK);
        assert_eq!(status(Method::POST), StatusCode::SERVICE_UNAVAILABLE);
    }
}

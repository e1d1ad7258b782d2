//! What kubelet, Prometheus and people ask where etcd will answer them later: it lives, it is not ready, and why.

use std::sync::Arc;

use http::{Method, StatusCode};
use serde::Serialize;
use tokio::sync::watch;

use crate::http_server::{BindError, Request, Response, Security, Server, response};
use crate::metrics::{self, Counters};
use crate::names::{Scheme, Url};
use crate::status::Status;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// Where probes are answered: where etcd will answer them without TLS. That is on `--listen-metrics-urls`; where there is
/// none, on `--listen-client-http-urls`, which take the pages of the client URLs with them, and else on those.
pub fn urls(listen_metrics_urls: &[Url], listen_client_http_urls: &[Url], listen_client_urls: &[Url]) -> Vec<Url> {
    let plain = |urls: &[Url]| urls.iter().filter(|url| url.scheme == Scheme::Http).cloned().collect::<Vec<_>>();
    let places = [listen_metrics_urls, listen_client_http_urls, listen_client_urls];
    places.into_iter().map(plain).find(|urls| !urls.is_empty()).unwrap_or_default()
}

/// What answers there.
#[derive(Clone, Debug)]
pub struct Probes {
    status: watch::Receiver<Arc<Status>>,
    counters: Arc<Counters>,
}

/// The shape of etcd's own `/health`.
#[derive(Serialize)]
struct Health<'a> {
    health: &'static str,
    reason: &'a str,
}

impl Probes {
    /// Answers with the latest status and the counters as they are.
    pub fn new(status: watch::Receiver<Arc<Status>>, counters: Arc<Counters>) -> Self {
        Self { status, counters }
    }

    /// Serves it on these URLs, as [`urls`] gives them.
    ///
    /// # Errors
    /// The first URL that cannot be listened on.
    pub fn serve(self, urls: &[Url]) -> Result<Server, BindError> {
        Server::bind(urls, &Security::Plain, move |request| std::future::ready(self.answer(&request)))
    }

    /// `/livez`, `/readyz`, `/health`, `/status` and `/metrics`; 404 for the rest.
    pub fn answer(&self, request: &Request) -> Response {
        if !matches!(request.head.method, Method::GET | Method::HEAD) {
            return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n");
        }
        let status = Arc::clone(&self.status.borrow());
        match request.path() {
            "/livez" => response(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" | "/health" => {
                let reason = format!("etcd-bootstrap is {}: {}", status.phase, status.decision.why);
                let health = serde_json::to_string(&Health { health: "false", reason: &reason });
                json(StatusCode::SERVICE_UNAVAILABLE, health)
            }
            "/status" => json(StatusCode::OK, status.json(request.asks("pretty"))),
            "/metrics" => response(StatusCode::OK, metrics::CONTENT_TYPE, metrics::text(&status, &self.counters)),
            _ => response(StatusCode::NOT_FOUND, TEXT, "see /livez, /readyz, /health, /status and /metrics\n"),
        }
    }
}

fn json(status: StatusCode, body: serde_json::Result<String>) -> Response {
    match body {
        Ok(body) => response(status, JSON, body),
        Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::status::tests::waiting;

    async fn ask(server: &Server, method: &str, path: &str) -> (String, String) {
        let mut stream = tokio::net::TcpStream::connect(server.addresses()[0]).await.unwrap();
        stream.write_all(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    #[tokio::test]
    async fn it_lives_is_not_ready_and_says_why() {
        let (status, seen) = watch::channel(Arc::new(waiting()));
        let urls = ["http://127.0.0.1:0".parse().unwrap()];
        let server = Probes::new(seen, Arc::default()).serve(&urls).unwrap();
        let (head, body) = ask(&server, "GET", "/livez").await;
        assert!(head.starts_with("HTTP/1.1 200 OK") && body == "ok\n", "{head}");
        for path in ["/readyz", "/health", "/health?serializable=true"] {
            let (head, body) = ask(&server, "GET", path).await;
            assert!(head.starts_with("HTTP/1.1 503 Service Unavailable"), "{head}");
            assert_eq!(body, r#"{"health":"false","reason":"etcd-bootstrap is waiting: etcd-1 is silent"}"#);
        }
        let mut later = waiting();
        later.decision.why = "etcd-2 is silent".to_owned();
        status.send_replace(Arc::new(later));
        assert!(ask(&server, "GET", "/readyz").await.1.contains("etcd-2 is silent"));
        server.close().await;
    }

    #[tokio::test]
    async fn the_picture_and_the_numbers() {
        let (_status, seen) = watch::channel(Arc::new(waiting()));
        let urls = ["http://127.0.0.1:0".parse().unwrap()];
        let server = Probes::new(seen, Arc::default()).serve(&urls).unwrap();
        assert_eq!(ask(&server, "GET", "/status").await.1.lines().count(), 1);
        assert!(ask(&server, "GET", "/status?pretty").await.1.lines().count() > 50);
        let (head, body) = ask(&server, "GET", "/metrics").await;
        assert!(head.contains("text/plain; version=0.0.4") && body.contains("etcd_bootstrap_peers"), "{head}");
        let (head, body) = ask(&server, "HEAD", "/livez").await;
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-length: 3") && body.is_empty(), "{head}");
        assert!(ask(&server, "GET", "/v3/kv/range").await.0.starts_with("HTTP/1.1 404"));
        assert!(ask(&server, "POST", "/livez").await.0.starts_with("HTTP/1.1 405"));
    }

    #[test]
    fn probes_are_answered_where_etcd_will_answer_them_in_the_clear() {
        let of = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Url>>();
        let (metrics, client) = (of(&["http://[::]:2381"]), of(&["https://[::]:2379", "http://127.0.0.1:2379"]));
        let client_http = of(&["http://[::]:2382"]);
        assert_eq!(urls(&metrics, &client_http, &client), metrics);
        assert_eq!(urls(&[], &client_http, &client), client_http);
        assert_eq!(urls(&[], &[], &client), client[1..]);
        assert_eq!(urls(&of(&["https://[::]:2381"]), &[], &of(&["https://[::]:2379"])), []);
    }
}

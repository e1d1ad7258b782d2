//! A Kubernetes API server for one StatefulSet: HTTPS, a token, RBAC, and the answers of Kubernetes 1.37 as they are.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread::JoinHandle;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::spec::PodSpec;
use super::tools;
use super::world::World;

/// The first address of the services' range, as in every cluster.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1));
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InBvZHMifQ.pods.pods";
const USER: &str = "system:serviceaccount:default:etcd";

/// What the API knows, and what it lets the pods' service account do.
pub struct Book {
    pub replicas: u32,
    pub parallel: bool,
    pub ordinal_start: u32,
    /// The names of the namespace's PersistentVolumeClaims.
    pub claims: Vec<String>,
    /// As in a Role: `get statefulsets/scale` and so on.
    pub rules: Vec<&'static str>,
    /// It takes questions and never answers.
    pub hangs: bool,
}

/// Serves until it is dropped.
pub struct KubeApi {
    book: Arc<Mutex<Book>>,
    ca: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl KubeApi {
    /// The API of a StatefulSet `etcd` in the namespace `default`; the service account may read its scale.
    pub fn start(world: &World, replicas: u32) -> Self {
        let rules = vec!["get statefulsets/scale"];
        let book = Book { replicas, parallel: true, ordinal_start: 0, claims: Vec::new(), rules, hangs: false };
        let book = Arc::new(Mutex::new(book));
        let (ca, acceptor) = certificates();
        let (stop, stopped) = oneshot::channel();
        let (ready_sender, ready) = mpsc::channel();
        let (node, shared) = (Arc::clone(&world.node().netns), Arc::clone(&book));
        let thread = std::thread::spawn(move || {
            node.enter();
            tools::run(&["ip", "addr", "replace", &format!("{ADDRESS}/32"), "dev", "lo"])
                .expect("failed to add an address");
            super::client::runtime().block_on(async {
                let listener = TcpListener::bind(SocketAddr::new(ADDRESS, 443)).await.expect("failed to bind the API");
                ready_sender.send(()).ok();
                tokio::select! {
                    () = serve(listener, acceptor, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        ready.recv().expect("the API server's thread died");
        Self { book, ca, stop: Some(stop), thread: Some(thread) }
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no holder panics")
    }

    pub fn scale(&self, replicas: u32) {
        self.book().replicas = replicas;
    }

    /// The pod with its service account, as Kubernetes mounts it.
    #[must_use]
    pub fn mount(&self, spec: PodSpec) -> PodSpec {
        let namespace = spec.namespace.clone();
        spec.file(&format!("{ACCOUNT}/token"), TOKEN)
            .file(&format!("{ACCOUNT}/ca.crt"), &self.ca)
            .file(&format!("{ACCOUNT}/namespace"), namespace)
            .env("KUBERNETES_SERVICE_HOST", &ADDRESS.to_string())
            .env("KUBERNETES_SERVICE_PORT", "443")
    }
}

impl Drop for KubeApi {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// The authority as PEM, and what the server shows.
fn certificates() -> (String, TlsAcceptor) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let ca = params.self_signed(&key).expect("an authority").pem();
    let issuer = Issuer::new(params, key);
    let names = vec![ADDRESS.to_string(), "kubernetes.default.svc".to_owned()];
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(names).and_then(|params| params.signed_by(&key, &issuer));
    let certificate = certificate.expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key));
    (ca, TlsAcceptor::from(Arc::new(config.expect("a configuration"))))
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, book: Arc<Mutex<Book>>) {
    loop {
        let Ok((tcp, _)) = listener.accept().await else { continue };
        let (acceptor, book) = (acceptor.clone(), Arc::clone(&book));
        tokio::spawn(async move {
            let Ok(tls) = acceptor.accept(tcp).await else { return };
            let service = hyper::service::service_fn(|request| answer(&book, request));
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await.ok();
        });
    }
}

async fn answer(book: &Mutex<Book>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if book.lock().expect("no holder panics").hangs {
        std::future::pending::<()>().await;
    }
    let token = request.headers().get("authorization").and_then(|token| token.to_str().ok());
    let (status, body) = match token {
        Some(token) if token == format!("Bearer {TOKEN}") => {
            object(&book.lock().expect("no holder panics"), request.method().as_str(), request.uri().path())
        }
        _ => failure(401, "Unauthorized", "Unauthorized".to_owned()),
    };
    let response = Response::builder().status(status).header("content-type", "application/json");
    Ok(response.body(Full::from(format!("{body:#}\n"))).expect("a response"))
}

fn object(book: &Book, method: &str, path: &str) -> (u16, Value) {
    let sets = "/apis/apps/v1/namespaces/default/statefulsets/";
    let (rule, group, name, object) = match (method, path) {
        ("GET", "/api/v1/namespaces/default/persistentvolumeclaims") => {
            ("list persistentvolumeclaims", "", "", claims(book))
        }
        ("GET", path) if path.starts_with(sets) && path.ends_with("/scale") => {
            let name = &path[sets.len()..path.len() - "/scale".len()];
            ("get statefulsets/scale", "apps", name, scale(book))
        }
        ("GET", path) if path.starts_with(sets) => {
            ("get statefulsets", "apps", &path[sets.len()..], stateful_set(book))
        }
        _ => return failure(404, "NotFound", "the server could not find the requested resource".to_owned()),
    };
    if !book.rules.contains(&rule) {
        let (verb, resource) = rule.split_once(' ').expect("a verb and a resource");
        let what = if name.is_empty() { resource.to_owned() } else { format!("statefulsets.apps \"{name}\"") };
        let message = format!(
            "{what} is forbidden: User \"{USER}\" cannot {verb} resource \"{resource}\" in API group \"{group}\" in the \
             namespace \"default\""
        );
        return failure(403, "Forbidden", message);
    }
    if !matches!(name, "" | "etcd") {
        return failure(404, "NotFound", format!("statefulsets.apps \"{name}\" not found"));
    }
    (200, object)
}

fn failure(code: u16, reason: &str, message: String) -> (u16, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code});
    (code, status)
}

fn metadata() -> Value {
    json!({"name": "etcd", "namespace": "default", "uid": "e499d1b6-6a8d-4df7-a0c6-2813368ad59b",
        "resourceVersion": "1316", "creationTimestamp": "2026-11-23T12:23:28Z"})
}

/// Go leaves out what is zero.
fn replicas(count: u32) -> Value {
    if count == 0 { json!({}) } else { json!({"replicas": count}) }
}

fn scale(book: &Book) -> Value {
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata(), "spec": replicas(book.replicas),
        "status": {"replicas": book.replicas, "selector": "app=etcd"}})
}

fn stateful_set(book: &Book) -> Value {
    let policy = if book.parallel { "Parallel" } else { "OrderedReady" };
    json!({"kind": "StatefulSet", "apiVersion": "apps/v1", "metadata": metadata(), "spec": {
        "replicas": book.replicas, "selector": {"matchLabels": {"app": "etcd"}}, "template": {"spec": {"containers": []}},
        "volumeClaimTemplates": [{"kind": "PersistentVolumeClaim", "apiVersion": "v1", "metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"]}, "status": {"phase": "Pending"}}],
        "ordinals": {"start": book.ordinal_start}, "serviceName": "etcd", "podManagementPolicy": policy, "updateStrategy": {"type": "RollingUpdate"}},
        "status": {"replicas": book.replicas}})
}

fn claims(book: &Book) -> Value {
    let item = |name: &String| {
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
            "metadata": {"name": name, "namespace": "default", "labels": {"app": "etcd"},
                "finalizers": ["kubernetes.io/pvc-protection"]}})
    };
    let items: Vec<Value> = book.claims.iter().map(item).collect();
    json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": "4619"},
        "items": items})
}

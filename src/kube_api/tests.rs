//! Against a server with TLS that says what an API server of Kubernetes 1.37 says.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::intent::tests::intent;
use crate::observation::DnsFailure;

const SCALE: &str = r#"{"kind":"Scale","apiVersion":"autoscaling/v1","metadata":{"name":"etcd","namespace":"ns",
    "uid":"e499d1b6-6a8d-4df7-a0c6-2813368ad59b","resourceVersion":"1316","creationTimestamp":"2026-11-23T12:23:28Z"},
    "spec":{"replicas":5},"status":{"replicas":5,"selector":"app=etcd"}}"#;
const SET: &str = r#"{"kind":"StatefulSet","apiVersion":"apps/v1","metadata":{"name":"etcd","namespace":"ns"},
    "spec":{"replicas":3,"selector":{"matchLabels":{"app":"etcd"}},"template":{"spec":{"containers":[]}},
    "volumeClaimTemplates":[{"kind":"PersistentVolumeClaim","apiVersion":"v1","metadata":{"name":"data"},
    "spec":{"accessModes":["ReadWriteOnce"]},"status":{"phase":"Pending"}}],"serviceName":"etcd",
    "podManagementPolicy":"POLICY","updateStrategy":{"type":"RollingUpdate"},"revisionHistoryLimit":10},
    "status":{"replicas":3,"availableReplicas":3}}"#;
const PAGE_1: &str = r#"{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":
    {"resourceVersion":"4619","continue":"eyJ2-_X","remainingItemCount":3},"items":[{"kind":"PartialObjectMetadata",
    "apiVersion":"meta.k8s.io/v1","metadata":{"name":"data-etcd-0","namespace":"ns"}},
    {"metadata":{"name":"data-etcd-x"}},{"metadata":{"name":"data-my-etcd-7"}},{"metadata":{"name":"logs-etcd-8"}}]}"#;
const PAGE_2: &str = r#"{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1",
    "metadata":{"resourceVersion":"4619"},"items":[{"metadata":{"name":"data-etcd-2"}}]}"#;
const FORBIDDEN: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":
    "statefulsets.apps \"etcd\" is forbidden: User \"system:serviceaccount:ns:default\" cannot get","reason":"Forbidden","code":403}"#;

struct NoNames;

impl Resolve for NoNames {
    async fn addresses(&self, _: &str) -> Result<Vec<IpAddr>, DnsFailure> {
        Err(DnsFailure::NxDomain)
    }
}

/// A server with a service account's volume.
struct Server {
    account: TempDir,
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers each question with what `answer` makes of its path: a status and a body; or hangs.
    async fn new(answer: impl Fn(&str) -> Option<(u16, String)> + Send + Sync + 'static) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let names = vec!["127.0.0.1".to_owned(), "kubernetes.default.svc".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (answer, log) = (Arc::new(answer), asked.clone());
        let serve = async move |tcp| {
            let Ok(mut tls) = acceptor.accept(tcp).await else { return };
            let mut question = Vec::new();
            while !question.ends_with(b"\r\n\r\n") {
                question.push(tls.read_u8().await.unwrap());
            }
            let question = String::from_utf8(question).unwrap();
            let path = question.split(' ').nth(1).unwrap().to_owned();
            log.lock().unwrap().push(question);
            // Nobody reads the answer to what hangs.
            let Some((status, body)) = answer(&path) else { return std::mem::forget(tls) };
            let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len());
            tls.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
            tls.shutdown().await.ok();
        };
        tokio::spawn(async move {
            loop {
                serve(listener.accept().await.unwrap().0).await;
            }
        });
        let account = TempDir::new().unwrap();
        std::fs::write(account.path().join("ca.crt"), ca).unwrap();
        std::fs::write(account.path().join("token"), "t0ken\n").unwrap();
        Self { account, port, asked }
    }

    async fn always(status: u16, body: &'static str) -> Self {
        Self::new(move |_| Some((status, body.to_owned()))).await
    }

    fn api(&self) -> KubeApi<NoNames> {
        api(Some("127.0.0.1"), self.port, self.account.path()).unwrap()
    }

    async fn replicas(&self) -> Result<u32, ApiFailure> {
        self.api().replicas(soon()).await
    }
}

fn api(host: Option<&str>, port: u16, account: &Path) -> Result<KubeApi<NoNames>, ApiFailure> {
    let place = ApiPlace { host: host.map(str::to_owned), port, service_account: account.to_owned() };
    KubeApi::new(&place, &intent(1), Arc::new(NoNames))
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

#[tokio::test]
async fn the_wanted_replicas_are_asked_with_a_fresh_token() {
    let server = Server::always(200, SCALE).await;
    assert_eq!(server.replicas().await, Ok(5));
    std::fs::write(server.account.path().join("token"), "n3xt").unwrap();
    assert_eq!(server.replicas().await, Ok(5));
    let asked = server.asked.lock().unwrap();
    assert!(
        asked[0].starts_with("GET /apis/apps/v1/namespaces/ns/statefulsets/etcd/scale HTTP/1.1\r\n"),
        "{}",
        asked[0]
    );
    assert!(asked[0].contains("authorization: Bearer t0ken\r\n"), "{}", asked[0]);
    assert!(asked[1].contains("authorization: Bearer n3xt\r\n"), "{}", asked[1]);
}

#[tokio::test]
async fn no_replicas_are_left_out_by_the_api() {
    assert_eq!(
        Server::always(200, r#"{"kind":"Scale","spec":{},"status":{"replicas":0}}"#).await.replicas().await,
        Ok(0)
    );
    let odd = Server::always(200, r#"{"kind":"Scale"}"#).await.replicas().await;
    assert!(matches!(odd, Err(ApiFailure::Unreadable(_))), "{odd:?}");
}

#[tokio::test]
async fn a_refusal_says_what_is_missing() {
    let forbidden = Server::always(403, FORBIDDEN).await.replicas().await.unwrap_err();
    assert!(forbidden.to_string().contains("system:serviceaccount:ns:default"), "{forbidden}");
    let rule = r#"{apiGroups: ["apps"], resources: [statefulsets/scale], resourceNames: [etcd], verbs: [get]}"#;
    assert!(forbidden.hint().ends_with(rule), "{}", forbidden.hint());
    assert!(!forbidden.is_transient());
    assert_eq!(Server::always(401, "{}").await.replicas().await, Err(ApiFailure::Unauthorized));
    let gone = Server::always(404, "{}").await.replicas().await.unwrap_err();
    assert_eq!(gone.to_string(), "there is no StatefulSet etcd in the namespace ns (404)");
    let busy = Server::always(503, "not json").await.replicas().await.unwrap_err();
    assert!(busy.is_transient() && Server::always(429, "{}").await.replicas().await.unwrap_err().is_transient());
}

#[tokio::test]
async fn an_api_that_cannot_be_asked_says_why() {
    let none = api(None, 443, Path::new("/nowhere")).err().unwrap();
    assert_eq!(none, ApiFailure::NotInKubernetes);
    let account = api(Some("127.0.0.1"), 1, Path::new("/nowhere")).unwrap().replicas(soon()).await.unwrap_err();
    assert!(account.to_string().contains("`/nowhere/token`: No such file"), "{account}");

    let server = Server::new(|_| None).await;
    let late = server.api().replicas(Instant::now() + Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(late, ApiFailure::TimedOut(_)) && late.is_transient(), "{late}");
    let refused = api(Some("127.0.0.1"), 1, server.account.path()).unwrap().replicas(soon()).await.unwrap_err();
    assert!(matches!(&refused, ApiFailure::Unreachable { reason, .. } if reason == "connection refused"), "{refused}");
    let unnamed = api(Some("kube.example"), 1, server.account.path()).unwrap().replicas(soon()).await.unwrap_err();
    assert!(unnamed.to_string().contains("NXDOMAIN"), "{unnamed}");

    std::fs::write(server.account.path().join("ca.crt"), "").unwrap();
    let empty = server.replicas().await.unwrap_err();
    assert!(empty.to_string().ends_with("ca.crt` has no certificate"), "{empty}");
    std::fs::copy(Server::new(|_| None).await.account.path().join("ca.crt"), server.account.path().join("ca.crt"))
        .unwrap();
    let stranger = server.replicas().await.unwrap_err();
    assert!(stranger.to_string().contains("not its signature"), "{stranger}");
    assert!(stranger.hint().contains("ca.crt"));
}

/// A server of this StatefulSet; the claims on two pages, or this refusal.
async fn with_claims(policy: &'static str, refusal: Option<u16>) -> Server {
    Server::new(move |path| {
        Some(match (path, refusal) {
            ("/apis/apps/v1/namespaces/ns/statefulsets/etcd", _) => (200, SET.replace("POLICY", policy)),
            (_, Some(status)) => (status, FORBIDDEN.to_owned()),
            ("/api/v1/namespaces/ns/persistentvolumeclaims?limit=500", None) => (200, PAGE_1.to_owned()),
            ("/api/v1/namespaces/ns/persistentvolumeclaims?limit=500&continue=eyJ2-_X", None) => {
                (200, PAGE_2.to_owned())
            }
            (other, None) => (404, other.to_owned()),
        })
    })
    .await
}

#[tokio::test]
async fn claims_are_told_by_their_names_and_replicas_count_under_parallel() {
    let ordered = with_claims("OrderedReady", None).await.api().pods_wanted(0, soon()).await.unwrap();
    assert_eq!(ordered, PodsWanted { replicas: None, claimed: [0, 2].into() });
    let parallel = with_claims("Parallel", None).await.api().pods_wanted(0, soon()).await.unwrap();
    assert_eq!(parallel, PodsWanted { replicas: Some(3), claimed: [0, 2].into() });
}

#[tokio::test]
async fn without_the_claims_the_replicas_have_to_do_where_there_are_some() {
    let parallel = with_claims("Parallel", Some(403)).await.api().pods_wanted(0, soon()).await.unwrap();
    assert_eq!(parallel, PodsWanted { replicas: Some(3), claimed: [].into() });
    let ordered = with_claims("OrderedReady", Some(403)).await.api().pods_wanted(0, soon()).await.unwrap_err();
    let rule = r#"{apiGroups: [""], resources: [persistentvolumeclaims], verbs: [list]}"#;
    assert!(ordered.hint().ends_with(rule), "{}", ordered.hint());
}

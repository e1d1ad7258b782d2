//! TLS against real etcds, and what its failures look like.

use std::path::Path;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::*;
use crate::etcd::testing::{self, Etcd, LOCAL};
use crate::etcd::{Access, Connection};
use crate::observation::{DnsFailure, PeerView};
use crate::peers::{Asker, PeerClient, Question, Resolve};

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Self { issuer: Issuer::new(params, key), certificate: der, pem }
    }

    /// A certificate for these names.
    fn issue(&self, names: &[&str]) -> (String, KeyPair, CertificateDer<'static>) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key, certificate.der().clone())
    }

    /// Trusts this authority; shows a certificate of `own`, if there is one.
    fn config(&self, own: Option<&Self>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let (_, key, certificate) = own.issue(&["127.0.0.1"]);
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![certificate], key).unwrap()
            }
        }
    }
}

/// An etcd of one member that wants certificates on both ports.
fn start_with_tls(binary: &testing::Binary, authority: &Authority, names: &[&str], files: &Path) -> Etcd {
    let (certificate, key, _) = authority.issue(names);
    let file = |name: &str, text: &str| {
        let path = files.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let (ca, cert) = (file("ca.pem", &authority.pem), file("cert.pem", &certificate));
    let key = file("key.pem", &key.serialize_pem());
    let mut etcd = Etcd::with_scheme(binary, "m1", "https");
    for prefix in ["--", "--peer-"] {
        etcd.args.extend([format!("{prefix}cert-file={cert}"), format!("{prefix}key-file={key}")]);
        etcd.args.extend([format!("{prefix}trusted-ca-file={ca}"), format!("{prefix}client-cert-auth")]);
    }
    let initial = etcd.entry();
    etcd.start(&initial, "new");
    etcd
}

struct NoDns;

impl Resolve for NoDns {
    async fn addresses(&self, _: &str) -> Result<Vec<IpAddr>, DnsFailure> {
        Err(DnsFailure::NxDomain)
    }
}

/// The peer port's part and the client port's, as texts.
async fn ask(url: &Url, own_client_url: &Url, config: &ClientConfig) -> (String, String) {
    let asker = Asker { pod: "m9".into(), namespace: String::new(), service: String::new() };
    let access = Access { security: Security::client_port(config.clone()), credentials: None };
    let client = PeerClient::new(asker, Security::peer_port(config.clone()), access.clone(), own_client_url.clone());
    let deadline = Instant::now() + Duration::from_secs(1);
    let addresses = vec![LOCAL];
    let question =
        Question { pod: "m1".into(), url: url.clone(), addresses, own_name_resolves: true, says: None, deadline };
    let view = client.ask(&question, &NoDns, |_| ()).await;
    let is_rejection = view.is_rejection();
    let view = match view {
        PeerView::Silent(silence) => {
            assert!(is_rejection, "{silence}");
            silence.to_string()
        }
        PeerView::Etcd(view) => format!("{:?}", view.list.map(|list| list.members.len())),
        PeerView::Waiting(_) => "a statement".to_owned(),
    };
    let endpoint = crate::etcd::Endpoint { url: own_client_url.clone(), addresses: vec![LOCAL] };
    let list = async { Connection::open(&endpoint, &access, deadline).await?.linearizable_list(deadline).await };
    let list = match list.await {
        Ok(list) => format!("{} member", list.members.len()),
        Err(failure) => failure.to_string(),
    };
    (view, list)
}

#[tokio::test]
async fn both_ports_are_read_over_mutual_tls_and_its_failures_are_told_apart() {
    for binary in testing::binaries() {
        let files = TempDir::new().unwrap();
        let (authority, other) = (Authority::new("ours"), Authority::new("theirs"));
        let good = authority.config(Some(&authority));
        let etcd = start_with_tls(&binary, &authority, &["127.0.0.1"], files.path());
        let access = Access { security: Security::client_port(good.clone()), credentials: None };
        etcd.list(&access).await;
        let http = |url: &Url| Url { scheme: Scheme::Http, ..url.clone() };
        let mut table = String::new();
        let mut row = |name: &str, (peer, client): (String, String)| {
            let mask = |text: String| {
                text.replace(&etcd.peer_url.port.to_string(), "PEER")
                    .replace(&etcd.client_url.port.to_string(), "CLIENT")
            };
            table.push_str(&format!("{name}\n  peer: {}\n  client: {}\n", mask(peer), mask(client)));
        };
        row("good", ask(&etcd.peer_url, &etcd.client_url, &good).await);
        row("http against https", ask(&http(&etcd.peer_url), &http(&etcd.client_url), &good).await);
        row("unknown authority", ask(&etcd.peer_url, &etcd.client_url, &other.config(Some(&authority))).await);
        let localhost = |url: &Url| Url { host: "localhost".to_owned(), ..url.clone() };
        row("wrong name", ask(&localhost(&etcd.peer_url), &localhost(&etcd.client_url), &good).await);
        // Which alert it is depends on the version, and whether it arrives before the connection is reset, on luck.
        for (name, config) in [("none", authority.config(None)), ("foreign", authority.config(Some(&other)))] {
            let (peer, client) = ask(&etcd.peer_url, &etcd.client_url, &config).await;
            eprintln!("{} certificate {name}: {peer} / {client}", binary.version);
            for text in [peer, client] {
                assert!(text.starts_with("TLS with "), "{text}");
                let is_told =
                    text.contains("rejects this pod's certificate") || text.contains("demands a client certificate");
                assert!(is_told, "{text}");
            }
        }
        insta::allow_duplicates! { insta::assert_snapshot!(table, @r#"
        good
          peer: Ok(1)
          client: 1 member
        http against https
          peer: TLS with 127.0.0.1:PEER: it answers with TLS, and the URL says http
          client: the connection was lost: the connection was closed without an answer (a port that wants TLS does that)
        unknown authority
          peer: TLS with 127.0.0.1:PEER: its certificate is signed by no CA of this pod's CA file, and is not in it (another CA, or a self-signed certificate that was renewed)
          client: TLS with 127.0.0.1:CLIENT: its certificate is signed by no CA of this pod's CA file, and is not in it (another CA, or a self-signed certificate that was renewed)
        wrong name
          peer: TLS with 127.0.0.1:PEER: its certificate is not for localhost: its names are 127.0.0.1
          client: TLS with 127.0.0.1:CLIENT: its certificate is not for localhost: its names are 127.0.0.1
        "#) };
    }
}

#[tokio::test]
async fn https_against_http_is_told() {
    let Some(binary) = testing::one_binary() else { return };
    let plain = testing::running_cluster(&binary, 1).await;
    let authority = Authority::new("ours");
    let https = |url: &Url| Url { scheme: Scheme::Https, ..url.clone() };
    let (peer, client) = ask(&https(&plain[0].peer_url), &https(&plain[0].client_url), &authority.config(None)).await;
    let mask = |text: &str, url: &Url| text.replace(&url.port.to_string(), "PORT");
    insta::assert_snapshot!(
        format!("peer: {}\nclient: {}", mask(&peer, &plain[0].peer_url), mask(&client, &plain[0].client_url)),
        @r"
    peer: TLS with 127.0.0.1:PORT: what answers there is not TLS (plain http?)
    client: TLS with 127.0.0.1:PORT: the connection was closed during the handshake (a plain http port does that, and so does one that rejects this pod's certificate)
    "
    );
    let deadline = Instant::now() + Duration::from_secs(1);
    let error = dial(&https(&plain[0].peer_url), &[LOCAL], &Security::Plain, deadline).await.unwrap_err();
    assert!(matches!(error, DialError::Tls { .. }), "{error}");
}

#[tokio::test]
async fn an_address_that_does_not_answer_holds_back_no_other() {
    let listener = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let url: Url = format!("http://etcd-0.etcd:{}", listener.local_addr().unwrap().port()).parse().unwrap();
    let deadline = Instant::now() + Duration::from_secs(2);
    // TEST-NET-1 is routed nowhere, or refused at once; 127.0.0.9 refuses.
    let addresses: Vec<IpAddr> = ["192.0.2.1", "127.0.0.9", "127.0.0.1"].map(|text| text.parse().unwrap()).into();
    let start = Instant::now();
    let dialled = dial(&url, &addresses, &Security::Plain, deadline).await.unwrap();
    assert_eq!(dialled.address, LOCAL);
    assert!(start.elapsed() < Duration::from_millis(400), "{:?}", start.elapsed());
    let refused = dial(&url, &addresses[1..2], &Security::Plain, deadline).await.unwrap_err();
    assert!(matches!(refused, DialError::Refused { .. }), "{refused}");
    let nowhere = dial(&url, &[], &Security::Plain, deadline).await.unwrap_err();
    assert!(matches!(nowhere, DialError::Unreachable { .. }), "{nowhere}");
}

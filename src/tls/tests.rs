//! Certificates of every shape in real handshakes: of the roll call with itself, and with real etcds.

use std::time::{Duration, Instant, SystemTime};

use http::StatusCode;
use rcgen::{ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use super::certificate::{Facts, Usage};
use super::testing::*;
use super::*;
use crate::etcd::testing::{self as etcds, Etcd, LOCAL};
use crate::etcd::{Access, Connection, Endpoint};
use crate::http_server::{Request, Server, response};
use crate::observation::PeerView;
use crate::peers::{Asker, PeerClient, Question};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn own_url(port: u16) -> Url {
    format!("https://{HOST}:{port}").parse().unwrap()
}

fn load(files: &TlsFiles) -> Result<(http_server::Security, connect::Security), Fatal> {
    peer_port(files, &[own_url(2380)], &provider())
}

/// Says 404 to whom it lets in.
fn serve(security: &http_server::Security) -> Server {
    let urls = ["https://127.0.0.1:0".parse().unwrap()];
    Server::bind(&urls, security, |_: Request| {
        std::future::ready(response(StatusCode::NOT_FOUND, "text/plain", "nothing"))
    })
    .unwrap()
}

const HEARD: &str = "heard";

/// What a peer learns at this address: an answer, or the sentence that says why there is none.
async fn ask(url: &Url, security: &connect::Security) -> String {
    let asker = Asker { pod: "m9".into(), namespace: String::new(), service: String::new() };
    let client = PeerClient::new(asker, security.clone(), Access::default(), url.clone());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(3);
    let (addresses, own_name_resolves) = (vec![LOCAL], true);
    let question = Question { pod: "m1".into(), url: url.clone(), addresses, own_name_resolves, says: None, deadline };
    let said = match client.ask_peer_port(&question).await.view {
        PeerView::Silent(silence) => silence.to_string(),
        other => format!("{other:?}"),
    };
    // It answers, though with no page of a statement: TLS has let the question through.
    if said.ends_with("has neither a statement nor /members") || said.starts_with("Etcd(") {
        return HEARD.to_owned();
    }
    said.replace(&format!("TLS with 127.0.0.1:{}: ", url.port), "")
}

async fn ask_server(server: &Server, security: &connect::Security) -> String {
    ask(&own_url(server.addresses()[0].port()), security).await
}

/// A server that shows whatever it is given, and wants nothing.
fn careless_server(texts: &Texts) -> Server {
    let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(texts.chain(), texts.private_key()).unwrap();
    serve(&http_server::Security::Tls(Arc::new(config)))
}

/// A client that shows whatever it is given, if anything, and trusts this CA.
fn careless_client(texts: Option<&Texts>, ca: &str) -> connect::Security {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots);
    connect::Security::peer_port(match texts {
        Some(texts) => config.with_client_auth_cert(texts.chain(), texts.private_key()).unwrap(),
        None => config.with_no_client_auth(),
    })
}

/// An etcd with these files on both ports, which demands certificates.
async fn start(binary: &etcds::Binary, files: &TlsFiles) -> Etcd {
    let mut etcd = Etcd::with_scheme(binary, "m1", "https");
    let shown = |path: &Option<std::path::PathBuf>| path.as_ref().unwrap().display().to_string();
    for prefix in ["--", "--peer-"] {
        etcd.args.push(format!("{prefix}cert-file={}", shown(&files.cert)));
        etcd.args.push(format!("{prefix}key-file={}", shown(&files.key)));
        etcd.args.push(format!("{prefix}trusted-ca-file={}", shown(&files.trusted_ca)));
        etcd.args.push(format!("{prefix}client-cert-auth"));
    }
    begin(&mut etcd).await;
    etcd
}

async fn begin(etcd: &mut Etcd) {
    let initial = etcd.entry();
    etcd.start(&initial, "new");
    let end = Instant::now() + Duration::from_secs(20);
    while tokio::net::TcpStream::connect((LOCAL, etcd.peer_url.port)).await.is_err() {
        assert!(Instant::now() < end, "etcd does not start: {}", etcd.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The member list of the client port; it may take a moment until there is a leader.
async fn list(url: &Url, security: connect::Security) -> String {
    let endpoint = Endpoint { url: url.clone(), addresses: vec![LOCAL] };
    let access = Access { security, credentials: None };
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(2);
        let listed = async { Connection::open(&endpoint, &access, deadline).await?.linearizable_list(deadline).await };
        match listed.await {
            Ok(list) => return format!("{} member", list.members.len()),
            Err(failure) if tokio::time::Instant::now() >= end => return failure.to_string(),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

fn client_port(files: &TlsFiles) -> connect::Security {
    let live = Live::new(dialled(files, "client"), provider()).unwrap();
    connect::Security::client_port(client_config(live, &provider()).unwrap())
}

#[tokio::test]
async fn every_shape_that_etcd_takes_is_taken_by_the_roll_call_and_against_etcd() {
    let dir = TempDir::new().unwrap();
    for (name, texts) in shapes() {
        let files = texts.write(dir.path(), "shape");
        let (serving, dialling) = load(&files).unwrap_or_else(|fatal| panic!("{name}: {fatal}"));
        let server = serve(&serving);
        assert_eq!(ask_server(&server, &dialling).await, HEARD, "{name}");
        let Some(binary) = etcds::one_binary() else { continue };
        let etcd = start(&binary, &files).await;
        let at_host = |url: &Url| Url { host: HOST.to_owned(), ..url.clone() };
        assert_eq!(ask(&at_host(&etcd.peer_url), &dialling).await, HEARD, "{name}");
        assert_eq!(list(&at_host(&etcd.client_url), client_port(&files)).await, "1 member", "{name}");
    }
}

#[tokio::test]
async fn auto_tls_of_every_etcd_is_dialled_and_the_roll_call_has_its_own() {
    let files = TlsFiles { auto_tls: true, ..TlsFiles::default() };
    let (serving, dialling) = load(&files).unwrap();
    assert_eq!(ask_server(&serve(&serving), &dialling).await, HEARD);
    for binary in etcds::binaries() {
        let mut etcd = Etcd::with_scheme(&binary, "m1", "https");
        etcd.args.extend(["--auto-tls".to_owned(), "--peer-auto-tls".to_owned()]);
        begin(&mut etcd).await;
        assert_eq!(ask(&etcd.peer_url, &dialling).await, HEARD, "{}", binary.version);
        assert_eq!(list(&etcd.client_url, client_port(&files)).await, "1 member", "{}", binary.version);
    }
}

#[tokio::test]
async fn a_peer_that_does_not_verify_is_not_heard_and_the_sentence_says_why() {
    let dir = TempDir::new().unwrap();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let good = params(&NAMES);
    let (_, dialling) = load(&ours.issue_new(&good).write(dir.path(), "own")).unwrap();
    let mut expired = good.clone();
    (expired.not_before, expired.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
    let mut early = good.clone();
    early.not_before = date_time_ymd(3000, 1, 1);
    let mut client_only = good.clone();
    client_only.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let mut nameless = params(&[]);
    nameless.distinguished_name.push(rcgen::DnType::CommonName, HOST);
    let fake = Authority::new("ours");
    let mut table = String::new();
    for (name, texts) in [
        ("expired", ours.issue_new(&expired)),
        ("not yet valid", ours.issue_new(&early)),
        ("wrong name", ours.issue_new(&params(&["etcd-7.etcd.default.svc", "10.0.0.7"]))),
        ("common name alone", ours.issue_new(&nameless)),
        ("unknown CA", theirs.issue_new(&good)),
        ("a CA of the same name", fake.issue_new(&good)),
        ("self-signed, not in the file", seed(&NAMES)),
        ("no server auth", ours.issue_new(&client_only)),
    ] {
        let server = careless_server(&texts);
        let said = ask_server(&server, &dialling).await;
        assert!(!said.contains(HEARD), "{name}");
        let here = regex_time(&said);
        table.push_str(&format!("{name}: {here}\n"));
    }
    insta::assert_snapshot!(table, @r"
    expired: its certificate expired on 2020-02-01T00:00:00Z
    not yet valid: its certificate is not valid before 3000-01-01T00:00:00Z, and here it is NOW: compare the clocks
    wrong name: its certificate is not for etcd-0.etcd.default.svc: its names are etcd-7.etcd.default.svc, 10.0.0.7
    common name alone: its certificate is not for etcd-0.etcd.default.svc: it has no names (SAN; a common name does not count)
    unknown CA: its certificate is signed by no CA of this pod's CA file, and is not in it (another CA, or a self-signed certificate that was renewed)
    a CA of the same name: its certificate has the name of a CA of this pod's CA file, but not its signature (a CA with a new key?)
    self-signed, not in the file: its certificate is signed by no CA of this pod's CA file, and is not in it (another CA, or a self-signed certificate that was renewed)
    no server auth: its certificate is not for this use: the extended key usage must have server auth and client auth, or be left out
    ");
}

/// The present moment, which stands in a sentence, made the same each time.
fn regex_time(said: &str) -> String {
    match said.split_once("here it is ") {
        Some((before, after)) => format!("{before}here it is NOW{}", &after["2026-01-01T00:00:00Z".len()..]),
        None => said.to_owned(),
    }
}

#[tokio::test]
async fn who_does_not_verify_is_told_nothing_and_learns_why() {
    let dir = TempDir::new().unwrap();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let good = params(&NAMES);
    let (serving, _) = load(&ours.issue_new(&good).write(dir.path(), "own")).unwrap();
    let server = serve(&serving);
    let mut expired = good.clone();
    (expired.not_before, expired.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
    let mut server_only = good.clone();
    server_only.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let mut table = String::new();
    for (name, texts) in [
        ("good", Some(ours.issue_new(&good))),
        ("none", None),
        ("unknown CA", Some(theirs.issue_new(&good))),
        ("expired", Some(ours.issue_new(&expired))),
        ("no client auth", Some(ours.issue_new(&server_only))),
    ] {
        let said = ask_server(&server, &careless_client(texts.as_ref(), &ours.pem)).await;
        assert_eq!(said == HEARD, name == "good", "{name}: {said}");
        table.push_str(&format!("{name}: {said}\n"));
    }
    insta::assert_snapshot!(table, @r"
    good: heard
    none: it demands a client certificate, and this pod has shown none
    unknown CA: it rejects this pod's certificate: it does not know the CA
    expired: it rejects this pod's certificate: expired, or not valid yet
    no client auth: it rejects this pod's certificate: wrong use (extended key usage), or not the allowed common name
    ");
}

#[tokio::test]
async fn an_allowed_common_name_or_host_name_counts_on_both_sides() {
    let dir = TempDir::new().unwrap();
    let ours = Authority::new("ours");
    let files = ours.issue_new(&params(&NAMES)).write(dir.path(), "own");
    for (allowed, is_heard) in [
        (Allowed { common_name: Some("etcd".to_owned()), hostname: None }, true),
        (Allowed { common_name: Some("another".to_owned()), hostname: None }, false),
        (Allowed { common_name: None, hostname: Some(HOST.to_owned()) }, true),
        (Allowed { common_name: None, hostname: Some("another".to_owned()) }, false),
    ] {
        let strict = load(&TlsFiles { allowed: allowed.clone(), ..files.clone() }).unwrap();
        let lenient = load(&files).unwrap();
        let heard = ask_server(&serve(&lenient.0), &strict.1).await;
        assert_eq!(heard == HEARD, is_heard, "{allowed:?}: {heard}");
        let told = ask_server(&serve(&strict.0), &lenient.1).await;
        assert_eq!(told == HEARD, is_heard, "{allowed:?}: {told}");
    }
}

/// As etcd, by the serial number; and as the certificates, a list counts that changes while the pod waits.
#[tokio::test]
async fn who_is_revoked_is_neither_told_nor_heard() {
    let dir = TempDir::new().unwrap();
    let ours = Authority::new("ours");
    let numbered = |serial: u64| {
        let mut params = params(&NAMES);
        params.serial_number = Some(serial.into());
        ours.issue_new(&params)
    };
    let (lenient, revoked) = (numbered(1).write(dir.path(), "own"), numbered(0x80ff).write(dir.path(), "revoked"));
    let revoked = load(&revoked).unwrap();
    let file = dir.path().join("crl");
    let list = ours.revoke(&[7, 0x80ff]);
    for bytes in [list.der().to_vec(), list.pem().unwrap().into_bytes()] {
        std::fs::write(&file, ours.revoke(&[]).der()).unwrap();
        let strict = load(&TlsFiles { crl: Some(file.clone()), ..lenient.clone() }).unwrap();
        let server = serve(&strict.0);
        assert_eq!(ask_server(&server, &revoked.1).await, HEARD);
        std::fs::write(&file, bytes).unwrap();
        let end = Instant::now() + Duration::from_secs(10);
        let told = loop {
            let told = ask_server(&server, &revoked.1).await;
            if told != HEARD {
                break told;
            }
            assert!(Instant::now() < end, "a revoked peer is told all the same");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(told, "it rejects this pod's certificate: revoked");
        let heard = ask_server(&serve(&revoked.0), &strict.1).await;
        assert_eq!(heard, "its certificate is revoked: --peer-crl-file has its serial number");
        assert_eq!(ask_server(&server, &load(&lenient).unwrap().1).await, HEARD);
    }
}

/// A plain request to this program's own roll call over TLS.
#[tokio::test]
async fn http_against_the_roll_calls_https_is_told() {
    let dir = TempDir::new().unwrap();
    let files = Authority::new("ours").issue_new(&params(&NAMES)).write(dir.path(), "own");
    let server = serve(&load(&files).unwrap().0);
    let url = Url { scheme: Scheme::Http, ..own_url(server.addresses()[0].port()) };
    assert_eq!(ask(&url, &connect::Security::Plain).await, connect::UNASKED_TLS);
}

#[test]
fn what_the_network_is_trusted_with_is_said() {
    let mutual = "--peer-cert-file=/c --peer-key-file=/k --peer-trusted-ca-file=/ca --cert-file=/c --key-file=/k";
    let sentences = |args: &str, env: &str| {
        let own = "HOSTNAME=etcd-0 SERVICE_NAME=etcd K8S_NAMESPACE=ns BOOTSTRAP_INITIAL_CLUSTER_SIZE=3";
        unprotected(&crate::settings::tests::settings(args, &format!("{own} {env}")).unwrap()).join("\n")
    };
    assert_eq!(sentences(mutual, ""), "");
    assert_eq!(sentences(mutual, "BOOTSTRAP_USER=root:pw"), "");
    let http = "--advertise-client-urls=http://etcd-0.etcd:2379 --listen-client-urls=http://0.0.0.0:2379";
    let (peer, nobody) = ("--peer-cert-file=/c --peer-key-file=/k", "encrypts, but verifies nobody");
    let stated = "what pods state to each other is as trusted as the network";
    let lists = "the member lists that are read there are as safe as the network";
    let password =
        "the member lists that are read there, and the password that is sent there, are as safe as the network";
    let user = "BOOTSTRAP_USER=root:pw";
    for (args, env, expected) in [
        ("", "", format!("the peer URLs are http: {stated}\nthe client URLs are http: {lists}")),
        ("", user, format!("the peer URLs are http: {stated}\nthe client URLs are http: {password}")),
        (&format!("{mutual} {http}"), user, format!("the client URLs are http: {password}")),
        (&format!("{peer} --peer-trusted-ca-file=/ca --auto-tls"), "", format!("--auto-tls {nobody}: {lists}")),
        (&format!("{peer} --peer-client-cert-auth --auto-tls"), user, format!("--auto-tls {nobody}: {password}")),
        ("--peer-auto-tls --auto-tls", "", format!("--peer-auto-tls {nobody}: {stated}\n--auto-tls {nobody}: {lists}")),
    ] {
        assert_eq!(sentences(args, env), expected, "{args} {env}");
    }
    let open = sentences(&format!("{peer} --cert-file=/c --key-file=/k"), "");
    assert!(open.starts_with("--peer-client-cert-auth and --peer-trusted-ca-file are not set"), "{open}");
    assert!(open.ends_with(stated), "{open}");
}

/// A self-signed certificate in the CA file vouches for itself, and for nobody else.
#[tokio::test]
async fn what_may_not_sign_is_no_ca() {
    let dir = TempDir::new().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut no_ca = params(&NAMES);
    no_ca.is_ca = IsCa::ExplicitNoCa;
    let own = self_signed(&no_ca, &key);
    let (_, dialling) = load(&own.write(dir.path(), "own")).unwrap();
    let as_if = Authority { issuer: rcgen::Issuer::new(no_ca, key), pem: own.ca.clone() };
    let server = careless_server(&as_if.issue_new(&params(&NAMES)));
    let said = ask_server(&server, &dialling).await;
    assert!(said.contains("signed by no CA"), "{said}");
    // Within its dates, for its uses, under its names.
    for (name, change) in [
        ("expired", (|params| params.not_after = date_time_ymd(2020, 2, 1)) as fn(&mut rcgen::CertificateParams)),
        ("not valid before", |params| params.not_before = date_time_ymd(3000, 1, 1)),
        ("not for this use", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
        ("is not for etcd-0", |params| params.subject_alt_names = super::testing::params(&["other"]).subject_alt_names),
    ] {
        for is_ca in [IsCa::ExplicitNoCa, IsCa::Ca(rcgen::BasicConstraints::Unconstrained)] {
            let mut params = params(&NAMES);
            params.is_ca = is_ca;
            params.not_before = date_time_ymd(2019, 1, 1);
            change(&mut params);
            let texts = self_signed(&params, &KeyPair::generate().unwrap());
            let good = own.write(dir.path(), "trusting");
            std::fs::write(good.trusted_ca.as_ref().unwrap(), &texts.ca).unwrap();
            let said = ask_server(&careless_server(&texts), &load(&good).unwrap().1).await;
            assert!(said.contains(name), "{name}: {said}");
        }
    }
}

#[test]
fn mistakes_in_this_pods_own_files_end_it_with_their_names() {
    let dir = TempDir::new().unwrap();
    let ours = Authority::new("ours");
    let good = ours.issue_new(&params(&NAMES));
    let mut expired = params(&NAMES);
    (expired.not_before, expired.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
    let mut early = params(&NAMES);
    early.not_before = date_time_ymd(3000, 1, 1);
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
    let with = |change: &dyn Fn(&mut Texts)| {
        let mut texts = good.clone();
        change(&mut texts);
        texts
    };
    let mut table = String::new();
    for (name, texts) in [
        ("expired", ours.issue_new(&expired)),
        ("not yet valid", ours.issue_new(&early)),
        ("wrong names", ours.issue_new(&params(&["etcd-7.etcd.default.svc", "10.0.0.7"]))),
        ("common name alone", ours.issue_new(&params(&[]))),
        ("no certificate", with(&|texts| texts.cert = "hello".to_owned())),
        ("broken certificate", with(&|texts| texts.cert.clone_from(&broken))),
        ("no key", with(&|texts| texts.key = texts.cert.clone())),
        ("another's key", with(&|texts| texts.key = KeyPair::generate().unwrap().serialize_pem())),
        ("P-521", with(&|texts| texts.key = P521.to_owned())),
        ("empty CA file", with(&|texts| texts.ca.clear())),
    ] {
        let files = texts.write(dir.path(), "own");
        table.push_str(&row(name, &load(&files).map(|_| ()).unwrap_err(), dir.path()));
    }
    for (name, change) in [
        ("missing", (|files, _| files.cert = Some("/nowhere/tls.crt".into())) as fn(&mut TlsFiles, &std::path::Path)),
        ("unreadable", |files, dir| files.key = Some(dir.to_owned())),
        ("missing CRL", |files, _| files.crl = Some("/nowhere/crl.pem".into())),
        ("no CRL", |files, _| files.crl.clone_from(&files.cert)),
        ("missing CA", |files, _| files.trusted_ca = Some("/nowhere/ca.crt".into())),
    ] {
        let mut files = good.write(dir.path(), "own");
        change(&mut files, dir.path());
        table.push_str(&row(name, &load(&files).map(|_| ()).unwrap_err(), dir.path()));
    }
    insta::assert_snapshot!(table, @r"
    expired: the peer certificate `DIR/own-cert.pem` expired on 2020-02-01T00:00:00Z
    not yet valid: the peer certificate `DIR/own-cert.pem` is not valid before 3000-01-01T00:00:00Z
    wrong names: the peer certificate `DIR/own-cert.pem` is not for etcd-0.etcd.default.svc, this pod's peer URL; its names: etcd-7.etcd.default.svc, 10.0.0.7
    common name alone: the peer certificate `DIR/own-cert.pem` is not for etcd-0.etcd.default.svc, this pod's peer URL; its names: none (a common name does not count)
    no certificate: the peer certificate `DIR/own-cert.pem`: there is no certificate in it
    broken certificate: the peer certificate `DIR/own-cert.pem`: a certificate in it cannot be read
    no key: the peer key `DIR/own-key.pem`: there is no private key in it (no items found)
    another's key: the peer key `DIR/own-key.pem` does not fit the certificate `DIR/own-cert.pem`
    P-521: the peer key `DIR/own-key.pem` is on the curve P-521, which ring (the TLS library) lacks
    empty CA file: the peer CA file `DIR/own-ca.pem`: there is no certificate in it
    missing: the peer certificate `/nowhere/tls.crt`: there is no such file
    unreadable: the peer key `DIR`: Is a directory (os error 21)
    missing CRL: the peer CRL file `/nowhere/crl.pem`: there is no such file
    no CRL: the peer CRL file `DIR/own-cert.pem`: there is no revocation list in it
    missing CA: the peer CA file `/nowhere/ca.crt`: there is no such file
    ");
}

fn row(name: &str, fatal: &Fatal, dir: &std::path::Path) -> String {
    assert_eq!(fatal.exit, Exit::Config, "{name}");
    assert!(!fatal.hint.is_empty(), "{name}");
    let text = fatal.message.replace(&dir.display().to_string(), "DIR");
    let text = text.split(", and it is ").next().unwrap().to_owned();
    format!("{name}: {text}\n")
}

#[tokio::test]
async fn certificates_that_rotate_on_disk_count_at_the_next_handshake() {
    let dir = TempDir::new().unwrap();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let files = old.issue_new(&params(&NAMES)).write(dir.path(), "own");
    let (serving, dialling) = load(&files).unwrap();
    let server = serve(&serving);
    let newcomer = new.issue_new(&params(&NAMES)).write(dir.path(), "newcomer");
    let (newcomer_serving, newcomer_dialling) = load(&newcomer).unwrap();
    let newcomer_server = serve(&newcomer_serving);
    assert_ne!(ask_server(&server, &newcomer_dialling).await, HEARD);
    assert_eq!(ask_server(&server, &dialling).await, HEARD);

    // Half of a rotation: the key does not fit, and the last files count.
    let rotated = new.issue_new(&params(&NAMES));
    std::fs::write(files.key.as_ref().unwrap(), &rotated.key).unwrap();
    let end = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < end {
        assert_eq!(ask_server(&server, &dialling).await, HEARD);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    rotated.write(dir.path(), "own");
    let end = Instant::now() + Duration::from_secs(10);
    let both = async || [ask_server(&server, &newcomer_dialling).await, ask_server(&newcomer_server, &dialling).await];
    while both().await != [HEARD, HEARD] {
        assert!(Instant::now() < end, "{:?}", both().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_ne!(ask_server(&server, &careless_client(None, &new.pem)).await, HEARD);
}

/// etcd looks at more than the chain: who dials has to be where its certificate says.
#[tokio::test]
async fn etcds_own_check_of_a_clients_names_is_explained() {
    let dir = TempDir::new().unwrap();
    let ours = Authority::new("ours");
    let files = ours.issue_new(&params(&NAMES)).write(dir.path(), "etcd");
    let elsewhere = ours.issue_new(&params(&["nowhere.invalid"]));
    for binary in etcds::binaries() {
        let etcd = start(&binary, &files).await;
        let said = ask(&etcd.peer_url, &careless_client(Some(&elsewhere), &ours.pem)).await;
        assert!(said.contains("none of the names and addresses in this pod's certificate"), "{said}");
    }
}

#[test]
fn a_certificates_facts_are_read_and_no_text_breaks_the_reader() {
    let ours = Authority::new("ours");
    let mut made = params(&["a", "*.b", "10.0.0.1", "fd00::1"]);
    (made.not_before, made.not_after) = (date_time_ymd(1999, 12, 31), date_time_ymd(2051, 1, 2));
    made.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let der = ours.issue_new(&made).chain().remove(0);
    let facts = Facts::of(&der).unwrap();
    assert_eq!(facts.names, ["a", "*.b", "10.0.0.1", "fd00::1"]);
    assert_eq!(facts.common_name.as_deref(), Some("etcd"));
    let days = |days: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(86_400 * days);
    assert_eq!((facts.not_before, facts.not_after), (days(10_956), days(29_586)));
    assert!(facts.may_be(Usage::Server) && !facts.may_be(Usage::Client) && !facts.may_sign());
    use rustls::pki_types::pem::PemObject as _;
    let ca = CertificateDer::from_pem_slice(ours.pem.as_bytes()).unwrap();
    assert!(Facts::of(&ca).unwrap().may_sign());
    for end in 0..der.len() {
        let mut torn = der.to_vec();
        assert_eq!(Facts::of(&torn[..end]), None);
        torn[end] ^= 0xff;
        let _no_panic = Facts::of(&torn);
    }
}

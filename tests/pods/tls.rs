//! Mutual TLS: who is heard and told, certificates of the documented shape, rotation, and mistakes that end the pod.
//! `TEST_TLS=1` runs all other scenarios over it, too.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::harness::tls::names as names_of;
use crate::harness::*;
use crate::templates::*;
use crate::versions::life_of;

const STATEMENT: &str = "/etcd-bootstrap/statement";

fn mutual(spec: PodSpec) -> PodSpec {
    plain_entrypoint(spec, 3).mutual_tls()
}

fn says(pod: &Pod, what: &str) -> String {
    eventually(SOON, "the pod says why it waits", || {
        let answer = pod.http_get(2381, "/readyz")?;
        if answer.body.contains(what) { Ok(answer.body) } else { Err(answer.body) }
    })
}

/// A certificate of another CA; it believes ours.
fn become_a_stranger(spec: &mut PodSpec) {
    let ca = Authority::ours().issue_for(spec).ca;
    let stranger = Identity { ca, ..Authority::new("another CA").issue_for(spec) };
    spec.has_certificate = false;
    spec.files.extend(stranger.files("/etc/etcd/tls").map(|(path, text)| (path, text.into_bytes())));
}

#[test]
fn founding_growth_and_replacement_over_mutual_tls() {
    life_of(
        "3.6.",
        mutual,
        |_| {},
        |pods| {
            for pod in pods {
                let argv = pod.cmdline().join(" ");
                assert!(argv.contains("--peer-client-cert-auth=true") && argv.contains("https://"), "{argv}");
            }
        },
    );
}

/// All that a client without a certificate gets at the peer port.
fn ask_without_certificate(pod: &Pod) -> String {
    let address = SocketAddr::new(pod.address(), 2380);
    let name = pod.spec().domain_name().try_into().unwrap();
    pod.in_pod(move || {
        use rustls::pki_types::pem::PemObject as _;
        let ca = Authority::ours().issue("nobody", Vec::new()).ca;
        let mut roots = RootCertStore::empty();
        roots.add(rustls::pki_types::CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots).with_no_client_auth();
        let tcp = TcpStream::connect(address).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(connection, tcp);
        let request = format!("GET {STATEMENT} HTTP/1.1\r\nHost: a\r\nx-etcd-bootstrap-pod: etcd-1\r\n\r\n");
        let mut answer = Vec::new();
        let written = stream.write_all(request.as_bytes());
        let read = stream.read_to_end(&mut answer);
        format!("{}{written:?}{read:?}", String::from_utf8_lossy(&answer))
    })
}

/// How often the pod has been dialled, as it counts itself.
fn dialled(pod: &Pod) -> Result<u64, String> {
    let page = pod.http_get(2381, "/metrics")?.body;
    let count = page.lines().find_map(|line| line.strip_prefix("etcd_bootstrap_dialled_total "));
    count.and_then(|count| count.parse().ok()).ok_or(page)
}

fn is_dialled_after(pod: &Pod, before: u64) -> Result<String, String> {
    let now = dialled(pod)?;
    if now > before { Ok(format!("{now} times")) } else { Err(format!("only {now} times")) }
}

/// Who has no certificate of the CA learns nothing, and what it states is not believed; once it has one, on disk while
/// all wait, the cluster is founded.
#[test]
fn a_pod_of_another_ca_is_neither_told_nor_heard_until_its_certificates_are_rotated() {
    let world = World::v4();
    let pods = world.pods("etcd", 0..3, mutual);
    pods[1].edit(become_a_stranger);
    pods[..2].iter().for_each(Pod::start);
    says(&pods[0], "its certificate is signed by no CA");
    says(&pods[1], "rejects this pod's certificate");
    // Without a record nobody dials it, and neither does it itself.
    world.dns().withhold(&pods[0]);
    let before = eventually(SOON, "nobody dials it", || {
        let before = dialled(&pods[0])?;
        try_eventually(Duration::from_secs(1), || is_dialled_after(&pods[0], before)).map_or(Ok(before), Err)
    });
    let answer = ask_without_certificate(&pods[0]);
    assert!(!answer.contains("HTTP/1.1") && answer.contains("CertificateRequired"), "{answer}");
    assert!(try_eventually(Duration::from_secs(1), || is_dialled_after(&pods[0], before)).is_err(), "it is counted");
    world.dns().release(&pods[0]);
    pods[2].start();
    eventually(SOON, "who verifies is counted", || is_dialled_after(&pods[0], before));
    let plain = pods[0].http_get(2380, STATEMENT);
    assert!(plain.as_ref().is_err() || !plain.as_ref().unwrap().body.contains("disk_id"), "{plain:?}");
    assert!(pods[0].logs().contains("told nothing, for TLS with it failed"), "{}", pods[0].logs());
    stays(Duration::from_secs(2), "nobody founds", || {
        if pods.iter().any(Pod::runs_etcd) { Err("etcd runs".to_owned()) } else { Ok(()) }
    });
    pods[1].replace_files(&Authority::ours().issue_for(&pods[1].spec()).files("/etc/etcd/tls"));
    wait_for_voters(&all(&pods), 3, SOON);
    assert!(pods[1].all_logs().contains("certificates have changed on disk"), "{}", pods[1].logs());
}

/// The TLS variant of the manifest in etcd's documentation: its commented lines enabled, one self-signed certificate
/// for all pods on each side.
#[test]
fn the_documented_manifest_with_self_signed_certificates_founds_and_grows() {
    let world = World::v4();
    let names: Vec<String> = (0..5).flat_map(|n| names_of(&PodSpec::new(&format!("etcd-{n}")))).collect();
    let (server, client) = (Identity::self_signed(names.clone()), Identity::self_signed(names));
    let template = |spec: PodSpec| {
        let mut spec = documented(spec);
        for arg in &mut spec.argv {
            *arg = arg.replace("http://", "https://").replace("https://0.0.0.0:8080", "http://0.0.0.0:8080");
        }
        spec.env.retain(|(name, _)| !name.starts_with("ETCD_"));
        for (side, identity) in [("client", &client), ("server", &server)] {
            for (path, text) in identity.files(&format!("/etc/etcd/certs/{side}")) {
                spec = spec.file(&path, text);
            }
        }
        let client_dir = "/etc/etcd/certs/client";
        for (name, file) in [("CERT", "tls.crt"), ("KEY", "tls.key"), ("CACERT", "ca.crt")] {
            spec.set_env(&format!("ETCDCTL_{name}"), &format!("{client_dir}/{file}"));
        }
        spec.set_env("URI_SCHEME", "https");
        spec.argv.extend(["--client-cert-auth".to_owned(), "--peer-client-cert-auth".to_owned()]);
        for (prefix, dir) in [("--", client_dir), ("--peer-", "/etc/etcd/certs/server")] {
            spec.argv.push(format!("{prefix}trusted-ca-file={dir}/ca.crt"));
            spec.argv.push(format!("{prefix}cert-file={dir}/tls.crt"));
            spec.argv.push(format!("{prefix}key-file={dir}/tls.key"));
        }
        spec.has_certificate = false;
        spec.client_tls = Some(client.client());
        spec.scheme("https")
    };
    let mut pods = world.pods("etcd", 0..3, template);
    pods.iter().for_each(Pod::start);
    wait_for_voters(&all(&pods), 3, SOON);
    let more = world.pods("etcd", 3..5, template);
    more.iter().for_each(Pod::start);
    pods.extend(more);
    wait_for_voters(&all(&pods), 5, SOON);
}

#[test]
fn etcds_own_certificates_found_and_grow_and_the_log_says_what_they_do_not_protect() {
    let world = World::v4();
    let template = |spec: PodSpec| {
        plain_entrypoint(spec, 2)
            .env("ETCD_AUTO_TLS", "true")
            .env("ETCD_PEER_AUTO_TLS", "true")
            .ctl_env("ETCDCTL_INSECURE_SKIP_TLS_VERIFY", "true")
            .scheme("https")
    };
    let pods = world.pods("etcd", 0..3, template);
    pods.iter().for_each(Pod::start);
    eventually(SOON, "three voters", || {
        let list = etcdctl(&pods[0], &["member", "list"])?;
        let voters = list.lines().filter(|line| line.contains(", started, ") && line.ends_with(", false")).count();
        if voters == 3 { Ok(()) } else { Err(list) }
    });
    let logs = pods[0].all_logs();
    for flag in ["--peer-auto-tls", "--auto-tls"] {
        assert!(logs.contains(&format!(" {flag} encrypts, but verifies nobody")), "{logs}");
    }
}

#[test]
fn a_mistake_in_its_own_files_ends_the_pod_at_once_and_a_rejection_when_its_time_is_up() {
    let world = World::v4();
    let pods = world.pods("etcd", 0..3, mutual);
    pods[0].edit(|spec| spec.set_env("ETCD_PEER_CERT_FILE", "/etc/etcd/tls/nowhere.crt"));
    pods[0].start();
    assert_eq!(pods[0].wait_for_exit(SOON).code(), 78);
    let message = pods[0].termination_message();
    assert!(message.contains("`/etc/etcd/tls/nowhere.crt`: there is no such file"), "{message}");
    assert_eq!(std::fs::read_dir(pods[0].volume_dir("/data")).unwrap().count(), 0, "nothing was touched");

    pods[1].edit(|spec| {
        become_a_stranger(spec);
        spec.set_env("BOOTSTRAP_TIMEOUT", "4s");
    });
    pods[2].start();
    pods[1].start();
    assert_eq!(pods[1].wait_for_exit(SOON).code(), 77);
    let message = pods[1].termination_message();
    assert!(message.contains("gave up after 4s") && message.contains("TLS with"), "{message}");

    // Without TLS where the others have it.
    pods[1].edit(|spec| *spec = plain_entrypoint(PodSpec::new(&spec.name), 3).env("BOOTSTRAP_TIMEOUT", "4s"));
    pods[1].restart();
    assert_eq!(pods[1].wait_for_exit(SOON).code(), 77);
    let message = pods[1].termination_message();
    assert!(message.contains("it answers with TLS, and the URL says http"), "{message}");
}

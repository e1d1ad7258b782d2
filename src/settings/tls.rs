//! The files of TLS: which there are, and whether they fit the URLs.

use super::urls::{Urls, shown};
use super::{SettingsError, TlsFiles};
use crate::flags::EtcdSettings;
use crate::names::{Scheme, Url};
use crate::tls::Allowed;

/// TLS on the peer port, both as a server and as a client.
///
/// # Errors
/// Exit code 78: a certificate without its key, or a key without its certificate.
pub(super) fn peer(etcd: &EtcdSettings) -> Result<TlsFiles, SettingsError> {
    let (cert, key) = pair(etcd, "peer-cert-file", "peer-key-file")?;
    let (dial_cert, dial_key) = pair(etcd, "peer-client-cert-file", "peer-client-key-file")?;
    Ok(TlsFiles {
        auto_tls: etcd.is_true("peer-auto-tls") && cert.is_none(),
        cert: cert.map(Into::into),
        key: key.map(Into::into),
        dial_cert: dial_cert.map(Into::into),
        dial_key: dial_key.map(Into::into),
        trusted_ca: etcd.get("peer-trusted-ca-file").map(Into::into),
        crl: etcd.get("peer-crl-file").map(Into::into),
        client_cert_auth: etcd.is_true("peer-client-cert-auth"),
        allowed: Allowed {
            common_name: etcd.get("peer-cert-allowed-cn").map(str::to_owned),
            hostname: etcd.get("peer-cert-allowed-hostname").map(str::to_owned),
        },
    })
}

/// TLS on the client port, as a client: `ETCDCTL_*`, else what etcd itself would dial with.
///
/// # Errors
/// Exit code 78: a certificate without its key, or a key without its certificate.
pub(super) fn client(etcd: &EtcdSettings, env: impl Fn(&str) -> Option<String>) -> Result<TlsFiles, SettingsError> {
    let server = pair(etcd, "cert-file", "key-file")?;
    let dialled = pair(etcd, "client-cert-file", "client-key-file")?;
    let auto_tls = etcd.is_true("auto-tls") && server.0.is_none();
    let (cert, key) = match (env("ETCDCTL_CERT"), env("ETCDCTL_KEY")) {
        (Some(cert), Some(key)) => (Some(cert), Some(key)),
        (None, None) if dialled.0.is_some() => dialled,
        (None, None) => server,
        (Some(cert), None) => return Err(half(&format!("ETCDCTL_CERT={cert}"), "ETCDCTL_KEY")),
        (None, Some(key)) => return Err(half(&format!("ETCDCTL_KEY={key}"), "ETCDCTL_CERT")),
    };
    Ok(TlsFiles {
        cert: cert.map(Into::into),
        key: key.map(Into::into),
        dial_cert: None,
        dial_key: None,
        trusted_ca: env("ETCDCTL_CACERT").or_else(|| etcd.get("trusted-ca-file").map(str::to_owned)).map(Into::into),
        crl: None,
        client_cert_auth: etcd.is_true("client-cert-auth"),
        auto_tls,
        allowed: Allowed::default(),
    })
}

type Pair = (Option<String>, Option<String>);

fn pair(etcd: &EtcdSettings, cert: &str, key: &str) -> Result<Pair, SettingsError> {
    match (etcd.get(cert), etcd.get(key)) {
        (Some(_), None) => Err(half(&shown(etcd, cert), &format!("--{key}"))),
        (None, Some(_)) => Err(half(&shown(etcd, key), &format!("--{cert}"))),
        (cert, key) => Ok((cert.map(str::to_owned), key.map(str::to_owned))),
    }
}

fn half(given: &str, missing: &str) -> SettingsError {
    SettingsError::config(format!("{given} is given without {missing}"), format!("set {missing} too, or neither"))
}

/// Checks that https has a certificate, which etcd would die without, and that a certificate has https.
///
/// # Errors
/// Exit code 78: an https listener without a certificate.
pub(super) fn check(etcd: &EtcdSettings, urls: &Urls, warnings: &mut Vec<String>) -> Result<(), SettingsError> {
    let listeners: [(&str, &[Url], &str); 4] = [
        ("listen-peer-urls", &urls.listen_peer, "peer-"),
        ("listen-client-urls", &urls.listen_client, ""),
        ("listen-client-http-urls", &urls.listen_client_http, ""),
        ("listen-metrics-urls", &urls.listen_metrics, ""),
    ];
    for (name, urls, prefix) in listeners {
        let set = |setting: &str| format!("{prefix}{setting}");
        let has_certificate = etcd.get(&set("cert-file")).is_some() || etcd.is_true(&set("auto-tls"));
        if !has_certificate && urls.iter().any(|url| url.scheme == Scheme::Https) {
            return Err(SettingsError::config(
                format!("{} is https, but there is no --{prefix}cert-file", shown(etcd, name)),
                format!("set --{prefix}cert-file and --{prefix}key-file, or let the URL be http"),
            ));
        }
        let is_service = matches!(name, "listen-peer-urls" | "listen-client-urls");
        if is_service && has_certificate && urls.iter().any(|url| url.scheme == Scheme::Http) {
            warnings.push(format!("{} is http: etcd does not use --{prefix}cert-file there", shown(etcd, name)));
        }
    }
    Ok(())
}

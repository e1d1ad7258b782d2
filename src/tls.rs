//! TLS as etcd's settings have it: the files, whom this pod believes, and how it says what went wrong.
//!
//! The peer port is both served and dialled with `--peer-*`; the client port is only dialled. Nothing is resumed, so
//! that each connection is verified by the files as they are.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::connect;
use crate::exit::{Exit, Fatal};
use crate::http_server;
use crate::names::{Scheme, Url};
use crate::settings::{Settings, TlsFiles};

mod certificate;
mod files;
mod live;
mod sentence;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod trust;

pub use files::FileError;
pub use sentence::sentence;
pub use trust::Allowed;

use files::Pair;
use live::{Files, Live};

/// TLS of this pod, one part for each thing that it does.
#[derive(Clone)]
pub struct Tls {
    /// Serves the peer port.
    pub roll_call: http_server::Security,
    /// Dials peer ports.
    pub peers: connect::Security,
    /// Dials client ports.
    pub clients: connect::Security,
    /// What the network has to be trusted with, sentences for the log; none where only verified pods hear and are heard.
    pub unprotected: Vec<String>,
}

impl From<FileError> for Fatal {
    fn from(error: FileError) -> Self {
        Self::new(Exit::Config, error.message).hint(error.hint)
    }
}

impl Tls {
    /// Reads the files that the settings name.
    ///
    /// # Errors
    /// Exit code 78: a file that is missing, unreadable, not what it should be, or of no use to any peer.
    pub fn load(settings: &Settings) -> Result<Self, Fatal> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let intent = &settings.intent;
        let is_https = |urls: &[&[Url]]| urls.iter().copied().flatten().any(|url| url.scheme == Scheme::Https);
        let mut tls = Self {
            roll_call: http_server::Security::Plain,
            peers: connect::Security::Plain,
            clients: connect::Security::Plain,
            unprotected: unprotected(settings),
        };
        if is_https(&[&intent.peer_urls, &settings.listen_peer_urls]) {
            let files = &settings.peer_tls;
            (tls.roll_call, tls.peers) = peer_port(files, &intent.peer_urls, &provider)?;
        }
        if is_https(&[&intent.client_urls, &settings.listen_client_urls]) {
            let live = Live::new(dialled(&settings.client_tls, "client"), provider.clone())?;
            tls.clients = connect::Security::client_port(client_config(live, &provider)?);
        }
        Ok(tls)
    }

    /// Says once what the network has to be trusted with.
    pub fn warn(&self) {
        for sentence in &self.unprotected {
            tracing::warn!("{sentence}");
        }
    }
}

fn unprotected(settings: &Settings) -> Vec<String> {
    let Settings { intent, peer_tls, client_tls, credentials, .. } = settings;
    let are_http = |urls: &[Url]| urls.iter().any(|url| url.scheme == Scheme::Http);
    let peers = match (are_http(&intent.peer_urls), peer_tls.auto_tls) {
        (true, _) => Some("the peer URLs are http"),
        (false, true) => Some("--peer-auto-tls encrypts, but verifies nobody"),
        (false, false) => (!demands_clients(peer_tls)).then_some(
            "--peer-client-cert-auth and --peer-trusted-ca-file are not set, so that whoever asks is answered",
        ),
    };
    let clients = match (are_http(&intent.client_urls), client_tls.auto_tls) {
        (true, _) => Some("the client URLs are http"),
        (false, true) => Some("--auto-tls encrypts, but verifies nobody"),
        (false, false) => None,
    };
    let read = match credentials {
        Some(_) => "the member lists that are read there, and the password that is sent there, are",
        None => "the member lists that are read there are",
    };
    let peers = peers.map(|why| format!("{why}: what pods state to each other is as trusted as the network"));
    let clients = clients.map(|why| format!("{why}: {read} as safe as the network"));
    peers.into_iter().chain(clients).collect()
}

/// As in etcd: a CA file alone demands certificates, too.
fn demands_clients(files: &TlsFiles) -> bool {
    files.client_cert_auth || files.trusted_ca.is_some()
}

/// The files that are dialled with.
fn dialled(files: &TlsFiles, what: &'static str) -> Files {
    let served = files.cert.clone().zip(files.key.clone());
    let pair = files.dial_cert.clone().zip(files.dial_key.clone()).or(served);
    let ca = (!files.auto_tls).then(|| trust::ca_file(files.trusted_ca.as_deref()));
    let pair = pair.map(|(cert, key)| Pair { cert, key });
    Files { what, pair, ca, crl: files.crl.clone(), allowed: files.allowed.clone() }
}

fn peer_port(
    files: &TlsFiles,
    own_urls: &[Url],
    provider: &Arc<CryptoProvider>,
) -> Result<(http_server::Security, connect::Security), Fatal> {
    let dialling = Live::new(dialled(files, "peer"), provider.clone())?;
    let config = match &files.cert.clone().zip(files.key.clone()) {
        Some((cert, key)) => {
            let pair = Some(Pair { cert: cert.clone(), key: key.clone() });
            let serving = Live::new(Files { pair, ..dialling.files().clone() }, provider.clone())?;
            check_own_names(&serving, own_urls)?;
            server_config(demands_clients(files).then(|| serving.clone()), serving, provider)?
        }
        None => server_config(None, Arc::new(SingleCertAndKey::from(made_up(own_urls, provider)?)), provider)?,
    };
    let dialling = connect::Security::peer_port(client_config(dialling, provider)?);
    Ok((http_server::Security::Tls(Arc::new(config)), dialling))
}

/// Peers dial this pod under its own peer URLs, and verify its certificate by them.
fn check_own_names(serving: &Live, own_urls: &[Url]) -> Result<(), FileError> {
    let material = serving.current();
    let (Some(certified), Some(leaf)) = (&material.certified, material.leaf()) else { return Ok(()) };
    let fits = |host: &str| {
        let certificate = certified.cert.first().map(rustls::server::ParsedCertificate::try_from);
        let name = ServerName::try_from(host.trim_end_matches('.'));
        match (certificate, name) {
            (Some(Ok(certificate)), Ok(name)) => rustls::client::verify_server_name(&certificate, &name).is_ok(),
            _ => false,
        }
    };
    let Some(url) = own_urls.iter().find(|url| url.scheme == Scheme::Https && !fits(&url.host)) else { return Ok(()) };
    let path = serving.files().pair.as_ref().map(|pair| pair.cert.display().to_string()).unwrap_or_default();
    let names =
        if leaf.names.is_empty() { "none (a common name does not count)".to_owned() } else { leaf.names.join(", ") };
    let message =
        format!("the peer certificate `{path}` is not for {}, this pod's peer URL; its names: {names}", url.host);
    Err(FileError::new(message, "add the name to the certificate (cert-manager: dnsNames)"))
}

/// The certificate of `--peer-auto-tls`: etcd makes its own when it starts, and nobody verifies either.
fn made_up(own_urls: &[Url], provider: &CryptoProvider) -> Result<CertifiedKey, Fatal> {
    let failed = |error: String| Fatal::new(Exit::Exec, format!("failed to make a certificate: {error}"));
    let hosts: Vec<String> = own_urls.iter().map(|url| url.host.clone()).collect();
    let made = rcgen::generate_simple_self_signed(hosts).map_err(|error| failed(error.to_string()))?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(|error| failed(error.to_owned()))?;
    let key = provider.key_provider.load_private_key(key).map_err(|error| failed(error.to_string()))?;
    Ok(CertifiedKey::new(vec![made.cert.der().clone()], key))
}

fn server_config(
    clients: Option<Arc<Live>>,
    shown: Arc<dyn ResolvesServerCert>,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, Fatal> {
    let verifier = match clients {
        Some(live) => live,
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(unexpected)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client_config(live: Arc<Live>, provider: &Arc<CryptoProvider>) -> Result<ClientConfig, Fatal> {
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(unexpected)?
        .with_root_certificates(RootCertStore::empty());
    let mut config = builder.with_client_cert_resolver(live.clone());
    config.dangerous().set_certificate_verifier(live);
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

fn unexpected(error: rustls::Error) -> Fatal {
    Fatal::new(Exit::Exec, format!("TLS cannot be set up: {error}"))
}

/// When a certificate (DER) ends; none where this is no certificate.
pub fn not_after(der: &[u8]) -> Option<SystemTime> {
    Some(certificate::Facts::of(der)?.not_after)
}

//! Whom this pod believes: the rules that etcd (Go's crypto/x509) goes by, with webpki wherever it has the same ones.
//!
//! A chain to a CA is webpki's business, dates, usages and names included. webpki has no word for a leaf that stands in
//! the CA file itself (cert-manager's `selfSigned`, `openssl req -x509`): with CA:true it refuses it, and with CA:false
//! it would let its key sign others. As in Go, such a leaf is believed where it is, byte for byte, one of the file's
//! certificates, within its dates, for its usages, under its names; and what may not sign is no CA. Whoever shows a
//! certificate proves in the handshake that it has the key; ring verifies that signature in each case.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, Error, RootCertStore};

use super::certificate::{Facts, Usage};
use super::files::{Content, FileError, certificates, check_curve};

/// Where Go looks for the system's CAs on Linux; the first file that is there counts.
const SYSTEM_FILES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What a certificate must be besides verified: `--peer-cert-allowed-cn`, `--peer-cert-allowed-hostname`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Its common name.
    pub common_name: Option<String>,
    /// One of its names.
    pub hostname: Option<String>,
}

/// The certificates that are trusted, ready to verify others by.
#[derive(Debug)]
pub(super) struct Trust {
    /// Each certificate of the file: a leaf that is one of them needs no path.
    exact: BTreeSet<Vec<u8>>,
    /// For chains to those that may sign; none where none may.
    servers: Option<Arc<WebPkiServerVerifier>>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    allowed: Allowed,
    /// Serial numbers.
    revoked: BTreeSet<Vec<u8>>,
}

/// The CA file that counts: the given one, else the system's, as in Go.
pub(super) fn ca_file(given: Option<&Path>) -> PathBuf {
    let system = || SYSTEM_FILES.iter().map(PathBuf::from).find(|path| path.exists());
    let fallback = || PathBuf::from(SYSTEM_FILES[0]);
    let from_variable = || std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()).map(PathBuf::from);
    given.map(Path::to_owned).or_else(from_variable).or_else(system).unwrap_or_else(fallback)
}

impl Trust {
    /// Takes the CA file's certificates.
    ///
    /// # Errors
    /// The file cannot be read, or nothing can be verified by it.
    pub(super) fn new(
        provider: &Arc<CryptoProvider>,
        what: &str,
        path: &Path,
        content: &Content,
        allowed: &Allowed,
    ) -> Result<Self, FileError> {
        let what = format!("{what} CA file");
        let found = certificates(&format!("the {what}"), path, content)?;
        let is_systems = SYSTEM_FILES.iter().any(|file| Path::new(file) == path);
        if !is_systems {
            check_curve(&what, path, &found)?;
        }
        let mut roots = RootCertStore::empty();
        for certificate in found.iter().filter(|it| Facts::of(it).is_some_and(|facts| facts.may_sign())) {
            let added = roots.add(certificate.clone());
            if let Err(error) = added.as_ref().map_err(ToString::to_string)
                && !is_systems
            {
                let message = format!("the {what} `{}` has a certificate that cannot be used: {error}", path.display());
                return Err(FileError::new(message, "take the unusable certificate out of the file"));
            }
        }
        let roots = Arc::new(roots);
        let unusable = |error: rustls::server::VerifierBuilderError| {
            FileError::new(format!("the {what} `{}`: {error}", path.display()), "look at its certificates")
        };
        let (mut servers, mut clients) = (None, None);
        if !roots.is_empty() {
            let built = WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone()).build();
            servers = Some(built.map_err(unusable)?);
            let built = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build();
            clients = Some(built.map_err(unusable)?);
        }
        let exact = found.iter().map(|certificate| certificate.to_vec()).collect();
        Ok(Self { exact, servers, clients, allowed: allowed.clone(), revoked: BTreeSet::new() })
    }

    /// Believes no certificate of these serial numbers, whoever has issued it: etcd's `checkCRL` looks at no more.
    pub(super) fn without(self, revoked: BTreeSet<Vec<u8>>) -> Self {
        Self { revoked, ..self }
    }

    /// A server's certificate, dialled under this name.
    ///
    /// # Errors
    /// Why it is not believed.
    pub(super) fn verify_server(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.exact.contains(leaf.as_ref()) {
            verify_exact(leaf, Usage::Server, now)?;
            verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
        } else {
            let servers = self.servers.as_ref().ok_or(CertificateError::UnknownIssuer)?;
            servers.verify_server_cert(leaf, intermediates, name, &[], now)?;
        }
        self.verify_not_revoked(leaf, intermediates)?;
        self.verify_allowed(leaf)
    }

    /// A client's certificate.
    ///
    /// # Errors
    /// Why it is not believed.
    pub(super) fn verify_client(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.exact.contains(leaf.as_ref()) {
            verify_exact(leaf, Usage::Client, now)?;
        } else {
            let clients = self.clients.as_ref().ok_or(CertificateError::UnknownIssuer)?;
            clients.verify_client_cert(leaf, intermediates, now)?;
        }
        self.verify_not_revoked(leaf, intermediates)?;
        self.verify_allowed(leaf)
    }

    fn verify_not_revoked(&self, leaf: &CertificateDer<'_>, shown: &[CertificateDer<'_>]) -> Result<(), Error> {
        if self.revoked.is_empty() {
            return Ok(());
        }
        for certificate in std::iter::once(leaf).chain(shown) {
            let facts = Facts::of(certificate).ok_or(CertificateError::BadEncoding)?;
            if self.revoked.contains(&facts.serial) {
                return Err(CertificateError::Revoked.into());
            }
        }
        Ok(())
    }

    fn verify_allowed(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        if let Some(wanted) = &self.allowed.common_name {
            let found = Facts::of(leaf).and_then(|facts| facts.common_name);
            if found.as_ref() != Some(wanted) {
                return Err(CertificateError::ApplicationVerificationFailure.into());
            }
        }
        if let Some(wanted) = &self.allowed.hostname {
            let name = ServerName::try_from(wanted.as_str()).map_err(|_| CertificateError::NotValidForName)?;
            verify_server_name(&ParsedCertificate::try_from(leaf)?, &name)?;
        }
        Ok(())
    }
}

/// A certificate that is trusted as it is; webpki has read it, and refuses critical extensions that it does not know.
fn verify_exact(leaf: &CertificateDer<'_>, usage: Usage, now: UnixTime) -> Result<(), Error> {
    ParsedCertificate::try_from(leaf)?;
    let facts = Facts::of(leaf).ok_or(CertificateError::BadEncoding)?;
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
    let unix =
        |time: SystemTime| UnixTime::since_unix_epoch(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    if at > facts.not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after: unix(facts.not_after) }.into());
    }
    if at < facts.not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before: unix(facts.not_before) }.into());
    }
    if !facts.may_be(usage) {
        return Err(CertificateError::InvalidPurpose.into());
    }
    Ok(())
}

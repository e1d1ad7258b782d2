//! Certificates that rotate on disk while the pod waits: each handshake goes by the files as they are.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::certificate::Facts;
use super::files::{Content, FileError, Pair, certified_key, check_dates, read, revoked};
use super::trust::{Allowed, Trust};

/// How old what was read may be.
const FRESH: Duration = Duration::from_secs(1);

/// Which files there are, and what they are for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Files {
    /// `peer` or `client`, for messages.
    pub(super) what: &'static str,
    /// What this pod shows.
    pub(super) pair: Option<Pair>,
    /// Whom it believes; none where it believes anybody.
    pub(super) ca: Option<PathBuf>,
    /// Which certificates it does not believe any more.
    pub(super) crl: Option<PathBuf>,
    /// What a certificate must be besides verified.
    pub(super) allowed: Allowed,
}

/// The files, taken apart.
#[derive(Debug)]
pub(super) struct Material {
    pub(super) certified: Option<Arc<CertifiedKey>>,
    pub(super) trust: Option<Trust>,
}

impl Material {
    /// What the certificate that is shown says of itself.
    pub(super) fn leaf(&self) -> Option<Facts> {
        Facts::of(self.certified.as_ref()?.cert.first()?)
    }
}

/// The files' material as it is now.
pub(super) struct Live {
    files: Files,
    provider: Arc<CryptoProvider>,
    state: Mutex<State>,
}

struct State {
    material: Arc<Material>,
    contents: Vec<Content>,
    read: Instant,
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Live {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub(super) fn new(files: Files, provider: Arc<CryptoProvider>) -> Result<Arc<Self>, FileError> {
        let contents = read_all(&files);
        let material = Arc::new(material(&files, &provider, &contents)?);
        let state = Mutex::new(State { material, contents, read: Instant::now() });
        Ok(Arc::new(Self { files, provider, state }))
    }

    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    /// The material. Files that have changed count from now on; while they cannot be used (a rotation is not atomic),
    /// the last ones do.
    pub(super) fn current(&self) -> Arc<Material> {
        let mut state = self.state();
        if state.read.elapsed() < FRESH {
            return state.material.clone();
        }
        state.read = Instant::now();
        let contents = read_all(&self.files);
        if contents != state.contents {
            match material(&self.files, &self.provider, &contents) {
                Ok(material) => {
                    state.material = Arc::new(material);
                    tracing::info!("the {} certificates have changed on disk: the new ones count", self.files.what);
                }
                Err(error) => tracing::warn!("{error}: the last ones count until that is mended"),
            }
            state.contents = contents;
        }
        state.material.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_all(files: &Files) -> Vec<Content> {
    let pair = files.pair.iter().flat_map(|pair| [&pair.cert, &pair.key]);
    pair.chain(&files.ca).chain(&files.crl).map(|path| read(path)).collect()
}

fn material(files: &Files, provider: &Arc<CryptoProvider>, contents: &[Content]) -> Result<Material, FileError> {
    let mut contents = contents.iter();
    let mut next = || contents.next().ok_or_else(|| FileError::new("a file was not read", ""));
    let mut certified = None;
    if let Some(pair) = &files.pair {
        let found = certified_key(provider, files.what, pair, next()?, next()?)?;
        if let Some(leaf) = found.cert.first().and_then(|leaf| Facts::of(leaf)) {
            check_dates(files.what, &pair.cert, &leaf, SystemTime::now())?;
        }
        certified = Some(found);
    }
    let mut trust = match &files.ca {
        Some(path) => Some(Trust::new(provider, files.what, path, next()?, &files.allowed)?),
        None => None,
    };
    if let Some(path) = &files.crl {
        let revoked = revoked(files.what, path, next()?)?;
        trust = trust.map(|trust| trust.without(revoked));
    }
    Ok(Material { certified, trust })
}

impl ResolvesServerCert for Live {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current().certified.clone()
    }
}

impl ResolvesClientCert for Live {
    /// Whatever issuers the server hints at: as etcd does.
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.current().certified.clone()
    }

    fn has_certs(&self) -> bool {
        self.files.pair.is_some()
    }
}

impl ServerCertVerifier for Live {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // Without a CA file it is `--auto-tls`, where etcd believes anybody, too.
        if let Some(trust) = &self.current().trust {
            trust.verify_server(leaf, intermediates, name, now)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.files.ca {
            Some(_) => verify_tls12_signature(message, leaf, signed, &self.provider.signature_verification_algorithms),
            // A certificate that nobody believes proves nothing by its key, and etcd's own are on P-521.
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.files.ca {
            Some(_) => verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms),
            None => Ok(HandshakeSignatureValid::assertion()),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.provider.signature_verification_algorithms.supported_schemes();
        if self.files.ca.is_none() {
            schemes.push(SignatureScheme::ECDSA_NISTP521_SHA512);
        }
        schemes
    }
}

impl ClientCertVerifier for Live {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let material = self.current();
        let trust = material.trust.as_ref().ok_or(rustls::CertificateError::UnknownIssuer)?;
        trust.verify_client(leaf, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

//! The files of certificates and keys: read, taken apart, and checked before anybody else stumbles over them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::certificate::{self, Facts, mentions_p521, shown};

/// Why the files of this pod cannot be used: a mistake in its settings, or in what is mounted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FileError {
    /// Which file, and what is wrong with it.
    pub message: String,
    /// How to mend it.
    pub hint: &'static str,
}

impl FileError {
    pub(super) fn new(message: impl Into<String>, hint: &'static str) -> Self {
        Self { message: message.into(), hint }
    }
}

const P521_HINT: &str = "make a key on P-256 or P-384, or an RSA key of 2048 bits or more";

/// A certificate with its key, by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

/// A file's bytes, and what is wrong where there are none.
pub(super) type Content = Result<Vec<u8>, String>;

/// Reads a file; what is wrong with it becomes a fact.
pub(super) fn read(path: &Path) -> Content {
    fs::read(path).map_err(|error| reason(&error))
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not read it".to_owned(),
        _ => error.to_string(),
    }
}

fn readable<'a>(what: &str, path: &Path, content: &'a Content) -> Result<&'a [u8], FileError> {
    content.as_deref().map_err(|reason| {
        FileError::new(
            format!("{what} `{}`: {reason}", path.display()),
            "mount the Secret there, readable by the user that etcd runs as (fsGroup or defaultMode)",
        )
    })
}

/// All certificates of a file.
///
/// # Errors
/// The file cannot be read, or has none.
pub(super) fn certificates(
    what: &str,
    path: &Path,
    content: &Content,
) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let text = readable(what, path, content)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let bad = |reason: String| {
        FileError::new(
            format!("{what} `{}`: {reason}", path.display()),
            "it must be PEM: -----BEGIN CERTIFICATE----- and so on",
        )
    };
    let found = found.map_err(|error| bad(error.to_string()))?;
    if found.is_empty() {
        return Err(bad("there is no certificate in it".to_owned()));
    }
    if found.iter().any(|certificate| Facts::of(certificate).is_none()) {
        return Err(bad("a certificate in it cannot be read".to_owned()));
    }
    Ok(found)
}

/// The chain and its key, which fit each other.
///
/// # Errors
/// A file that cannot be read, a key that does not fit, or one that this program's TLS library does not have.
pub(super) fn certified_key(
    provider: &CryptoProvider,
    what: &str,
    pair: &Pair,
    cert: &Content,
    key: &Content,
) -> Result<Arc<CertifiedKey>, FileError> {
    let chain = certificates(&format!("the {what} certificate"), &pair.cert, cert)?;
    let key_what = format!("the {what} key");
    let at = format!("{key_what} `{}`", pair.key.display());
    let text = readable(&key_what, &pair.key, key)?;
    let der = PrivateKeyDer::from_pem_slice(text).map_err(|error| {
        FileError::new(
            format!("{at}: there is no private key in it ({error})"),
            "it must be an unencrypted PEM: PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY",
        )
    })?;
    if mentions_p521(der.secret_der()) {
        return Err(FileError::new(
            format!("{at} is on the curve P-521, which ring (the TLS library) lacks"),
            P521_HINT,
        ));
    }
    let key = provider.key_provider.load_private_key(der).map_err(|error| {
        FileError::new(
            format!("{at} cannot be used: {error}"),
            "make a key on P-256 or P-384, Ed25519, or an RSA key of 2048 to 4096 bits",
        )
    })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => Err(FileError::new(
            format!("{at} does not fit the certificate `{}`", pair.cert.display()),
            "take both from the same Secret",
        )),
        _ => Ok(Arc::new(certified)),
    }
}

/// The serial numbers of `--peer-crl-file`: DER, as etcd has it, or PEM, as some of its versions take it, too.
///
/// # Errors
/// The file cannot be read, or is no revocation list.
pub(super) fn revoked(what: &str, path: &Path, content: &Content) -> Result<BTreeSet<Vec<u8>>, FileError> {
    let what = format!("the {what} CRL file");
    let bytes = readable(&what, path, content)?;
    let pem = CertificateRevocationListDer::from_pem_slice(bytes);
    certificate::revoked(pem.as_deref().unwrap_or(bytes)).ok_or_else(|| {
        let message = format!("{what} `{}`: there is no revocation list in it", path.display());
        FileError::new(message, "it must be an X.509 CRL; without one, leave the setting out")
    })
}

/// The leaf is valid now.
///
/// # Errors
/// It has expired, or is not valid yet.
pub(super) fn check_dates(what: &str, path: &Path, leaf: &Facts, now: SystemTime) -> Result<(), FileError> {
    let at = format!("the {what} certificate `{}`", path.display());
    if now > leaf.not_after {
        let message = format!("{at} expired on {}", shown(leaf.not_after));
        return Err(FileError::new(message, "renew it (cert-manager: see the Certificate's status)"));
    }
    if now < leaf.not_before {
        let message = format!("{at} is not valid before {}, and it is {}", shown(leaf.not_before), shown(now));
        return Err(FileError::new(message, "compare this node's clock with that of the issuer"));
    }
    Ok(())
}

/// No certificate needs an algorithm that this program's TLS library lacks.
///
/// # Errors
/// One does.
pub(super) fn check_curve(what: &str, path: &Path, certificates: &[CertificateDer<'_>]) -> Result<(), FileError> {
    if certificates.iter().any(|certificate| mentions_p521(certificate)) {
        let message = format!(
            "the {what} `{}` has a key on the curve P-521, which ring (the TLS library) lacks: nothing that it signs \
             can be verified",
            path.display()
        );
        return Err(FileError::new(message, P521_HINT));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tests may run as root, who may read everything.
    #[test]
    fn a_file_that_this_user_may_not_read_is_told_from_one_that_is_not_there() {
        assert_eq!(reason(&io::ErrorKind::PermissionDenied.into()), "this user may not read it");
        assert_eq!(read(Path::new("/nowhere/tls.key")), Err("there is no such file".to_owned()));
    }
}

//! What went wrong in a handshake, in words for an operator.

use std::time::{Duration, SystemTime};

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};

use super::certificate::shown;

/// What an error of rustls means: of the other side's certificate, or what the other side says of this pod's.
pub fn sentence(error: &Error) -> String {
    match error {
        Error::InvalidMessage(_) => "what answers there is not TLS (plain http?)".to_owned(),
        Error::InvalidCertificate(problem) => its_certificate(problem),
        Error::AlertReceived(alert) => its_answer(*alert),
        Error::NoCertificatesPresented => "it shows no certificate, and one is demanded".to_owned(),
        Error::PeerIncompatible(rustls::PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon) => {
            "no signature algorithm in common (ring lacks P-521)".to_owned()
        }
        Error::UnsupportedNameType => "its host is neither a DNS name nor an address".to_owned(),
        other => other.to_string(),
    }
}

fn its_certificate(problem: &CertificateError) -> String {
    match problem {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("its certificate expired on {}", shown(moment(*not_after)))
        }
        CertificateError::Expired => "its certificate has expired".to_owned(),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "its certificate is not valid before {}, and here it is {}: compare the clocks",
            shown(moment(*not_before)),
            shown(moment(*time))
        ),
        CertificateError::NotValidYet => "its certificate is not valid yet: compare the clocks".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            let names = match names.is_empty() {
                true => "it has no names (SAN; a common name does not count)".to_owned(),
                false => format!("its names are {}", names.join(", ")),
            };
            format!("its certificate is not for {}: {names}", expected.to_str())
        }
        CertificateError::NotValidForName => "its certificate is not for the allowed host name".to_owned(),
        CertificateError::UnknownIssuer => {
            "its certificate is signed by no CA of this pod's CA file, and is not in it (another CA, or a self-signed \
             certificate that was renewed)"
                .to_owned()
        }
        CertificateError::BadSignature => {
            "its certificate has the name of a CA of this pod's CA file, but not its signature (a CA with a new key?)"
                .to_owned()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "its certificate is signed, or has a key, by an algorithm that ring (the TLS library) lacks, such as P-521"
                .to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not for this use: the extended key usage must have server auth and client auth, or be \
             left out"
                .to_owned()
        }
        CertificateError::Revoked => "its certificate is revoked: --peer-crl-file has its serial number".to_owned(),
        CertificateError::ApplicationVerificationFailure => {
            "its certificate does not have the common name that --peer-cert-allowed-cn allows".to_owned()
        }
        other => format!("its certificate cannot be used: {other}"),
    }
}

fn its_answer(alert: AlertDescription) -> String {
    let rejects = |why: &str| format!("it rejects this pod's certificate: {why}");
    match alert {
        AlertDescription::UnknownCA => rejects("it does not know the CA"),
        AlertDescription::CertificateExpired => rejects("expired, or not valid yet"),
        AlertDescription::CertificateRevoked => rejects("revoked"),
        AlertDescription::CertificateRequired => {
            "it demands a client certificate, and this pod has shown none".to_owned()
        }
        AlertDescription::BadCertificate | AlertDescription::AccessDenied => rejects(
            "wrong CA, wrong use (extended key usage without client auth), not the allowed common name, or none shown",
        ),
        AlertDescription::UnsupportedCertificate | AlertDescription::CertificateUnknown => {
            rejects("wrong use (extended key usage), or not the allowed common name")
        }
        AlertDescription::HandshakeFailure => {
            "no cipher or signature algorithm in common (--cipher-suites, or a key on P-521, which ring lacks)"
                .to_owned()
        }
        AlertDescription::ProtocolVersion => "no version of TLS in common (1.2 or 1.3 is needed)".to_owned(),
        other => format!("it ends the handshake: {other:?}"),
    }
}

/// webpki shows names as `DnsName("a")` and `IpAddress(1.2.3.4)`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

fn moment(time: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs())
}

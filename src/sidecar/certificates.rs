//! How long the certificates last that etcd's settings name.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Serialize;

use crate::flags::EtcdSettings;
use crate::tls;

/// etcd's settings that name certificates.
const SETTINGS: [&str; 6] = [
    "cert-file",
    "client-cert-file",
    "trusted-ca-file",
    "peer-cert-file",
    "peer-client-cert-file",
    "peer-trusted-ca-file",
];
const SECONDS_A_DAY: f64 = 86_400.0;

/// A file with certificates.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Certificate {
    /// etcd's setting that names it.
    pub setting: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Days until the first of its certificates ends; negative where it has ended, none where the file cannot be read.
    pub days_left: Option<f64>,
}

/// All that are set, each read now: they are rotated in place.
pub fn read(settings: &EtcdSettings) -> Vec<Certificate> {
    let now = SystemTime::now();
    let one = |setting: &'static str| {
        let path = PathBuf::from(settings.get(setting)?);
        let days_left = first_end(&path).map(|end| days(now, end));
        Some(Certificate { setting, path, days_left })
    };
    SETTINGS.into_iter().filter_map(one).collect()
}

/// When the first certificate of a PEM file ends.
fn first_end(path: &Path) -> Option<SystemTime> {
    let certificates = CertificateDer::pem_file_iter(path).ok()?;
    certificates.map(|certificate| tls::not_after(&certificate.ok()?)).collect::<Option<Vec<_>>>()?.into_iter().min()
}

/// Days from one moment to another, negative where that one is past.
fn days(from: SystemTime, to: SystemTime) -> f64 {
    let seconds = |moment: SystemTime| moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    (seconds(to) - seconds(from)) / SECONDS_A_DAY
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_first_end_in_a_file_counts() {
        let dir = tempfile::tempdir().unwrap();
        let pem = |year: i32| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut parameters = rcgen::CertificateParams::new(vec!["etcd-0".to_owned()]).unwrap();
            parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
            parameters.self_signed(&key).unwrap().pem()
        };
        let path = dir.path().join("tls.crt");
        std::fs::write(&path, pem(2060) + &pem(2040)).unwrap();
        assert_eq!(first_end(&path), Some(UNIX_EPOCH + Duration::from_secs(2_208_988_800)));
        let mut settings = EtcdSettings::default();
        settings.set("peer-cert-file", path.to_string_lossy());
        settings.set("trusted-ca-file", dir.path().join("missing").to_string_lossy());
        let read = read(&settings);
        assert_eq!(read.iter().map(|file| file.setting).collect::<Vec<_>>(), ["trusted-ca-file", "peer-cert-file"]);
        assert!(read[0].days_left.is_none() && read[1].days_left.is_some_and(|days| days > 1000.0));
        std::fs::write(&path, "no certificate").unwrap();
        assert_eq!(first_end(&path), None);
    }
}

//! Certificates of every shape, made for the tests.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationList, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, RevokedCertParams, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::settings::TlsFiles;

/// The name under which the tests dial; 127.0.0.1 is for etcd's own check of a client's address.
pub(crate) const HOST: &str = "etcd-0.etcd.default.svc";
pub(crate) const NAMES: [&str; 2] = [HOST, "127.0.0.1"];

/// A key for tests alone, for ring makes no RSA keys.
const RSA: &str = include_str!("testing/rsa.pem");
/// Another one, of the curve that ring lacks.
pub(crate) const P521: &str = include_str!("testing/p521.pem");

/// The texts of the three files.
#[derive(Clone)]
pub(crate) struct Texts {
    pub(crate) cert: String,
    pub(crate) key: String,
    pub(crate) ca: String,
}

impl Texts {
    /// Writes them; `name` keeps several apart.
    pub(crate) fn write(&self, dir: &Path, name: &str) -> TlsFiles {
        let file = |kind: &str, text: &str| {
            let path = dir.join(format!("{name}-{kind}.pem"));
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        TlsFiles {
            cert: file("cert", &self.cert),
            key: file("key", &self.key),
            trusted_ca: file("ca", &self.ca),
            client_cert_auth: true,
            ..TlsFiles::default()
        }
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.cert.as_bytes()).map(Result::unwrap).collect()
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}

pub(crate) fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "etcd");
    params
}

pub(crate) struct Authority {
    pub(crate) issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    pub(crate) fn new(name: &str) -> Self {
        let (params, key) = (Self::params(name), KeyPair::generate().unwrap());
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let (params, key) = (Self::params(name), KeyPair::generate().unwrap());
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    pub(crate) fn issue(&self, params: &CertificateParams, key: &KeyPair) -> Texts {
        let cert = params.signed_by(key, &self.issuer).unwrap().pem();
        Texts { cert, key: key.serialize_pem(), ca: self.pem.clone() }
    }

    /// A revocation list with these serial numbers.
    pub(crate) fn revoke(&self, serials: &[u64]) -> CertificateRevocationList {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2060, 1, 1),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap()
    }

    pub(crate) fn issue_new(&self, params: &CertificateParams) -> Texts {
        self.issue(params, &KeyPair::generate().unwrap())
    }
}

/// Its own root.
pub(crate) fn self_signed(params: &CertificateParams, key: &KeyPair) -> Texts {
    let cert = params.self_signed(key).unwrap().pem();
    Texts { ca: cert.clone(), cert, key: key.serialize_pem() }
}

/// As cert-manager's `selfSigned` issuer makes it: CA:false, no extended key usage.
pub(crate) fn seed(names: &[&str]) -> Texts {
    let mut params = params(names);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    self_signed(&params, &KeyPair::from_pem(RSA).unwrap())
}

/// Every shape that etcd takes.
pub(crate) fn shapes() -> Vec<(&'static str, Texts)> {
    let root = Authority::new("root");
    let middle = root.intermediate("middle");
    let plain = params(&NAMES);
    let mut both = params(&NAMES);
    both.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let mut chain = middle.issue_new(&both);
    chain.cert.push_str(&middle.pem);
    let partial = chain.clone();
    chain.ca.clone_from(&root.pem);
    let mut own_ca = params(&NAMES);
    own_ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let rsa = root.issue(&both, &KeyPair::from_pem(RSA).unwrap());
    // PKCS#1 is what PKCS#8 wraps, after 26 bytes. SEC1 moreover names the curve, between the secret and the public key.
    let pkcs1 = Texts { key: pem("RSA PRIVATE KEY", &rsa.private_key().secret_der()[26..]), ..rsa.clone() };
    let ec = root.issue_new(&both);
    let der = ec.private_key();
    let (secret, public) = der.secret_der()[31..].split_at(37);
    let curve = [0xa0, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    let der = [&[0x30, 0x77][..], secret, &curve, public].concat();
    let sec1 = Texts { key: pem("EC PRIVATE KEY", &der), ..ec.clone() };
    vec![
        ("internal CA, no extended key usage", root.issue_new(&plain)),
        ("internal CA, ECDSA P-256, SEC1", sec1),
        ("internal CA, ECDSA P-256, PKCS#8", ec),
        ("internal CA, ECDSA P-384", root.issue(&both, &p384)),
        ("internal CA, Ed25519", root.issue(&both, &ed25519)),
        ("internal CA, RSA, PKCS#1", pkcs1),
        ("internal CA, RSA, PKCS#8", rsa),
        ("intermediate chain", chain),
        ("an intermediate as the only CA", partial),
        ("wildcard", root.issue_new(&params(&["*.etcd.default.svc", "127.0.0.1"]))),
        ("self-signed, CA:false", seed(&NAMES)),
        ("self-signed, CA:true", self_signed(&own_ca, &KeyPair::generate().unwrap())),
    ]
}

fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in der.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize] as char;
            text.push(if place <= group.len() { digit } else { '=' });
        }
    }
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

//! Certificates for pods, and for the helpers that ask them: an internal CA, as cert-manager's CA issuer makes it.

use std::sync::{Arc, OnceLock};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::spec::PodSpec;

const DIRECTORY: &str = "/etc/etcd/tls";

/// A certificate, its key, and the CA file that goes with them.
#[derive(Clone)]
pub struct Identity {
    pub cert: String,
    pub key: String,
    pub ca: String,
}

impl Identity {
    /// Files as a Secret of cert-manager has them.
    pub fn files(&self, directory: &str) -> [(String, String); 3] {
        [("tls.crt", &self.cert), ("tls.key", &self.key), ("ca.crt", &self.ca)]
            .map(|(name, text)| (format!("{directory}/{name}"), text.clone()))
    }

    /// A client that shows this certificate; webpki alone verifies for it.
    pub fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.ca.as_bytes()).expect("a CA");
        roots.add(ca).expect("a root");
        let cert = CertificateDer::from_pem_slice(self.cert.as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_root_certificates(roots);
        let mut config = config.with_client_auth_cert(vec![cert], key).expect("a key that fits");
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }

    /// cert-manager's `selfSigned` issuer: one certificate for all pods, its own root, CA:false, no extended key usage.
    pub fn self_signed(names: impl Into<Vec<String>>) -> Self {
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, "etcd");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        let key = KeyPair::generate().expect("a key");
        let cert = params.self_signed(&key).expect("a certificate").pem();
        Self { ca: cert.clone(), cert, key: key.serialize_pem() }
    }
}

/// An internal CA.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// The CA of every pod whose template says `mutual_tls`.
    pub fn ours() -> &'static Self {
        static OURS: OnceLock<Authority> = OnceLock::new();
        OURS.get_or_init(|| Self::new("the pods' CA"))
    }

    pub fn issue(&self, common_name: &str, names: impl Into<Vec<String>>) -> Identity {
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Identity { cert, key: key.serialize_pem(), ca: self.pem.clone() }
    }

    /// A certificate for this pod, with the common name `etcd`.
    pub fn issue_for(&self, spec: &PodSpec) -> Identity {
        self.issue("etcd", names(spec))
    }
}

/// A pod's name in all its lengths.
pub fn names(spec: &PodSpec) -> Vec<String> {
    let whole = spec.domain_name();
    let dots = whole.match_indices('.').map(|(at, _)| whole[..at].to_owned());
    let mut names: Vec<String> = dots.filter(|name| !name.ends_with(".svc.cluster")).collect();
    names.push(whole);
    names
}

/// The client of whoever looks after the pods.
pub fn operator() -> Arc<ClientConfig> {
    static OPERATOR: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    OPERATOR.get_or_init(|| Authority::ours().issue("operator", Vec::new()).client()).clone()
}

/// The files of a pod whose template says `mutual_tls`.
pub fn files(spec: &PodSpec) -> [(String, String); 3] {
    Authority::ours().issue_for(spec).files(DIRECTORY)
}

/// etcd's variables for both ports.
pub fn variables() -> Vec<(String, String)> {
    let files = [("CERT_FILE", "tls.crt"), ("KEY_FILE", "tls.key"), ("TRUSTED_CA_FILE", "ca.crt")];
    let mut variables = Vec::new();
    for prefix in ["ETCD_", "ETCD_PEER_"] {
        variables.extend(files.map(|(name, file)| (format!("{prefix}{name}"), format!("{DIRECTORY}/{file}"))));
        variables.push((format!("{prefix}CLIENT_CERT_AUTH"), "true".to_owned()));
    }
    variables
}

/// etcdctl's variables.
pub fn ctl_variables() -> Vec<(String, String)> {
    [("CACERT", "ca.crt"), ("CERT", "tls.crt"), ("KEY", "tls.key")]
        .map(|(name, file)| (format!("ETCDCTL_{name}"), format!("{DIRECTORY}/{file}")))
        .to_vec()
}

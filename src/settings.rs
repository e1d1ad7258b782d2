//! The settings as the program needs them, once read and checked: what the decision sees, and what only the shell sees.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::flags::EtcdSettings;
use crate::intent::Intent;
use crate::names::Url;

/// Everything that was set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the decision needs.
    pub intent: Intent,
    /// etcd's own settings, complete but for what the decision computes.
    pub etcd_settings: EtcdSettings,
    /// The program to exec.
    pub etcd: PathBuf,
    /// `--data-dir`.
    pub data_dir: PathBuf,
    /// `--wal-dir`, where it is given.
    pub wal_dir: Option<PathBuf>,
    /// `--listen-peer-urls`: where the roll call is answered.
    pub listen_peer_urls: Vec<Url>,
    /// `--listen-client-urls`.
    pub listen_client_urls: Vec<Url>,
    /// `--listen-metrics-urls`.
    pub listen_metrics_urls: Vec<Url>,
    /// TLS on the peer port.
    pub peer_tls: TlsFiles,
    /// TLS on the client port, as a client.
    pub client_tls: TlsFiles,
    /// etcd's user, where authentication is on.
    pub credentials: Option<Credentials>,
    /// A resolver to ask instead of resolv.conf's.
    pub dns_server: Option<SocketAddr>,
    /// Print the plan and end.
    pub dry_run: bool,
    /// Answer, but never prepare, add, or exec.
    pub hold: bool,
}

/// The files of one TLS identity, as etcd's settings name them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, PEM.
    pub cert: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// The CA certificates that the other side is verified by, PEM.
    pub trusted_ca: Option<PathBuf>,
    /// The other side must show a certificate.
    pub client_cert_auth: bool,
    /// etcd makes a certificate of its own, which nobody can verify.
    pub auto_tls: bool,
}

/// A user of etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name.
    pub user: String,
    /// Its password; never printed.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

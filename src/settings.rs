//! The settings as the program needs them, once read and checked: what the decision sees, and what only the shell sees.

mod founders;
mod place;
mod resolve;
mod tls;
mod urls;
mod values;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::config_file::ConfigFile;
use crate::flags::EtcdSettings;
use crate::intent::Intent;
use crate::kube_api::ApiPlace;
use crate::names::Url;

pub use resolve::resolve;
pub use values::LogFormat;

/// Everything that was set.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the decision needs.
    pub intent: Intent,
    /// etcd's own settings, complete but for what the decision computes.
    pub etcd_settings: EtcdSettings,
    /// etcd's configuration file, where the settings came from one.
    pub config_file: Option<ConfigFile>,
    /// The program to exec.
    pub etcd: PathBuf,
    /// The program to ask for etcd's version: none where etcd runs in another container and nobody has named a program
    /// here. What lies at the usual place is of this container's image.
    pub etcd_here: Option<PathBuf>,
    /// `--data-dir`, absolute.
    pub data_dir: PathBuf,
    /// `--wal-dir`, absolute, where it is given.
    pub wal_dir: Option<PathBuf>,
    /// `--listen-peer-urls`: where the roll call is answered.
    pub listen_peer_urls: Vec<Url>,
    /// `--listen-client-urls`, without unix sockets.
    pub listen_client_urls: Vec<Url>,
    /// `--listen-client-http-urls`: where there are some, etcd's probes are there and not on the client URLs.
    pub listen_client_http_urls: Vec<Url>,
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
    /// Where `sidecar` answers.
    pub status_address: SocketAddr,
    /// Where the Kubernetes API is.
    pub kube_api: ApiPlace,
    /// Print the plan and end.
    pub dry_run: bool,
    /// What is logged: a filter of `tracing_subscriber`.
    pub log: String,
    /// How it is logged; none decides by the terminal.
    pub log_format: Option<LogFormat>,
    /// What is odd but no reason to stop, a sentence each.
    pub warnings: Vec<String>,
}

/// What settings are read from besides the command line and the environment.
pub struct Surroundings<'a> {
    /// The host's name.
    pub hostname: String,
    /// The directory that relative paths start from.
    pub working_dir: PathBuf,
    /// The text of resolv.conf.
    pub resolv_conf: Option<String>,
    /// Where the service account's volume is.
    pub service_account: PathBuf,
    /// The namespace that the service account's volume names.
    pub service_account_namespace: Option<String>,
    /// Reads a file that a setting names.
    pub read_file: &'a dyn Fn(&Path) -> io::Result<String>,
    /// The pod has an IPv4 address.
    pub has_ipv4: bool,
    /// The pod has an IPv6 address.
    pub has_ipv6: bool,
}

/// A setting that is missing, wrong, or contradicts another one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SettingsError {
    /// The exit code: 64 for a command line that cannot be read, 78 for a value that cannot be used.
    pub exit_code: u8,
    /// What is wrong, with the setting's name and value.
    pub message: String,
    /// How to mend it.
    pub hint: String,
}

impl SettingsError {
    /// A command line that cannot be read.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit_code: 64, message: message.into(), hint: hint.into() }
    }

    /// A value that is missing or cannot be used.
    pub fn config(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit_code: 78, message: message.into(), hint: hint.into() }
    }
}

/// The files of one TLS identity, as etcd's settings name them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, PEM.
    pub cert: Option<PathBuf>,
    /// Its key, PEM.
    pub key: Option<PathBuf>,
    /// The certificate to dial with, where it is another one (`--peer-client-cert-file`), PEM.
    pub dial_cert: Option<PathBuf>,
    /// Its key, PEM.
    pub dial_key: Option<PathBuf>,
    /// The CA certificates that the other side is verified by, PEM.
    pub trusted_ca: Option<PathBuf>,
    /// The certificates that are not believed any more (`--peer-crl-file`), DER or PEM.
    pub crl: Option<PathBuf>,
    /// The other side must show a certificate.
    pub client_cert_auth: bool,
    /// etcd makes a certificate of its own, which nobody can verify: none was given.
    pub auto_tls: bool,
    /// What the other side's certificate must be besides verified.
    pub allowed: crate::tls::Allowed,
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

#[cfg(test)]
pub(crate) mod tests;

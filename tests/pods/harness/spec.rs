//! What a pod is to run: the part of a StatefulSet's pod template that etcd's pods need.

use std::path::{Path, PathBuf};

use std::sync::Arc;

use rustls::ClientConfig;

use super::etcds::{Etcd, default_etcd};
use super::tls;

/// The client port that the helpers (etcdctl, writer, checker) use.
pub const CLIENT_PORT: u16 = 2379;

#[derive(Clone, Debug)]
pub struct PodSpec {
    pub name: String,
    pub service: String,
    pub namespace: String,
    /// The version at /usr/local/bin/etcd and etcdctl.
    pub etcd: Etcd,
    /// Whether the container has that etcd; etcdctl it has for the helpers.
    pub has_etcd: bool,
    pub argv: Vec<String>,
    /// All of the environment, beside PATH and HOSTNAME.
    pub env: Vec<(String, String)>,
    /// Host files that appear in /usr/local/bin under their own names.
    pub binaries: Vec<PathBuf>,
    /// Mount points of volumes that outlive the container and the pod.
    pub volumes: Vec<String>,
    /// Files of Secrets and ConfigMaps: path and content.
    pub files: Vec<(String, Vec<u8>)>,
    /// The service's named ports, which become SRV names.
    pub ports: Vec<(String, u16)>,
    /// The environment of etcdctl in this pod.
    pub ctl_env: Vec<(String, String)>,
    /// The scheme of the client URL.
    pub scheme: String,
    /// Each start gives the pod a certificate of the harness's CA.
    pub has_certificate: bool,
    /// How the helpers dial an https client URL.
    pub client_tls: Option<Arc<ClientConfig>>,
    /// The user and password of the helpers.
    pub user: Option<(String, String)>,
}

impl PodSpec {
    pub fn new(name: &str) -> Self {
        let ports = [("etcd-server", 2380), ("etcd-client", CLIENT_PORT), ("etcd-metrics", 2381)];
        Self {
            name: name.to_owned(),
            service: "etcd".to_owned(),
            namespace: "default".to_owned(),
            etcd: default_etcd(),
            has_etcd: true,
            argv: vec!["etcd-bootstrap".to_owned()],
            env: Vec::new(),
            binaries: Vec::new(),
            volumes: vec!["/data".to_owned()],
            files: Vec::new(),
            ports: ports.map(|(name, port)| (name.to_owned(), port)).to_vec(),
            ctl_env: Vec::new(),
            scheme: "http".to_owned(),
            has_certificate: false,
            client_tls: None,
            user: None,
        }
    }

    #[must_use]
    pub fn service(mut self, service: &str) -> Self {
        self.service = service.to_owned();
        self
    }

    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.to_owned();
        self
    }

    #[must_use]
    pub fn etcd(mut self, etcd: Etcd) -> Self {
        self.etcd = etcd;
        self
    }

    #[must_use]
    pub fn command<S: AsRef<str>>(mut self, argv: impl IntoIterator<Item = S>) -> Self {
        self.set_command(argv);
        self
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.set_env(name, value);
        self
    }

    #[must_use]
    pub fn binary(mut self, host_path: impl AsRef<Path>) -> Self {
        self.binaries.push(host_path.as_ref().to_owned());
        self
    }

    #[must_use]
    pub fn volume(mut self, mount_point: &str) -> Self {
        self.volumes.push(mount_point.to_owned());
        self
    }

    #[must_use]
    pub fn file(mut self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.files.retain(|(known, _)| known != path);
        self.files.push((path.to_owned(), content.as_ref().to_vec()));
        self
    }

    #[must_use]
    pub fn ports<S: AsRef<str>>(mut self, ports: impl IntoIterator<Item = (S, u16)>) -> Self {
        self.ports = ports.into_iter().map(|(name, port)| (name.as_ref().to_owned(), port)).collect();
        self
    }

    #[must_use]
    pub fn ctl_env(mut self, name: &str, value: &str) -> Self {
        self.ctl_env.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn scheme(mut self, scheme: &str) -> Self {
        self.scheme = scheme.to_owned();
        self
    }

    /// Mutual TLS on both ports, by the harness's CA.
    #[must_use]
    pub fn mutual_tls(mut self) -> Self {
        for (name, value) in tls::variables() {
            self.set_env(&name, &value);
        }
        self.ctl_env.extend(tls::ctl_variables());
        self.has_certificate = true;
        self.client_tls = Some(tls::operator());
        self.scheme("https")
    }

    pub fn set_command<S: AsRef<str>>(&mut self, argv: impl IntoIterator<Item = S>) {
        self.argv = argv.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
    }

    /// Everything after the program's name.
    pub fn set_args<S: AsRef<str>>(&mut self, args: impl IntoIterator<Item = S>) {
        self.argv.truncate(1);
        self.argv.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
    }

    pub fn set_env(&mut self, name: &str, value: &str) {
        self.unset_env(name);
        self.env.push((name.to_owned(), value.to_owned()));
    }

    pub fn unset_env(&mut self, name: &str) {
        self.env.retain(|(known, _)| known != name);
    }

    /// The name that the headless service gives this pod.
    pub fn domain_name(&self) -> String {
        format!("{}.{}.{}.svc.cluster.local", self.name, self.service, self.namespace)
    }
}

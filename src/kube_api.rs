//! The Kubernetes API, as far as this program asks it: with the pod's own service account, and one connection for each
//! question. Token and certificates are read each time, for Kubernetes exchanges them while the pod runs.

mod answers;
mod failure;
mod pods_watch;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use crate::connect::{self, Dialled, Security};
use crate::intent::Intent;
use crate::names::{Scheme, Url};
use crate::observation::PodsWanted;
use crate::peers::Resolve;

pub use failure::ApiFailure;
pub use pods_watch::PodsWatch;

use answers::{ClaimList, Scale, StatefulSet, Status};
use failure::Permission;

/// No StatefulSet is larger, nor a page of claims: etcd under the API takes 1.5 MiB for an object.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// How many claims are asked for at a time.
const CLAIMS_PER_PAGE: usize = 500;
/// Of a claim only the name is wanted; an API server that cannot cut the rest off sends it all.
const NAMES_ONLY: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// Where the API is, and what it is asked with: as Kubernetes tells each container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiPlace {
    /// `KUBERNETES_SERVICE_HOST`.
    pub host: Option<String>,
    /// `KUBERNETES_SERVICE_PORT`.
    pub port: u16,
    /// The service account's volume: `token` and `ca.crt`.
    pub service_account: PathBuf,
}

/// Asks for this pod's StatefulSet.
pub struct KubeApi<R> {
    url: Url,
    account: PathBuf,
    namespace: String,
    set: String,
    resolve: Arc<R>,
}

impl<R: Resolve> KubeApi<R> {
    /// The API that asks for the StatefulSet of this pod. Nothing is read yet. `resolve` is for an API server that goes
    /// by a name.
    ///
    /// # Errors
    /// Where this is no pod of a StatefulSet in Kubernetes.
    pub fn new(place: &ApiPlace, intent: &Intent, resolve: Arc<R>) -> Result<Self, ApiFailure> {
        let host = place.host.clone().ok_or(ApiFailure::NotInKubernetes)?;
        let (set, _) = intent.pod.split().ok_or_else(|| ApiFailure::NoStatefulSet(intent.pod.clone()))?;
        Ok(Self {
            url: Url { scheme: Scheme::Https, host, port: place.port },
            account: place.service_account.clone(),
            namespace: intent.namespace.clone(),
            set: set.to_owned(),
            resolve,
        })
    }

    /// How many replicas are wanted now. It needs `get` on `statefulsets/scale`.
    ///
    /// # Errors
    /// Why it is not known.
    pub async fn replicas(&self, deadline: Instant) -> Result<u32, ApiFailure> {
        let path = format!("{}/scale", self.set_path());
        let permission = Permission { verb: "get", group: "apps", resource: "statefulsets/scale" };
        let scale: Scale = self.get(&path, "application/json", permission, deadline).await?;
        Ok(scale.spec.replicas)
    }

    /// The StatefulSet's first ordinal. It needs `get` on `statefulsets`.
    ///
    /// # Errors
    /// Why it is not known.
    pub async fn ordinal_start(&self, deadline: Instant) -> Result<u32, ApiFailure> {
        Ok(self.stateful_set(deadline).await?.ordinal_start())
    }

    /// Which pods there may be: the replicas under `Parallel`, for all of them start at once, and the ordinals that have
    /// a PersistentVolumeClaim. It needs `get` on `statefulsets`, and `list` on `persistentvolumeclaims`, without which
    /// the replicas have to do where there are some.
    ///
    /// # Errors
    /// Why it is not known.
    pub async fn pods_wanted(&self, ordinal_start: u32, deadline: Instant) -> Result<PodsWanted, ApiFailure> {
        let set = self.stateful_set(deadline).await?;
        let start = set.ordinal_start();
        if start != ordinal_start {
            tracing::warn!(
                "the StatefulSet {} has spec.ordinals.start {start}, and BOOTSTRAP_ORDINAL_START is {ordinal_start}: \
                 let both say the same",
                self.set
            );
        }
        let replicas = set.is_parallel().then(|| set.replicas());
        let claimed = match self.claimed(&set.claim_templates(), deadline).await {
            Err(failure) if replicas.is_none() => return Err(failure),
            claimed => claimed.unwrap_or_default(),
        };
        Ok(PodsWanted { replicas, claimed })
    }

    /// The ordinals with a claim of one of these templates, which Kubernetes names TEMPLATE-SET-ORDINAL.
    async fn claimed(&self, templates: &[&str], deadline: Instant) -> Result<BTreeSet<u32>, ApiFailure> {
        let mut ordinals = BTreeSet::new();
        if templates.is_empty() {
            return Ok(ordinals);
        }
        let prefixes: Vec<String> = templates.iter().map(|template| format!("{template}-{}-", self.set)).collect();
        let mut next = Some(String::new());
        while let Some(after) = next {
            let path =
                format!("/api/v1/namespaces/{}/persistentvolumeclaims?limit={CLAIMS_PER_PAGE}{after}", self.namespace);
            let permission = Permission { verb: "list", group: "", resource: "persistentvolumeclaims" };
            let page: ClaimList = self.get(&path, NAMES_ONLY, permission, deadline).await?;
            let ordinal =
                |name: &str| prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)?.parse::<u32>().ok());
            ordinals.extend(page.names().filter_map(ordinal));
            next = page.next().map(|token| format!("&continue={token}"));
        }
        Ok(ordinals)
    }

    async fn stateful_set(&self, deadline: Instant) -> Result<StatefulSet, ApiFailure> {
        let permission = Permission { verb: "get", group: "apps", resource: "statefulsets" };
        self.get(&self.set_path(), "application/json", permission, deadline).await
    }

    fn set_path(&self) -> String {
        format!("/apis/apps/v1/namespaces/{}/statefulsets/{}", self.namespace, self.set)
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        accept: &str,
        permission: Permission,
        deadline: Instant,
    ) -> Result<T, ApiFailure> {
        let work = async {
            let token = self.read("token")?;
            let dialled = self.dial(deadline).await?;
            let request = Request::get(path)
                .header(header::HOST, self.url.authority())
                .header(header::AUTHORIZATION, format!("Bearer {}", token.trim()))
                .header(header::ACCEPT, accept)
                .header(header::USER_AGENT, concat!("etcd-bootstrap/", env!("CARGO_PKG_VERSION")))
                .body(Empty::new())
                .map_err(|error| ApiFailure::NoAccount(format!("the token cannot be sent: {error}")))?;
            exchange(dialled, request).await.map_err(|reason| self.unreachable(reason))
        };
        let timed_out = || ApiFailure::TimedOut(self.url.authority());
        let (status, body) = timeout_at(deadline, work).await.map_err(|_| timed_out())??;
        if status == StatusCode::OK {
            return serde_json::from_slice(&body)
                .map_err(|error| ApiFailure::Unreadable(format!("{path} cannot be read: {error}")));
        }
        let message = serde_json::from_slice::<Status>(&body).map(|status| status.message).unwrap_or_default();
        Err(match status {
            StatusCode::UNAUTHORIZED => ApiFailure::Unauthorized,
            StatusCode::FORBIDDEN => ApiFailure::Forbidden { message, permission, set: self.set.clone() },
            StatusCode::NOT_FOUND => ApiFailure::NotFound { set: self.set.clone(), namespace: self.namespace.clone() },
            status => ApiFailure::Refused { status: status.as_u16(), message },
        })
    }

    async fn dial(&self, deadline: Instant) -> Result<Dialled, ApiFailure> {
        let addresses: Vec<IpAddr> = match self.url.host.parse() {
            Ok(address) => vec![address],
            Err(_) => {
                let found = self.resolve.addresses(&self.url.host).await;
                found.map_err(|failure| self.unreachable(format!("{}: {failure}", self.url.host)))?
            }
        };
        Ok(connect::dial(&self.url, &addresses, &self.security()?, deadline).await?)
    }

    /// Trust in the cluster's certificate authority, and no certificate of its own: the token does that.
    fn security(&self) -> Result<Security, ApiFailure> {
        let pem = self.read("ca.crt")?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem.as_bytes()).flatten());
        if roots.is_empty() {
            let path = self.account.join("ca.crt");
            return Err(ApiFailure::NoAccount(format!("`{}` has no certificate", path.display())));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| self.unreachable(error.to_string()))?;
        Ok(Security::peer_port(config.with_root_certificates(roots).with_no_client_auth()))
    }

    fn read(&self, name: &str) -> Result<String, ApiFailure> {
        let path: &Path = &self.account.join(name);
        std::fs::read_to_string(path).map_err(|error| ApiFailure::NoAccount(format!("`{}`: {error}", path.display())))
    }

    fn unreachable(&self, reason: String) -> ApiFailure {
        ApiFailure::Unreachable { address: self.url.authority(), reason }
    }
}

/// One question and its answer, over HTTP/1.1.
async fn exchange(dialled: Dialled, request: Request<Empty<Bytes>>) -> Result<(StatusCode, Bytes), String> {
    let Dialled { stream, wire, .. } = dialled;
    let failed = |error: String| wire.tls_failure().unwrap_or(error);
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| failed(error.to_string()))?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        body.map(|body| (status, body.to_bytes())).map_err(|error| failed(error.to_string()))
    };
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // The answer may be complete in the moment in which the connection ends.
        _ = connection => answer.await,
    }
}

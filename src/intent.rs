//! What the operator wants: validated, and fixed for the life of the process.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::identity;
use crate::names::{ClusterId, MemberId, PodName, Url};
use crate::observation::Member;

/// What the decision needs to know of the settings.
#[derive(Clone, Debug, Serialize)]
pub struct Intent {
    /// This pod.
    pub pod: PodName,
    /// This member's name, `--name`.
    pub name: String,
    /// The pod's namespace, where it is known.
    pub namespace: String,
    /// The headless service; none where only `--initial-cluster` tells the peers.
    pub service: Option<String>,
    /// The cluster's DNS domain, `cluster.local` as a rule.
    pub domain: String,
    /// This member's peer URLs, `--initial-advertise-peer-urls`; never empty.
    pub peer_urls: Vec<Url>,
    /// This member's client URLs, `--advertise-client-urls`; never empty.
    pub client_urls: Vec<Url>,
    /// The cluster that a founding would make.
    pub plan: Plan,
    /// The StatefulSet's first ordinal.
    pub ordinal_start: u32,
    /// Where the names of the peers come from.
    pub discovery: Discovery,
    /// Whether a cluster may be founded.
    pub state: State,
    /// How a new member is added.
    pub join_as: JoinAs,
    /// What to do where the disk is empty and the cluster knows this member.
    pub on_lost_data: OnLostData,
    /// What to do where the cluster has removed the member on disk.
    pub on_removed: OnRemoved,
    /// This pod may use `--force-new-cluster`, once.
    pub force_new_cluster: bool,
    /// How many learners the cluster takes at a time, `--max-learners`; 1 before etcd 3.6.
    pub learners_max: usize,
    /// Stay up and answer, but promise nothing, change nothing and start nothing (`BOOTSTRAP_HOLD`).
    pub hold: bool,
    /// How long to wait in all; none is for ever.
    pub timeout: Option<Duration>,
}

impl Intent {
    /// This pod is one of those that found the cluster.
    pub fn is_founder(&self) -> bool {
        self.plan.pods().contains(&self.pod)
    }

    /// The ID that this member has in the planned cluster.
    pub fn static_id(&self) -> Option<MemberId> {
        let own = self.plan.founders.iter().find(|founder| founder.pod() == self.pod)?;
        Some(identity::member_id(&own.peer_urls, &self.plan.token))
    }

    /// Whether a listed member is this pod's: by the pod's name, which outlives a change from http to https or from a
    /// short host to a long one; never by the ordinal alone (one set per zone: etcd-a-0, etcd-b-0).
    pub fn is_mine(&self, member: &Member) -> bool {
        member.pod() == self.pod || self.peer_urls.iter().any(|url| self.is_listed_at(member, url))
    }

    /// Whether a member is listed at this URL, however short the host is written in either.
    pub fn is_listed_at(&self, member: &Member, url: &Url) -> bool {
        let listed = member.peer_urls.iter().filter_map(|listed| listed.parse::<Url>().ok());
        listed.into_iter().any(|listed| listed.port == url.port && self.same_host(&listed.host, &url.host))
    }

    /// Where a pod's peer port is looked for: as the plan has it, else this pod's own URL with the name exchanged.
    pub fn peer_url(&self, pod: &PodName) -> Url {
        let planned = self.plan.founders.iter().find(|founder| founder.pod() == *pod);
        match planned.and_then(|founder| founder.peer_urls.first()) {
            Some(url) if *pod != self.pod => url.clone(),
            _ if *pod == self.pod => self.peer_urls[0].clone(),
            _ => self.peer_urls[0].at_pod(pod),
        }
    }

    /// A host as an absolute DNS name (with the final dot) where it is one of the headless service's short
    /// forms, `POD.SERVICE`, `POD.SERVICE.NAMESPACE` and so on; none for any other host.
    pub fn absolute(&self, host: &str) -> Option<String> {
        if host.ends_with('.') {
            return Some(host.to_owned());
        }
        let service = self.service.as_deref()?;
        let (pod, rest) = host.split_once('.')?;
        let full = format!("{service}.{}.svc.{}", self.namespace, self.domain);
        let short_form = full == rest || full.strip_prefix(rest).is_some_and(|tail| tail.starts_with('.'));
        short_form.then(|| format!("{pod}.{full}."))
    }

    /// Whether two hosts are the same pod, however short each is written.
    pub fn same_host(&self, left: &str, right: &str) -> bool {
        let normal = |host: &str| {
            let host = host.trim_end_matches('.').to_ascii_lowercase();
            self.absolute(&host).unwrap_or(host)
        };
        normal(left) == normal(right)
    }
}

/// The cluster that a founding makes: who is in it, and the token that tells it from others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The initial members, in the order of their names.
    pub founders: Vec<Founder>,
    /// `--initial-cluster-token`.
    pub token: String,
    /// The ID that the cluster gets: a function of the two above.
    pub cluster_id: ClusterId,
}

impl Plan {
    /// The plan of these members; sorts them.
    pub fn new(mut founders: Vec<Founder>, token: String) -> Self {
        founders.sort_by(|a, b| (a.pod(), &a.name).cmp(&(b.pod(), &b.name)));
        let ids = founders.iter().map(|founder| identity::member_id(&founder.peer_urls, &token));
        let cluster_id = identity::cluster_id(ids);
        Self { founders, token, cluster_id }
    }

    /// The pods of the initial members.
    pub fn pods(&self) -> BTreeSet<PodName> {
        self.founders.iter().map(Founder::pod).collect()
    }

    /// The value of `--initial-cluster`.
    pub fn initial_cluster(&self) -> String {
        let entries: Vec<String> = self
            .founders
            .iter()
            .flat_map(|founder| founder.peer_urls.iter().map(move |url| format!("{}={url}", founder.name)))
            .collect();
        entries.join(",")
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (token {}, {})", self.cluster_id, self.token, self.initial_cluster())
    }
}

/// An initial member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founder {
    /// The member's name.
    pub name: String,
    /// Its peer URLs; never empty.
    pub peer_urls: Vec<Url>,
}

impl Founder {
    /// The pod that the member runs in.
    pub fn pod(&self) -> PodName {
        let host_pod = self.peer_urls[0].pod();
        if self.peer_urls[0].host.parse::<std::net::IpAddr>().is_ok() {
            return PodName::new(&self.name);
        }
        host_pod
    }
}

/// Where the names of the peers come from (`BOOTSTRAP_DISCOVERY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Discovery {
    /// The SRV records of the headless service, with the ordinal names as a fallback.
    Srv,
    /// The ordinal names, `SET-0`, `SET-1` and so on.
    A,
    /// `--initial-cluster` alone.
    Static,
}

/// Whether a cluster may be founded (`BOOTSTRAP_STATE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As the peers' statements decide.
    Auto,
    /// Never found a cluster.
    Existing,
    /// Do not wait for silent pods.
    New,
}

/// How a new member is added (`BOOTSTRAP_JOIN_AS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum JoinAs {
    /// Without a vote at first, and promoted once it has caught up.
    Learner,
    /// With a vote from the start.
    Voter,
}

/// What to do where the disk is empty but the cluster knows this member (`BOOTSTRAP_ON_LOST_DATA`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OnLostData {
    /// Remove the old member and add a new one.
    Replace,
    /// Refuse.
    Fail,
}

/// What to do where the cluster has removed the member on disk (`BOOTSTRAP_ON_REMOVED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OnRemoved {
    /// Archive the data and join as a new member.
    Rejoin,
    /// Refuse.
    Fail,
}

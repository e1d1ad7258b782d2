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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    /// The pod `etcd-OWN` of the service `etcd` in this namespace, with this many founders and the default settings.
    pub(crate) fn intent_of(namespace: &str, own: u32, founders: u32) -> Intent {
        let at = |n: u32, port: u16| vec![url(&format!("http://etcd-{n}.etcd.{namespace}.svc:{port}"))];
        let founder = |n| Founder { name: format!("etcd-{n}"), peer_urls: at(n, 2380) };
        Intent {
            pod: PodName::new(format!("etcd-{own}")),
            name: format!("etcd-{own}"),
            namespace: namespace.to_owned(),
            service: Some("etcd".to_owned()),
            domain: "cluster.local".to_owned(),
            peer_urls: at(own, 2380),
            client_urls: at(own, 2379),
            plan: Plan::new((0..founders).map(founder).collect(), format!("{namespace}/etcd")),
            ordinal_start: 0,
            discovery: Discovery::Srv,
            state: State::Auto,
            join_as: JoinAs::Learner,
            on_lost_data: OnLostData::Replace,
            on_removed: OnRemoved::Rejoin,
            force_new_cluster: false,
            learners_max: 1,
            hold: false,
            timeout: None,
        }
    }

    /// The same in `ns`, with three founders.
    pub(crate) fn intent(own: u32) -> Intent {
        intent_of("ns", own, 3)
    }

    pub(crate) fn member(id: u64, name: &str, peer_urls: &[&str]) -> Member {
        Member {
            id: MemberId(id),
            name: name.to_owned(),
            peer_urls: peer_urls.iter().map(|url| (*url).to_owned()).collect(),
            client_urls: vec!["http://c:2379".to_owned()],
            is_learner: false,
        }
    }

    #[test]
    fn a_founder_has_a_static_id() {
        assert!(intent(2).is_founder() && !intent(3).is_founder());
        let own = [url("http://etcd-2.etcd.ns.svc:2380")];
        assert_eq!(intent(2).static_id(), Some(identity::member_id(&own, "ns/etcd")));
        assert_eq!(intent(3).static_id(), None);
    }

    #[test]
    fn a_plan_is_the_same_in_any_order() {
        let mut founders = intent(0).plan.founders;
        founders.reverse();
        assert_eq!(Plan::new(founders, "ns/etcd".to_owned()), intent(0).plan);
        assert_ne!(Plan::new(intent(0).plan.founders, "other".to_owned()).cluster_id, intent(0).plan.cluster_id);
        let two_urls = Founder { name: "m".to_owned(), peer_urls: vec![url("http://a:1"), url("http://b:1")] };
        let plan = Plan::new(vec![two_urls], "t".to_owned());
        assert_eq!(plan.to_string(), format!("{} (token t, m=http://a:1,m=http://b:1)", plan.cluster_id));
    }

    #[test]
    fn a_founder_at_an_address_is_the_pod_of_its_name() {
        let founder = |text| Founder { name: "etcd-1".to_owned(), peer_urls: vec![url(text)] };
        assert_eq!(founder("http://10.0.0.1:2380").pod(), PodName::from("etcd-1"));
        assert_eq!(founder("http://other-1.etcd:2380").pod(), PodName::from("other-1"));
    }

    #[test]
    fn a_member_is_mine_by_its_pod() {
        let mine = |name, urls: &[&str]| intent(1).is_mine(&member(1, name, urls));
        assert!(mine("", &["http://etcd-1.etcd.ns.svc:2380"]));
        assert!(mine("x", &["https://etcd-1.etcd.ns.svc.cluster.local:2381"]));
        assert!(mine("etcd-1", &["http://10.0.0.1:2380"]));
        assert!(!mine("etcd-1", &["http://etcd-2.etcd.ns.svc:2380"]));
        assert!(!mine("etcd-2", &["http://etcd-b-1.etcd.ns.svc:2380"]));
        assert!(!mine("", &["http://etcd-10.etcd.ns.svc:2380"]));
        // An unstarted member at this pod's address has no name yet.
        let at_address = Intent { peer_urls: vec![url("http://10.0.0.1:2380")], ..intent(1) };
        assert!(at_address.is_mine(&member(1, "", &["http://10.0.0.1:2380"])));
        assert!(!at_address.is_mine(&member(1, "", &["http://10.0.0.1:2381"])));
    }

    #[test]
    fn hosts_are_the_same_however_short() {
        let same = |a, b| intent(0).same_host(a, b);
        for host in [
            "etcd-0.etcd",
            "etcd-0.etcd.ns",
            "etcd-0.etcd.ns.svc",
            "ETCD-0.etcd.ns.svc.cluster.local",
            "etcd-0.etcd.ns.svc.cluster.local.",
        ] {
            assert!(same(host, "etcd-0.etcd.ns.svc"), "{host}");
        }
        for host in ["etcd-0", "etcd-1.etcd.ns.svc", "etcd-0.etcd.other.svc", "etcd-0.etc", "etcd-0.etcd.ns.svcx"] {
            assert!(!same(host, "etcd-0.etcd.ns.svc"), "{host}");
        }
        let no_service = Intent { service: None, ..intent(0) };
        assert!(!no_service.same_host("etcd-0.etcd", "etcd-0.etcd.ns.svc") && no_service.same_host("a.b.", "A.b"));
    }

    #[test]
    fn absolute_is_for_the_services_own_names() {
        let absolute = |host| intent(0).absolute(host);
        let full = Some("etcd-4.etcd.ns.svc.cluster.local.".to_owned());
        assert_eq!(absolute("etcd-4.etcd"), full);
        assert_eq!(absolute("etcd-4.etcd.ns.svc.cluster.local"), full);
        assert_eq!(absolute("db.example.com."), Some("db.example.com.".to_owned()));
        assert_eq!(absolute("db.example.com"), None);
        assert_eq!(absolute("etcd-4"), None);
    }

    #[test]
    fn a_peer_is_looked_for_where_the_plan_has_it_else_beside_this_pod() {
        let mut intent = intent(1);
        intent.plan.founders[0].peer_urls = vec![url("https://etcd-0.elsewhere:1")];
        assert_eq!(intent.peer_url(&PodName::from("etcd-0")), url("https://etcd-0.elsewhere:1"));
        assert_eq!(intent.peer_url(&PodName::from("etcd-7")), url("http://etcd-7.etcd.ns.svc:2380"));
        intent.peer_urls = vec![url("http://mine:1")];
        assert_eq!(intent.peer_url(&PodName::from("etcd-1")), url("http://mine:1"));
    }
}

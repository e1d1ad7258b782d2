//! Where this pod stands: its name, its service, its namespace, and the cluster's domain.

use super::{SettingsError, Surroundings};
use crate::cli::Invocation;
use crate::flags::EtcdSettings;
use crate::names::{PodName, Url};
use crate::options;

/// Where this pod stands.
pub(super) struct Place {
    /// The member's name.
    pub(super) name: String,
    /// The pod, as its environment names it.
    pub(super) pod: PodName,
    /// The variable that names the pod; none where the name is the member's.
    pub(super) pod_origin: Option<&'static str>,
    /// The headless service.
    pub(super) service: Option<String>,
    /// The namespace, where it is known.
    pub(super) namespace: Option<String>,
    /// The cluster's DNS domain.
    pub(super) domain: String,
}

/// What Kubernetes calls things, from whatever tells it first.
///
/// # Errors
/// Exit code 78: nothing names the member, or its name cannot stand in `--initial-cluster`.
pub(super) fn place(
    given: &Invocation,
    etcd: &EtcdSettings,
    env: impl Fn(&str) -> Option<String>,
    surroundings: &Surroundings<'_>,
) -> Result<Place, SettingsError> {
    let hostname = Some(surroundings.hostname.clone()).filter(|name| !name.is_empty());
    let named = given.option(options::NAME).or_else(|| etcd.get("name")).map(str::to_owned);
    let (pod, pod_origin) = pod(&env, hostname, named.as_deref())?;
    let name = named.unwrap_or_else(|| pod.to_string());
    if name.contains(|c: char| matches!(c, '=' | ',' | '&' | ';' | '%' | '+') || c.is_whitespace() || c.is_control()) {
        return Err(SettingsError::config(
            format!("--name={name} cannot stand in --initial-cluster"),
            "take letters, digits, dashes and dots",
        ));
    }
    let peer_host =
        etcd.get("initial-advertise-peer-urls").and_then(|urls| urls.split(',').next()?.parse::<Url>().ok());
    let below_service = peer_host.as_ref().and_then(|url| service_and_namespace(&url.host));
    let search = surroundings.resolv_conf.as_deref().and_then(search_list);
    let account = surroundings.service_account_namespace.as_deref().map(str::trim).filter(|name| !name.is_empty());
    let option = |variable| given.option(variable).map(str::to_owned);
    Ok(Place {
        name,
        pod,
        pod_origin,
        service: option(options::SERVICE)
            .or_else(|| env("SERVICE_NAME"))
            .or_else(|| below_service.map(|(service, _)| service.to_owned())),
        namespace: option(options::NAMESPACE)
            .or_else(|| env("K8S_NAMESPACE"))
            .or_else(|| env("POD_NAMESPACE"))
            .or_else(|| account.map(str::to_owned))
            .or_else(|| search.map(|(namespace, _)| namespace.to_owned()))
            .or_else(|| below_service.map(|(_, namespace)| namespace.to_owned())),
        domain: option(options::CLUSTER_DOMAIN)
            .or_else(|| search.map(|(_, domain)| domain.to_owned()))
            .map(|domain| domain.trim_matches('.').to_owned())
            .filter(|domain| !domain.is_empty())
            .unwrap_or_else(|| "cluster.local".to_owned()),
    })
}

/// The pod: `POD_NAME` if that is set, else the first of `HOSTNAME`, the host's name and the member's name that has
/// an ordinal (on the host's network `HOSTNAME` is the node), else the first of them.
fn pod(
    env: impl Fn(&str) -> Option<String>,
    hostname: Option<String>,
    name: Option<&str>,
) -> Result<(PodName, Option<&'static str>), SettingsError> {
    if let Some(pod) = env("POD_NAME") {
        return Ok((PodName::of_host(&pod), Some("POD_NAME")));
    }
    let candidates =
        [(env("HOSTNAME"), Some("HOSTNAME")), (hostname, Some("the host's name")), (name.map(str::to_owned), None)];
    let candidates: Vec<(PodName, Option<&'static str>)> =
        candidates.into_iter().filter_map(|(pod, origin)| pod.map(|pod| (PodName::of_host(&pod), origin))).collect();
    let found = candidates.iter().find(|(pod, _)| pod.ordinal().is_some()).or_else(|| candidates.first());
    found.cloned().ok_or_else(|| {
        SettingsError::config("nothing names this pod", "set POD_NAME from fieldRef metadata.name, or BOOTSTRAP_NAME")
    })
}

/// The service and the namespace in `POD.SERVICE.NAMESPACE.svc`.
fn service_and_namespace(host: &str) -> Option<(&str, &str)> {
    let labels: Vec<&str> = host.split('.').collect();
    match labels.as_slice() {
        [_, service, namespace, "svc", ..] => Some((service, namespace)),
        _ => None,
    }
}

/// The namespace and the domain in a pod's resolv.conf: `search NAMESPACE.svc.DOMAIN svc.DOMAIN DOMAIN`.
fn search_list(resolv_conf: &str) -> Option<(&str, &str)> {
    let mut lists = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("search")).then_some(words)
    });
    // As libc has it, the last list counts.
    lists.next_back()?.find_map(|name| {
        let (namespace, domain) = name.trim_end_matches('.').split_once(".svc.")?;
        (!namespace.contains('.') && !domain.is_empty()).then_some((namespace, domain))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_list_tells_namespace_and_domain() {
        let text =
            "nameserver 10.0.0.10\nsearch prod.svc.k8s.example svc.k8s.example k8s.example lan\noptions ndots:5\n";
        assert_eq!(search_list(text), Some(("prod", "k8s.example")));
        assert_eq!(search_list("search lan example.com\n"), None);
        assert_eq!(search_list("search a.svc.b\nsearch lan\n"), None);
        assert_eq!(search_list(""), None);
    }
}

//! Who founds the cluster: as `--initial-cluster` says, else the first ordinals of the StatefulSet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::urls::{joined, shown};
use super::{SettingsError, values};
use crate::cli::Invocation;
use crate::flags::EtcdSettings;
use crate::intent::Founder;
use crate::names::{PodName, Url};
use crate::options;

/// The members of `--initial-cluster`, in its order; none where it is not given.
///
/// # Errors
/// Exit code 78: it is empty or not of the form NAME=URL, or gives a URL twice, or one name to two pods.
pub(super) fn listed(etcd: &EtcdSettings) -> Result<Option<Vec<Founder>>, SettingsError> {
    let Some(setting) = etcd.given("initial-cluster") else { return Ok(None) };
    let fail = |reason: String| {
        let hint = "write NAME=URL,NAME=URL with each member's peer URL, or leave --initial-cluster out and set \
                    BOOTSTRAP_INITIAL_CLUSTER_SIZE";
        SettingsError::config(format!("{}: {reason}", shown(etcd, "initial-cluster")), hint)
    };
    let mut founders: Vec<Founder> = Vec::new();
    for entry in setting.value.split(',').map(str::trim) {
        let Some((name, url)) = entry.split_once('=') else {
            return Err(fail(if entry.is_empty() {
                "it names no member".into()
            } else {
                format!("`{entry}` has no `=`")
            }));
        };
        let url: Url = url.parse().map_err(|error: crate::names::UrlError| fail(error.to_string()))?;
        if name.is_empty() {
            return Err(fail(format!("`{entry}` has no name")));
        }
        if let Some(other) = founders.iter().find(|founder| founder.peer_urls.contains(&url)) {
            return Err(fail(format!("{url} is there twice, for {} and for {name}", other.name)));
        }
        match founders.iter_mut().find(|founder| founder.name == name) {
            Some(founder)
                if is_address(&founder.peer_urls[0]) == is_address(&url)
                    && !is_address(&url)
                    && founder.peer_urls[0].pod() != url.pod() =>
            {
                return Err(fail(format!("{name} is there twice, at {} and at {url}", founder.peer_urls[0])));
            }
            Some(founder) => founder.peer_urls.push(url),
            None => founders.push(Founder { name: name.to_owned(), peer_urls: vec![url] }),
        }
    }
    let mut pods: BTreeMap<PodName, &str> = BTreeMap::new();
    for founder in &founders {
        if let Some(other) = pods.insert(founder.pod(), &founder.name) {
            let pod = founder.pod();
            return Err(fail(format!(
                "{other} and {} are both in {pod}: pods are told apart by the first label of \
                 the host",
                founder.name
            )));
        }
    }
    Ok(Some(founders))
}

fn is_address(url: &Url) -> bool {
    url.host.parse::<IpAddr>().is_ok()
}

/// Checks what `--initial-cluster` says of this member: etcd compares it with the advertised URLs and dies after half a
/// minute where they differ. A member that it does not list joins.
///
/// # Errors
/// Exit code 78: other URLs under the own name, or the own URL under another name.
pub(super) fn check_own(
    etcd: &EtcdSettings,
    founders: &[Founder],
    name: &str,
    peer_urls: &[Url],
) -> Result<(), SettingsError> {
    let set = |urls: &[Url]| urls.iter().cloned().collect::<BTreeSet<Url>>();
    if let Some(own) = founders.iter().find(|founder| founder.name == name) {
        if set(&own.peer_urls) != set(peer_urls) {
            return Err(SettingsError::config(
                format!(
                    "--initial-cluster lists {name} at {}, but --initial-advertise-peer-urls is {}",
                    joined(&own.peer_urls),
                    joined(peer_urls)
                ),
                "let both say the same, letter by letter: etcd would not start",
            ));
        }
        return Ok(());
    }
    let elsewhere = founders.iter().find(|founder| founder.peer_urls.iter().any(|url| peer_urls.contains(url)));
    match elsewhere {
        Some(other) => Err(SettingsError::config(
            format!(
                "--initial-cluster lists {} under the name {}, but this member is {} ({})",
                joined(&other.peer_urls),
                other.name,
                name,
                shown(etcd, "name")
            ),
            "let the names in --initial-cluster be the members' names",
        )),
        None => Ok(()),
    }
}

/// Checks `--initial-cluster` against the size.
///
/// # Errors
/// Exit code 78: they differ.
pub(super) fn check_size(founders: &[Founder], size: Option<u32>, given: &Invocation) -> Result<(), SettingsError> {
    let Some(size) = size.filter(|size| usize::try_from(*size) != Ok(founders.len())) else { return Ok(()) };
    Err(SettingsError::config(
        format!(
            "{} is not the {} of --initial-cluster",
            values::shown(given, options::INITIAL_CLUSTER_SIZE),
            match founders.len() {
                1 => "one member".to_owned(),
                count => format!("{count} members"),
            }
        ),
        format!("leave BOOTSTRAP_INITIAL_CLUSTER_SIZE out, or list {size} members: those that found the cluster"),
    ))
}

/// The members of the first `size` ordinals: this pod's name and URLs with the pod's name exchanged.
///
/// # Errors
/// Exit code 78: the pod has no ordinal, its URL is an address, or the member's name does not tell the pod's.
pub(super) fn of_ordinals(
    pod: &PodName,
    name: &str,
    peer_urls: &[Url],
    start: u32,
    size: u32,
) -> Result<Vec<Founder>, SettingsError> {
    let list = "or list the members in --initial-cluster";
    let Some(own) = pod.ordinal() else {
        return Err(SettingsError::config(
            format!("the pod's name {pod} has no ordinal, so that its peers' names cannot be told from it"),
            format!("run etcd in a StatefulSet, {list} and set BOOTSTRAP_DISCOVERY=static"),
        ));
    };
    if own < start {
        return Err(SettingsError::config(
            format!("this pod is {pod}, below BOOTSTRAP_ORDINAL_START={start}"),
            "set BOOTSTRAP_ORDINAL_START to the StatefulSet's spec.ordinals.start",
        ));
    }
    if let Some(url) = peer_urls.iter().find(|url| url.pod() != *pod) {
        return Err(SettingsError::config(
            format!("--initial-advertise-peer-urls has {url}, which does not begin with the pod's name {pod}"),
            format!("advertise {pod}.SERVICE.NAMESPACE.svc, {list}"),
        ));
    }
    let name_of = |sibling: &PodName| exchanged(name, pod, sibling);
    let founder = |ordinal: u32| {
        let sibling = pod.sibling(ordinal)?;
        Some(Founder {
            name: name_of(&sibling)?,
            peer_urls: peer_urls.iter().map(|url| url.at_pod(&sibling)).collect(),
        })
    };
    let founders: Option<Vec<Founder>> = (start..start.saturating_add(size)).map(founder).collect();
    founders.ok_or_else(|| {
        SettingsError::config(
            format!(
                "the member's name {name} does not contain the pod's name {pod}, so that its peers' cannot be told"
            ),
            format!("let --name be the pod's name, {list}"),
        )
    })
}

/// The name with one pod exchanged for another; none where it does not contain the first exactly once.
fn exchanged(name: &str, pod: &PodName, sibling: &PodName) -> Option<String> {
    let mut found = name.match_indices(pod.as_str());
    let (at, _) = found.next()?;
    let (before, after) = (&name[..at], &name[at + pod.as_str().len()..]);
    let whole = !before.ends_with(char::is_alphanumeric) && !after.starts_with(|c: char| c.is_ascii_digit());
    (whole && found.next().is_none()).then(|| format!("{before}{sibling}{after}"))
}

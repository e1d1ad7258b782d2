//! From what was typed to what the program needs, in the order in which one depends on the other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::place::{Place, place};
use super::values::{Values, credentials, values};
use super::{Settings, SettingsError, Surroundings, founders, tls, urls};
use crate::cli::Invocation;
use crate::config_file::ConfigFile;
use crate::flags::EtcdSettings;
use crate::intent::{Discovery, Founder, Intent, Plan};
use crate::kube_api::ApiPlace;
use crate::names::{PodName, Scheme, Url};
use crate::options;

/// Reads every setting, fills in what nobody set, and refuses what cannot work, before anything is touched.
///
/// # Errors
/// Exit code 64 for flags that etcd could not read, 78 for values that are missing, wrong or contradictory.
pub fn resolve(
    given: &Invocation,
    env: &BTreeMap<String, String>,
    surroundings: &Surroundings<'_>,
) -> Result<Settings, SettingsError> {
    let variable = |name: &str| env.get(name).filter(|value| !value.is_empty()).cloned();
    let mut warnings = given.warnings.clone();
    let (mut etcd, config_file) = etcd_settings(given, env, surroundings, &mut warnings)?;
    refuse_unexpanded(given, &etcd, variable)?;
    refuse_discovery(&etcd)?;
    refuse_proxy(&etcd)?;
    let values = values(given, surroundings.has_ipv6)?;
    let place = place(given, &etcd, variable, surroundings)?;
    name(given, &mut etcd, &place, &mut warnings)?;

    let listed = founders::listed(&etcd)?;
    let uri_scheme = variable("URI_SCHEME");
    let peer_urls = peer_urls(&etcd, &place, listed.as_deref(), uri_scheme.as_deref())?;
    let pod = pod(&place, &peer_urls)?;
    let discovery = discovery(&values, &place, &peer_urls, listed.is_some())?;
    let plan = plan(given, &mut etcd, &values, &place, (&pod, &peer_urls, listed))?;
    require_peers(&place, &pod, discovery)?;
    let urls = urls::urls(&mut etcd, &peer_urls, uri_scheme.as_deref(), surroundings, &mut warnings)?;
    let peer_tls = tls::peer(&etcd)?;
    let client_tls = tls::client(&etcd, variable)?;
    tls::check(&etcd, &urls, &mut warnings)?;
    let (data_dir, wal_dir) = directories(&mut etcd, &place.name, &surroundings.working_dir, &mut warnings);

    let intent = Intent {
        force_new_cluster: force_new_cluster(given, &etcd, &pod)?,
        pod,
        name: place.name,
        namespace: place.namespace.unwrap_or_default(),
        service: place.service,
        domain: place.domain,
        peer_urls,
        client_urls: urls.advertise_client,
        plan,
        ordinal_start: values.ordinal_start,
        discovery,
        state: values.state,
        join_as: values.join_as,
        on_lost_data: values.on_lost_data,
        on_removed: values.on_removed,
        learners_max: learners_max(&etcd),
        hold: values.hold,
        timeout: values.timeout,
    };
    Ok(Settings {
        intent,
        etcd_settings: etcd,
        config_file,
        etcd: values.etcd,
        etcd_here: values.etcd_here,
        data_dir,
        wal_dir,
        listen_peer_urls: urls.listen_peer,
        listen_client_urls: urls.listen_client,
        listen_client_http_urls: urls.listen_client_http,
        listen_metrics_urls: urls.listen_metrics,
        peer_tls,
        client_tls,
        credentials: credentials(given, variable, surroundings)?,
        dns_server: values.dns_server,
        status_address: values.status_address,
        kube_api: kube_api(variable, surroundings)?,
        dry_run: values.dry_run,
        log: values.log,
        log_format: values.log_format,
        warnings,
    })
}

/// The API server as Kubernetes names it to each container.
fn kube_api(env: impl Fn(&str) -> Option<String>, surroundings: &Surroundings<'_>) -> Result<ApiPlace, SettingsError> {
    let port = env("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
    let bad = || SettingsError::config(format!("KUBERNETES_SERVICE_PORT={port} is no port"), "leave it to Kubernetes");
    Ok(ApiPlace {
        host: env("KUBERNETES_SERVICE_HOST"),
        port: port.parse().map_err(|_| bad())?,
        service_account: surroundings.service_account.clone(),
    })
}

/// etcd's flags, else its variables, else its configuration file.
fn etcd_settings(
    given: &Invocation,
    env: &BTreeMap<String, String>,
    surroundings: &Surroundings<'_>,
    warnings: &mut Vec<String>,
) -> Result<(EtcdSettings, Option<ConfigFile>), SettingsError> {
    let mut etcd = EtcdSettings::from_args(&given.etcd_args)?;
    if etcd.given("version").is_some() {
        return Err(SettingsError::usage("--version starts no etcd", "run `etcd --version` itself"));
    }
    warnings.extend(etcd.add_variables(env)?);
    let Some(path) = etcd.get("config-file") else { return Ok((etcd, None)) };
    let path = Path::new(path);
    let text = (surroundings.read_file)(path).map_err(|error| {
        SettingsError::config(
            format!("{} cannot be read: {error}", urls::shown(&etcd, "config-file")),
            "mount the file there, or give etcd's settings as flags",
        )
    })?;
    let file = ConfigFile::parse(path, &text)?;
    Ok((file.settings(&etcd)?, Some(file)))
}

/// Kubernetes leaves `$(NAME)` as it is where the container has no such variable.
fn refuse_unexpanded(
    given: &Invocation,
    etcd: &EtcdSettings,
    env: impl Fn(&str) -> Option<String>,
) -> Result<(), SettingsError> {
    const READ: [&str; 9] = [
        "SERVICE_NAME",
        "K8S_NAMESPACE",
        "POD_NAMESPACE",
        "POD_NAME",
        "HOSTNAME",
        "URI_SCHEME",
        "ETCDCTL_CACERT",
        "ETCDCTL_CERT",
        "ETCDCTL_KEY",
    ];
    let settings = etcd.iter().map(|(flag, setting)| (urls::shown(etcd, flag.name), setting.value.clone()));
    let unknown = etcd.unknown().iter().map(|(name, value)| (format!("--{name}={value}"), value.clone()));
    let options = given.options.iter().map(|(name, option)| (super::values::shown(given, name), option.value.clone()));
    let read = READ.iter().filter_map(|name| env(name).map(|value| (format!("{name}={value}"), value)));
    let mut all = settings.chain(unknown).chain(options).chain(read);
    let found = all.find_map(|(shown, value)| unexpanded(&value).map(|name| (shown, name.to_owned())));
    found.map_or(Ok(()), |(shown, name)| {
        Err(SettingsError::config(
            format!("{shown}: the container has no variable {name}, so that Kubernetes left $({name}) as it is"),
            format!("set {name} in the container's env, before the variables that use it"),
        ))
    })
}

/// The name in the first `$(NAME)`.
fn unexpanded(value: &str) -> Option<&str> {
    let word = |name: &&str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
    };
    value.split("$(").skip(1).filter_map(|rest| rest.split_once(')')).map(|(name, _)| name).find(word)
}

fn refuse_discovery(etcd: &EtcdSettings) -> Result<(), SettingsError> {
    // What only qualifies a discovery does nothing alone, and etcd's sample file has it.
    let idle = ["discovery-fallback", "discovery-proxy"];
    let from_file = |name: &str| etcd.given(name).is_some_and(|it| it.origin == crate::flags::Origin::File);
    let set = etcd.iter().map(|(flag, _)| flag.name).filter(|name| name.starts_with("discovery"));
    let mut set = set.filter(|name| etcd.get(name).is_some() && !(idle.contains(name) && from_file(name)));
    let unknown = || etcd.unknown().iter().map(|(name, _)| name.as_str()).find(|name| name.starts_with("discovery"));
    let Some(name) = set.next().or_else(unknown) else { return Ok(()) };
    Err(SettingsError::config(
        format!(
            "{} cannot be used: etcd's own discovery asks once and makes whatever answers the cluster",
            urls::shown(etcd, name)
        ),
        "leave it out: the peers are found by BOOTSTRAP_SERVICE and BOOTSTRAP_INITIAL_CLUSTER_SIZE, or --initial-cluster",
    ))
}

/// etcd 3.4 and 3.5 can be a proxy for others' members instead of a member.
fn refuse_proxy(etcd: &EtcdSettings) -> Result<(), SettingsError> {
    match etcd.get("proxy") {
        None | Some("off") => Ok(()),
        Some(_) => Err(SettingsError::config(
            format!("{} makes a proxy of etcd, which is no member and needs no bootstrap", urls::shown(etcd, "proxy")),
            "leave it out, or let /usr/local/bin/etcd be the command",
        )),
    }
}

fn name(
    given: &Invocation,
    etcd: &mut EtcdSettings,
    place: &Place,
    warnings: &mut Vec<String>,
) -> Result<(), SettingsError> {
    if etcd.get("name").is_some_and(|name| name != place.name) {
        let option = super::values::shown(given, options::NAME);
        warnings.push(format!("{option} goes before {}", urls::shown(etcd, "name")));
    }
    if etcd.get("name") != Some(&place.name) {
        etcd.set("name", &place.name);
    }
    let what = format!("the member's name {}", place.name);
    urls::check_own(&what, &PodName::new(&place.name), &place.pod, place.pod_origin)
}

/// This member's peer URLs: as given, else as `--initial-cluster` has them, else the pod's name in the service.
fn peer_urls(
    etcd: &EtcdSettings,
    place: &Place,
    listed: Option<&[Founder]>,
    uri_scheme: Option<&str>,
) -> Result<Vec<Url>, SettingsError> {
    let own = listed.and_then(|founders| founders.iter().find(|founder| founder.name == place.name));
    if let Some(urls) = urls::given(etcd, "initial-advertise-peer-urls", false)? {
        // One order for both, for the first URL is the one that is dialled first.
        let same =
            own.filter(|own| own.peer_urls.len() == urls.len() && urls.iter().all(|url| own.peer_urls.contains(url)));
        return Ok(same.map_or(urls, |own| own.peer_urls.clone()));
    }
    if let Some(own) = own {
        return Ok(own.peer_urls.clone());
    }
    let service = place.service.as_deref().ok_or_else(|| no_service(&place.pod))?;
    let namespace = place.namespace.as_deref().ok_or_else(no_namespace)?;
    let listen = urls::given(etcd, "listen-peer-urls", false)?;
    let certificate = etcd.get("peer-cert-file").is_some() || etcd.is_true("peer-auto-tls");
    let known = listen.as_deref().or_else(|| listed.and_then(|founders| Some(founders.first()?.peer_urls.as_slice())));
    let scheme: Scheme = urls::scheme(known, uri_scheme, certificate)?;
    let port = known.and_then(|urls| urls.first()).map_or(urls::PORT_PEER, |url| url.port);
    Ok(vec![Url { scheme, host: format!("{}.{service}.{namespace}.svc", place.pod), port }])
}

fn no_service(pod: &PodName) -> SettingsError {
    SettingsError::config(
        format!("nothing names the headless service of {pod}"),
        "set BOOTSTRAP_SERVICE (or SERVICE_NAME) to the StatefulSet's spec.serviceName",
    )
}

fn no_namespace() -> SettingsError {
    SettingsError::config(
        "nothing names the pod's namespace",
        "set BOOTSTRAP_NAMESPACE (or POD_NAMESPACE) from fieldRef metadata.namespace",
    )
}

/// The pod that the own peer URL names: the peers know each other by it. Behind an address it is the member's name.
fn pod(place: &Place, peer_urls: &[Url]) -> Result<PodName, SettingsError> {
    let founder = Founder { name: place.name.clone(), peer_urls: peer_urls.to_vec() };
    let pod = founder.pod();
    let what = format!("--initial-advertise-peer-urls={}", urls::joined(peer_urls));
    urls::check_own(&what, &pod, &place.pod, place.pod_origin)?;
    Ok(pod)
}

fn discovery(values: &Values, place: &Place, peer_urls: &[Url], listed: bool) -> Result<Discovery, SettingsError> {
    let address = peer_urls.iter().find(|url| url.host.parse::<std::net::IpAddr>().is_ok());
    let list = "list the members in --initial-cluster";
    match (values.discovery, address) {
        (Some(Discovery::Static), _) | (None, Some(_)) if listed => Ok(Discovery::Static),
        (None, None) if listed && place.service.is_none() => Ok(Discovery::Static),
        (Some(Discovery::Static), _) => {
            Err(SettingsError::config("BOOTSTRAP_DISCOVERY=static has no --initial-cluster to read", list))
        }
        (_, Some(url)) => Err(SettingsError::config(
            format!("the own peer URL {url} is an address, from which no peer's name can be told"),
            format!("advertise POD.SERVICE.NAMESPACE.svc, or {list} and set BOOTSTRAP_DISCOVERY=static"),
        )),
        (chosen, None) => Ok(chosen.unwrap_or(Discovery::Srv)),
    }
}

/// What a search for peers needs besides a plan.
fn require_peers(place: &Place, pod: &PodName, discovery: Discovery) -> Result<(), SettingsError> {
    if discovery == Discovery::Static {
        return Ok(());
    }
    if pod.ordinal().is_none() {
        return Err(SettingsError::config(
            format!("the pod's name {pod} has no ordinal, so that its peers' names cannot be told from it"),
            "run etcd in a StatefulSet, or list the members in --initial-cluster and set BOOTSTRAP_DISCOVERY=static",
        ));
    }
    place.service.as_ref().ok_or_else(|| no_service(pod))?;
    place.namespace.as_ref().ok_or_else(no_namespace)?;
    Ok(())
}

fn plan(
    given: &Invocation,
    etcd: &mut EtcdSettings,
    values: &Values,
    place: &Place,
    (pod, peer_urls, listed): (&PodName, &[Url], Option<Vec<Founder>>),
) -> Result<Plan, SettingsError> {
    let founders = match (listed, values.initial_cluster_size) {
        (Some(listed), size) => {
            founders::check_own(etcd, &listed, &place.name, peer_urls)?;
            founders::check_size(&listed, size, given)?;
            listed
        }
        (None, Some(size)) => founders::of_ordinals(pod, &place.name, peer_urls, values.ordinal_start, size)?,
        (None, None) => {
            return Err(SettingsError::config(
                "neither BOOTSTRAP_INITIAL_CLUSTER_SIZE nor --initial-cluster says who founds the cluster",
                "set BOOTSTRAP_INITIAL_CLUSTER_SIZE to the number of pods that found it, such as 3; it never has to \
                 change afterwards",
            ));
        }
    };
    if etcd.given("initial-cluster-token").is_none() {
        let token = match (&place.namespace, &place.service) {
            (Some(namespace), Some(service)) => format!("{namespace}/{service}"),
            _ => "etcd-cluster".to_owned(),
        };
        etcd.set("initial-cluster-token", token);
    }
    let token = etcd.get("initial-cluster-token").unwrap_or_default().to_owned();
    Ok(Plan::new(founders, token))
}

/// `--data-dir` and `--wal-dir`, absolute. etcd's own default is `NAME.etcd` where it was started; it stays so, but is
/// said out loud, for it is hardly ever on a volume.
fn directories(
    etcd: &mut EtcdSettings,
    name: &str,
    working_dir: &Path,
    warnings: &mut Vec<String>,
) -> (PathBuf, Option<PathBuf>) {
    let data_dir = match etcd.get("data-dir") {
        Some(directory) => working_dir.join(directory),
        None => {
            let directory = working_dir.join(format!("{name}.etcd"));
            etcd.set("data-dir", directory.to_string_lossy());
            warnings.push(format!(
                "--data-dir is not set: etcd's own default is {}, and unless that is on a volume, each restart loses \
                 the data",
                directory.display()
            ));
            directory
        }
    };
    (data_dir, etcd.get("wal-dir").map(|directory| working_dir.join(directory)))
}

/// Whether this pod may use `--force-new-cluster`. Given to all pods of a template it would make each of them a
/// cluster, so that it takes the name of one.
fn force_new_cluster(given: &Invocation, etcd: &EtcdSettings, pod: &PodName) -> Result<bool, SettingsError> {
    let chosen = given.option(options::FORCE_NEW_CLUSTER) == Some(pod.as_str());
    if etcd.is_true("force-new-cluster") && !chosen {
        return Err(SettingsError::config(
            format!("{} would make a cluster of its own of {pod}", urls::shown(etcd, "force-new-cluster")),
            "leave it out; to recover from a lost quorum set BOOTSTRAP_FORCE_NEW_CLUSTER to the one pod that keeps its data",
        ));
    }
    Ok(chosen)
}

/// How many learners the cluster takes at a time. etcd checks the value itself.
fn learners_max(etcd: &EtcdSettings) -> usize {
    let given = ["max-learners", "experimental-max-learners"].iter().find_map(|name| etcd.get(name)?.parse().ok());
    given.unwrap_or(1)
}

//! etcd's URL settings: read, defaulted, and checked before etcd would stumble over them.

use std::net::IpAddr;

use super::values::unspecified;
use super::{SettingsError, Surroundings};
use crate::flags::{EtcdSettings, Shown};
use crate::names::{PodName, Scheme, Url};

/// The port that etcd's clients come to, unless told otherwise.
const PORT_CLIENT: u16 = 2379;
/// The port that etcd's peers come to, unless told otherwise.
pub(super) const PORT_PEER: u16 = 2380;

/// The URLs of a list setting; none where it is not set or empty. Unix sockets, which etcd takes for clients, are left
/// out where `unix` says so.
///
/// # Errors
/// Exit code 78: a URL that etcd would not take.
pub(super) fn given(etcd: &EtcdSettings, name: &str, unix: bool) -> Result<Option<Vec<Url>>, SettingsError> {
    let Some(text) = etcd.get(name) else { return Ok(None) };
    let urls = text.split(',').map(str::trim).filter(|url| !(unix && is_unix(url)));
    let urls: Result<Vec<Url>, _> = urls.map(|url| url.parse::<Url>()).collect();
    let urls = urls.map_err(|error| {
        SettingsError::config(format!("{}: {error}", shown(etcd, name)), "write SCHEME://HOST:PORT, several by commas")
    })?;
    Ok(Some(urls))
}

fn is_unix(url: &str) -> bool {
    url.starts_with("unix://") || url.starts_with("unixs://")
}

/// `--NAME=VALUE`, or however the setting was given.
pub(super) fn shown(etcd: &EtcdSettings, name: &str) -> String {
    etcd.given(name).map_or_else(|| format!("--{name}"), |setting| Shown(name, setting).to_string())
}

/// As `--NAME=` takes them.
pub(super) fn joined(urls: &[Url]) -> String {
    urls.iter().map(Url::to_string).collect::<Vec<_>>().join(",")
}

/// The scheme of what is given, else `URI_SCHEME`, else https where there is a certificate.
///
/// # Errors
/// Exit code 78: `URI_SCHEME` is neither http nor https.
pub(super) fn scheme(
    given: Option<&[Url]>,
    uri_scheme: Option<&str>,
    has_certificate: bool,
) -> Result<Scheme, SettingsError> {
    match (given.and_then(|urls| urls.first()), uri_scheme) {
        (Some(url), _) => Ok(url.scheme),
        (None, Some("http")) => Ok(Scheme::Http),
        (None, Some("https")) => Ok(Scheme::Https),
        (None, Some(other)) => Err(SettingsError::config(
            format!("URI_SCHEME={other} is neither http nor https"),
            "set URI_SCHEME to http or https",
        )),
        (None, None) if has_certificate => Ok(Scheme::Https),
        (None, None) => Ok(Scheme::Http),
    }
}

/// All that etcd listens on and advertises.
pub(super) struct Urls {
    pub(super) listen_peer: Vec<Url>,
    pub(super) listen_client: Vec<Url>,
    pub(super) listen_client_http: Vec<Url>,
    pub(super) listen_metrics: Vec<Url>,
    pub(super) advertise_client: Vec<Url>,
}

/// The URLs besides the own peer URLs, which are known already; what nobody set is set in `etcd`.
///
/// # Errors
/// Exit code 78: URLs that etcd cannot listen on, or that contradict each other.
pub(super) fn urls(
    etcd: &mut EtcdSettings,
    peer_urls: &[Url],
    uri_scheme: Option<&str>,
    surroundings: &Surroundings<'_>,
    warnings: &mut Vec<String>,
) -> Result<Urls, SettingsError> {
    let everywhere = |scheme, port| Url { scheme, host: unspecified(surroundings.has_ipv6).to_string(), port };
    let own = &peer_urls[0];

    let listen_peer = given(etcd, "listen-peer-urls", false)?;
    let listen_peer = listen_peer.unwrap_or_else(|| vec![everywhere(own.scheme, own.port)]);
    let given_client = given(etcd, "listen-client-urls", true)?;
    let given_advertised = given(etcd, "advertise-client-urls", true)?;
    let certificate = etcd.get("cert-file").is_some() || etcd.is_true("auto-tls");
    let known = given_client.as_deref().filter(|urls| !urls.is_empty()).or(given_advertised.as_deref());
    let client_scheme = scheme(known, uri_scheme, certificate)?;
    let client_port = known.and_then(|urls| urls.first()).map_or(PORT_CLIENT, |url| url.port);
    let listen_client = given_client.unwrap_or_else(|| vec![everywhere(client_scheme, client_port)]);
    let advertise_client = given_advertised
        .filter(|urls| !urls.is_empty())
        .unwrap_or_else(|| vec![Url { scheme: client_scheme, host: own.host.clone(), port: client_port }]);

    for (name, urls) in [
        ("initial-advertise-peer-urls", peer_urls),
        ("listen-peer-urls", &listen_peer),
        ("listen-client-urls", &listen_client),
        ("advertise-client-urls", &advertise_client),
    ] {
        if etcd.get(name).is_none() {
            etcd.set(name, joined(urls));
        }
    }
    let urls = Urls {
        listen_peer,
        listen_client,
        listen_client_http: given(etcd, "listen-client-http-urls", true)?.unwrap_or_default(),
        listen_metrics: given(etcd, "listen-metrics-urls", true)?.unwrap_or_default(),
        advertise_client,
    };
    check_listeners(etcd, &urls, surroundings, warnings)?;
    check_advertised(etcd, "initial-advertise-peer-urls", peer_urls, warnings);
    check_advertised(etcd, "advertise-client-urls", &urls.advertise_client, warnings);
    Ok(urls)
}

fn check_listeners(
    etcd: &EtcdSettings,
    urls: &Urls,
    surroundings: &Surroundings<'_>,
    warnings: &mut Vec<String>,
) -> Result<(), SettingsError> {
    let listeners = [
        ("listen-peer-urls", &urls.listen_peer),
        ("listen-client-urls", &urls.listen_client),
        ("listen-client-http-urls", &urls.listen_client_http),
        ("listen-metrics-urls", &urls.listen_metrics),
    ];
    let mut taken: Vec<(&str, String)> = Vec::new();
    for (name, url) in listeners.into_iter().flat_map(|(name, urls)| urls.iter().map(move |url| (name, url))) {
        if url.host != "localhost" && url.host.parse::<IpAddr>().is_err() {
            return Err(SettingsError::config(
                format!("{}: etcd listens on addresses, and {} is a name", shown(etcd, name), url.host),
                format!("set --{name} to {}://0.0.0.0:{} or to the pod's address", url.scheme.as_str(), url.port),
            ));
        }
        if url.host == "0.0.0.0" && surroundings.has_ipv6 && !surroundings.has_ipv4 {
            warnings.push(format!("{} listens on IPv4 alone, and this pod has no IPv4 address", shown(etcd, name)));
        }
        let authority = url.authority();
        match taken.iter().find(|(_, other)| *other == authority && url.port != 0) {
            // The same service may be listed twice; two services cannot share an address.
            Some((other, _)) if *other != name => {
                return Err(SettingsError::config(
                    format!("{} and {} both take {authority}", shown(etcd, other), shown(etcd, name)),
                    "give each its own port",
                ));
            }
            _ => taken.push((name, authority)),
        }
    }
    Ok(())
}

fn check_advertised(etcd: &EtcdSettings, name: &str, urls: &[Url], warnings: &mut Vec<String>) {
    let nowhere = |url: &&Url| url.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    if let Some(url) = urls.iter().find(nowhere) {
        warnings.push(format!("{} advertises {url}, which nobody else can reach", shown(etcd, name)));
    }
}

/// Refuses a setting that is the same in all pods of a template where it has to name each: `etcd-1` that calls itself
/// `etcd-0`.
///
/// # Errors
/// Exit code 78: the pod that `what` names is another one of the same StatefulSet.
pub(super) fn check_own(
    what: &str,
    names: &PodName,
    pod: &PodName,
    origin: Option<&'static str>,
) -> Result<(), SettingsError> {
    match (names.split(), pod.split(), origin) {
        (Some((set, ordinal)), Some((own_set, own)), Some(origin)) if set == own_set && ordinal != own => {
            Err(SettingsError::config(
                format!("{what} names the pod {names}, but this is {pod} ({origin})"),
                "write $(POD_NAME) or $(HOSTNAME) there, so that each pod gets its own name",
            ))
        }
        _ => Ok(()),
    }
}

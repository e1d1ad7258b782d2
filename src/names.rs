//! The names of things: pods, members, clusters, disks, and the URLs that peers are reached at.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! hex_id {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        ///
        /// Written as etcd writes it: lowercase hexadecimal without leading zeros.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:x}", self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                u64::from_str_radix(text, 16).map(Self)
            }
        }
        impl TryFrom<String> for $name {
            type Error = std::num::ParseIntError;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

hex_id!(MemberId, "The ID of a member of an etcd cluster.");
hex_id!(ClusterId, "The ID of an etcd cluster, fixed when it is founded.");

macro_rules! text_id {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }
    };
}

text_id!(DiskId, "A random name that the journal gives a disk when it is first seen: a new disk has a new one.");
text_id!(ProcessId, "A random name of one run of this program, so that a pod recognises itself when it dials itself.");

/// The name of a pod, `SET-ORDINAL` in a StatefulSet; orders by set, then by ordinal as a number.
///
/// A peer that is no pod (an address in `--initial-cluster`) goes by its host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PodName(String);

impl PodName {
    /// The name as it is.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The pod that a host belongs to: its first label, or the whole of an IP address.
    pub fn of_host(host: &str) -> Self {
        if host.parse::<IpAddr>().is_ok() {
            return Self(host.to_owned());
        }
        Self(host.split('.').next().unwrap_or(host).to_owned())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `SET` and `ORDINAL` of `SET-ORDINAL`.
    pub fn split(&self) -> Option<(&str, u32)> {
        let (set, ordinal) = self.0.rsplit_once('-')?;
        let plain = ordinal == "0" || !ordinal.starts_with(['0', '+']);
        (plain && !set.is_empty()).then_some(())?;
        Some((set, ordinal.parse().ok()?))
    }

    /// The ordinal, where the name has one.
    pub fn ordinal(&self) -> Option<u32> {
        self.split().map(|(_, ordinal)| ordinal)
    }

    /// The pod of the same StatefulSet with another ordinal.
    pub fn sibling(&self, ordinal: u32) -> Option<Self> {
        self.split().map(|(set, _)| Self(format!("{set}-{ordinal}")))
    }
}

impl Ord for PodName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key =
            |name: &Self| name.split().map_or((name.0.clone(), None), |(set, ordinal)| (set.to_owned(), Some(ordinal)));
        key(self).cmp(&key(other)).then_with(|| self.0.cmp(&other.0))
    }
}
impl PartialOrd for PodName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl From<&str> for PodName {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

/// `http` or `https`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// As it stands in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// A URL as etcd's `*-urls` settings take them: scheme, host and port, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Url {
    /// The scheme.
    pub scheme: Scheme,
    /// A DNS name or an IP address, an IPv6 one without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Url {
    /// The pod that answers there, by the first label of the host.
    pub fn pod(&self) -> PodName {
        PodName::of_host(&self.host)
    }

    /// The same URL at another pod: `etcd-0.etcd.ns.svc` becomes `etcd-1.etcd.ns.svc`.
    pub fn at_pod(&self, pod: &PodName) -> Self {
        let host = match self.host.split_once('.') {
            Some((_, domain)) => format!("{pod}.{domain}"),
            None => pod.to_string(),
        };
        Self { host, ..self.clone() }
    }

    /// `HOST:PORT`, an IPv6 address in brackets.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

/// Why a text is no URL that etcd would take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a URL of the form SCHEME://HOST:PORT: {reason}")]
pub struct UrlError {
    text: String,
    reason: &'static str,
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let fail = |reason| UrlError { text: text.to_owned(), reason };
        let (scheme, rest) = text.split_once("://").ok_or(fail("it has no scheme"))?;
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(fail("the scheme is neither http nor https")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#', '@']) {
            return Err(fail("it has more than scheme, host and port"));
        }
        let (host, port) = rest.rsplit_once(':').ok_or(fail("it has no port"))?;
        let host = match host.strip_prefix('[') {
            Some(inner) => {
                let inner = inner.strip_suffix(']').ok_or(fail("a bracket is open"))?;
                if inner.parse::<std::net::Ipv6Addr>().is_err() {
                    return Err(fail("what is in brackets is not an IPv6 address"));
                }
                inner
            }
            None if host.contains(':') => return Err(fail("an IPv6 address needs brackets")),
            None => host,
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(fail("the host is empty or has blanks"));
        }
        let port = port.parse().map_err(|_| fail("the port is not a number up to 65535"))?;
        Ok(Self { scheme, host: host.to_owned(), port })
    }
}
impl TryFrom<String> for Url {
    type Error = UrlError;
    fn try_from(text: String) -> Result<Self, UrlError> {
        text.parse()
    }
}
impl From<Url> for String {
    fn from(url: Url) -> String {
        url.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_written_as_etcd_writes_it() {
        assert_eq!(MemberId(0x0a3).to_string(), "a3");
        assert_eq!("4f98c3545405a0b0".parse::<MemberId>().unwrap(), MemberId(0x4f98_c354_5405_a0b0));
        assert_eq!(serde_json::to_string(&ClusterId(0xbad)).unwrap(), "\"bad\"");
        assert_eq!(serde_json::from_str::<ClusterId>("\"bad\"").unwrap(), ClusterId(0xbad));
        assert!("".parse::<MemberId>().is_err() && "g".parse::<MemberId>().is_err());
        assert!("10000000000000000".parse::<MemberId>().is_err());
    }

    #[test]
    fn a_url_is_stored_as_text() {
        let url: Url = "https://etcd-0.etcd:2380".parse().unwrap();
        assert_eq!(serde_json::to_string(&url).unwrap(), "\"https://etcd-0.etcd:2380\"");
        assert_eq!(serde_json::from_str::<Url>("\"https://etcd-0.etcd:2380\"").unwrap(), url);
    }

    #[test]
    fn a_pod_has_a_set_and_an_ordinal() {
        for (name, split) in [
            ("etcd-0", Some(("etcd", 0))),
            ("etcd-a-12", Some(("etcd-a", 12))),
            ("etcd", None),
            ("etcd-", None),
            ("-1", None),
            ("etcd-01", None),
            ("etcd-+1", None),
            ("etcd-99999999999", None),
            ("10.0.0.1", None),
        ] {
            assert_eq!(PodName::new(name).split(), split, "{name}");
        }
        assert_eq!(PodName::new("etcd-a-2").sibling(10), Some(PodName::new("etcd-a-10")));
        assert_eq!(PodName::new("etcd").sibling(1), None);
    }

    #[test]
    fn pods_order_by_set_and_then_by_number() {
        let mut names: Vec<PodName> = ["etcd-10", "etcd-2", "db-3", "etcd", "etcd-a-1"].map(PodName::from).into();
        names.sort();
        let names: Vec<&str> = names.iter().map(PodName::as_str).collect();
        assert_eq!(names, ["db-3", "etcd", "etcd-2", "etcd-10", "etcd-a-1"]);
    }

    #[test]
    fn a_host_is_a_pod_by_its_first_label() {
        assert_eq!(PodName::of_host("etcd-1.etcd.ns.svc"), PodName::from("etcd-1"));
        assert_eq!(PodName::of_host("etcd-1"), PodName::from("etcd-1"));
        assert_eq!(PodName::of_host("10.1.2.3"), PodName::from("10.1.2.3"));
        assert_eq!(PodName::of_host("fd00::1"), PodName::from("fd00::1"));
    }

    #[test]
    fn a_url_is_what_etcd_takes() {
        for text in ["http://etcd-0.etcd:2380", "https://10.0.0.1:1", "http://[fd00::1]:2380"] {
            assert_eq!(text.parse::<Url>().unwrap().to_string(), text);
        }
        assert_eq!("http://a:1/".parse::<Url>().unwrap().to_string(), "http://a:1");
        let v6: Url = "http://[fd00::1]:2380".parse().unwrap();
        assert_eq!((v6.host.as_str(), v6.authority().as_str()), ("fd00::1", "[fd00::1]:2380"));
        for text in [
            "",
            "etcd-0:2380",
            "unix://x:1",
            "HTTP://a:1",
            "http://a",
            "http://:1",
            "http://a:70000",
            "http://a:",
            "http://a:1/x",
            "http://a:1?x",
            "http://u@a:1",
            "http://fd00::1:2380",
            "http://[fd00::1:2380",
            "http://[a]:1",
            "http://a b:1",
            "http://a:1#x",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
        assert!("http://a".parse::<Url>().unwrap_err().to_string().contains("`http://a`"));
    }

    #[test]
    fn a_url_at_another_pod_keeps_the_rest() {
        let at = |url: &str| url.parse::<Url>().unwrap().at_pod(&PodName::from("etcd-7")).to_string();
        assert_eq!(at("https://etcd-0.etcd.ns.svc:2380"), "https://etcd-7.etcd.ns.svc:2380");
        assert_eq!(at("http://etcd-0:1"), "http://etcd-7:1");
    }
}

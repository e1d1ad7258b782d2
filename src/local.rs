//! What this pod knows of itself without asking anybody: its addresses and its hostname.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;

/// The addresses of this pod that another pod can reach: neither loopback nor link-local.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalAddresses(BTreeSet<IpAddr>);

impl LocalAddresses {
    /// The addresses as they are now. Read them anew each time, for a container may run before its network is ready.
    ///
    /// A pod that cannot read them has none: nothing then counts as its own.
    pub fn now() -> Self {
        match getifaddrs() {
            Ok(interfaces) => interfaces.filter_map(|interface| usable(&interface)).collect(),
            Err(error) => {
                tracing::warn!(%error, "failed to read this pod's addresses");
                Self::default()
            }
        }
    }

    /// There is an IPv4 address, so peers may be dialled at theirs.
    pub fn has_ipv4(&self) -> bool {
        self.0.iter().any(IpAddr::is_ipv4)
    }

    /// There is an IPv6 address, so peers may be dialled at theirs.
    pub fn has_ipv6(&self) -> bool {
        self.0.iter().any(IpAddr::is_ipv6)
    }

    /// One of these addresses is this pod's.
    pub fn contains_any(&self, addresses: &[IpAddr]) -> bool {
        addresses.iter().any(|address| self.0.contains(address))
    }

    /// Each address.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.0.iter().copied()
    }
}

impl FromIterator<IpAddr> for LocalAddresses {
    fn from_iter<T: IntoIterator<Item = IpAddr>>(addresses: T) -> Self {
        Self(addresses.into_iter().filter(|address| is_reachable(*address)).collect())
    }
}

/// The pod's hostname, without a domain: what the kubelet sets to the pod's name. None where it cannot be read.
pub fn hostname() -> Option<String> {
    let name = nix::unistd::gethostname().ok()?.into_string().ok()?;
    let label = name.split('.').next().unwrap_or_default();
    (!label.is_empty()).then(|| label.to_owned())
}

/// The address of an interface that is up.
fn usable(interface: &InterfaceAddress) -> Option<IpAddr> {
    if !interface.flags.contains(InterfaceFlags::IFF_UP) || interface.flags.contains(InterfaceFlags::IFF_LOOPBACK) {
        return None;
    }
    let address = interface.address?;
    let ipv4 = address.as_sockaddr_in().map(|socket| IpAddr::V4(socket.ip()));
    ipv4.or_else(|| address.as_sockaddr_in6().map(|socket| IpAddr::V6(socket.ip())))
}

/// Another pod can be reached there, as a rule.
fn is_reachable(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ipv4) => !ipv4.is_loopback() && !ipv4.is_link_local() && !ipv4.is_unspecified(),
        IpAddr::V6(ipv6) => !ipv6.is_loopback() && !ipv6.is_unspecified() && !is_unicast_link_local(ipv6),
    }
}

/// `fe80::/10`.
fn is_unicast_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> LocalAddresses {
        texts.iter().map(|text| text.parse::<IpAddr>().unwrap()).collect()
    }

    #[test]
    fn loopback_and_link_local_do_not_count() {
        let local = addresses(&["127.0.0.1", "::1", "169.254.1.1", "fe80::1", "febf::1", "0.0.0.0"]);
        assert_eq!(local, LocalAddresses::default());
        assert!(!local.has_ipv4() && !local.has_ipv6());
    }

    #[test]
    fn families_are_told_apart() {
        let ipv4 = addresses(&["10.0.0.1"]);
        assert!(ipv4.has_ipv4() && !ipv4.has_ipv6());
        let ipv6 = addresses(&["fd00::1"]);
        assert!(!ipv6.has_ipv4() && ipv6.has_ipv6());
        assert!(addresses(&["10.0.0.1", "fd00::1"]).contains_any(&["fd00::1".parse().unwrap()]));
        assert!(!ipv4.contains_any(&["10.0.0.2".parse().unwrap()]));
    }

    #[test]
    fn this_machine_agrees_with_the_kernel() {
        // A UDP socket that is "connected" to a documentation address shows the address that the kernel would use.
        let Ok(socket) = std::net::UdpSocket::bind("0.0.0.0:0") else { return };
        if socket.connect("192.0.2.1:9").is_err() {
            return;
        }
        let source = socket.local_addr().unwrap().ip();
        assert!(!is_reachable(source) || LocalAddresses::now().contains_any(&[source]), "{source}");
    }

    #[test]
    fn the_hostname_is_one_label() {
        let name = hostname().unwrap();
        let whole = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(name, whole.trim().split('.').next().unwrap());
    }
}

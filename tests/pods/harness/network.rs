//! The node's bridge and the pods' links: every packet between pods is routed by the node.
//!
//! Pods have host addresses (/32, /128) and the bridge as their gateway, as many CNIs do it, so that
//! the node's routing rules can drop what a partition forbids, silently and in both directions.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::netns::Netns;
use super::tools;

const BRIDGE: &str = "pods0";
/// Fixed, or it would follow the ports' and the pods' neighbour entries would go wrong.
const BRIDGE_MAC: &str = "02:00:ff:ff:ff:01";
const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, 1);
const DNS_V4: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
const DNS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0xa);

/// Addresses below are the node's own.
const FIRST_HOST: u32 = 10;

/// Routing rules: what the node itself sends is exempt from partitions, for probes come from there.
const PREFERENCE_NODE: u32 = 50;

/// The address families of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
    Dual,
}

impl Family {
    pub fn has_v4(self) -> bool {
        self != Self::V6
    }

    pub fn has_v6(self) -> bool {
        self != Self::V4
    }

    fn pick(self, v4: Ipv4Addr, v6: Ipv6Addr) -> Vec<IpAddr> {
        let v4 = self.has_v4().then_some(IpAddr::V4(v4));
        let v6 = self.has_v6().then_some(IpAddr::V6(v6));
        v4.into_iter().chain(v6).collect()
    }

    /// Where the DNS server listens.
    pub fn dns_addresses(self) -> Vec<IpAddr> {
        self.pick(DNS_V4, DNS_V6)
    }

    fn gateways(self) -> Vec<IpAddr> {
        self.pick(GATEWAY_V4, GATEWAY_V6)
    }

    /// The addresses of the pod created as the `number`th.
    pub fn pod_addresses(self, number: u32) -> Vec<IpAddr> {
        let host = FIRST_HOST + number;
        let v4 = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 244, 0, 0)) + host);
        let v6 = Ipv6Addr::from(u128::from(GATEWAY_V6) - 1 + u128::from(host));
        self.pick(v4, v6)
    }
}

/// Runs lines of `ip` in the calling thread's namespace.
pub fn ip_batch(lines: &[String]) -> Result<(), String> {
    run_batch(&["ip", "-batch", "-"], lines)
}

/// As [`ip_batch`] for routing rules, whose family `ip` does not take from their addresses.
pub fn ip_rule_batch(lines: &[String]) -> Result<(), String> {
    let (v6, v4): (Vec<String>, Vec<String>) = lines.iter().cloned().partition(|line| line.contains(':'));
    run_batch(&["ip", "-4", "-batch", "-"], &v4)?;
    run_batch(&["ip", "-6", "-batch", "-"], &v6)
}

fn run_batch(argv: &[&str], lines: &[String]) -> Result<(), String> {
    if lines.is_empty() {
        return Ok(());
    }
    let text = lines.join("\n") + "\n";
    tools::run_with_input(argv, &text).map(|_| ()).map_err(|reason| format!("{reason}\nthe batch was:\n{text}"))
}

fn sysctl(name: &str, value: &str) {
    let path = format!("/proc/sys/net/{name}");
    // A kernel without IPv6 has none of its files, and needs none.
    if fs::exists(&path).unwrap_or(false) {
        fs::write(&path, value).unwrap_or_else(|e| panic!("failed to set {path}: {e}"));
    }
}

fn prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The node: a namespace with the bridge, the gateway and the DNS server's addresses.
pub fn new_node(family: Family) -> Netns {
    let netns = Netns::create();
    netns.run(|| {
        for sysctl_v6 in ["all", "default"] {
            sysctl(&format!("ipv6/conf/{sysctl_v6}/accept_dad"), "0");
            sysctl(&format!("ipv6/conf/{sysctl_v6}/forwarding"), "1");
            sysctl(&format!("ipv4/conf/{sysctl_v6}/send_redirects"), "0");
            sysctl(&format!("ipv4/conf/{sysctl_v6}/rp_filter"), "0");
        }
        sysctl("ipv4/ip_forward", "1");
        let mut lines = vec![
            "link set lo up".to_owned(),
            format!("link add {BRIDGE} address {BRIDGE_MAC} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"),
            format!("link set {BRIDGE} up"),
        ];
        for gateway in family.gateways() {
            let (subnet, nodad) = if gateway.is_ipv4() { (16, "") } else { (64, " nodad") };
            lines.push(format!("addr add {gateway}/{subnet} dev {BRIDGE}{nodad}"));
        }
        for address in family.dns_addresses() {
            lines.push(format!("addr add {address}/{} dev lo", prefix(address)));
        }
        ip_batch(&lines).expect("failed to set up the node's network");
        for flag in ip_families(family) {
            let preference = PREFERENCE_NODE.to_string();
            tools::run(&["ip", flag, "rule", "add", "pref", &preference, "iif", "lo", "lookup", "main"])
                .expect("failed to exempt the node from partitions");
        }
    });
    netns
}

fn ip_families(family: Family) -> Vec<&'static str> {
    let v4 = family.has_v4().then_some("-4");
    let v6 = family.has_v6().then_some("-6");
    v4.into_iter().chain(v6).collect()
}

/// A pod's namespace and its link; it outlives the pod's containers.
pub struct PodNetwork {
    pub netns: Netns,
    pub addresses: Vec<IpAddr>,
    /// The node's end of the link.
    pub link: String,
}

impl PodNetwork {
    pub fn new(node: &Netns, family: Family, link: String, addresses: Vec<IpAddr>) -> Self {
        let netns = Netns::create();
        let peer = netns.path();
        let mac = mac_address(&addresses);
        let lines = [
            format!("link add {link} type veth peer name eth0 address {mac} netns {peer}"),
            format!("link set {link} master {BRIDGE} up"),
        ];
        node.run(|| ip_batch(&lines)).expect("failed to link a pod to the bridge");
        netns.run(|| set_up_pod_side(family, &addresses));
        Self { netns, addresses, link }
    }

    /// Takes the link away at once; the namespace goes with its last process.
    pub fn remove(&self, node: &Netns) {
        let line = [format!("link del {}", self.link)];
        if let Err(reason) = node.run(|| ip_batch(&line)) {
            eprintln!("failed to remove a pod's link: {reason}");
        }
    }
}

fn set_up_pod_side(family: Family, addresses: &[IpAddr]) {
    for kind in ["all", "default", "eth0"] {
        sysctl(&format!("ipv6/conf/{kind}/accept_dad"), "0");
        sysctl(&format!("ipv6/conf/{kind}/accept_redirects"), "0");
        sysctl(&format!("ipv4/conf/{kind}/accept_redirects"), "0");
        sysctl(&format!("ipv4/conf/{kind}/rp_filter"), "0");
        if !family.has_v6() {
            sysctl(&format!("ipv6/conf/{kind}/disable_ipv6"), "1");
        }
    }
    let mut lines = vec!["link set lo up".to_owned(), "link set eth0 up".to_owned()];
    for &address in addresses {
        let nodad = if address.is_ipv4() { "" } else { " nodad" };
        lines.push(format!("addr add {address}/{} dev eth0{nodad}", prefix(address)));
    }
    for gateway in family.gateways() {
        lines.push(format!("route add {gateway}/{} dev eth0", prefix(gateway)));
        lines.push(format!("route add default via {gateway} dev eth0"));
    }
    ip_batch(&lines).expect("failed to set up a pod's network");
}

/// The same for the same address, so that no neighbour entry is ever stale after a restart in place.
fn mac_address(addresses: &[IpAddr]) -> String {
    let low = match addresses.first() {
        Some(IpAddr::V4(v4)) => u32::from(*v4),
        Some(IpAddr::V6(v6)) => u128::from(*v6) as u32,
        None => panic!("a pod has at least one address"),
    };
    let [a, b, c, d] = low.to_be_bytes();
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

//! What goes wrong with a pod's network: partitions and bad links.

use std::time::Duration;

use super::dns::Fault;
use super::pod::Pod;
use super::tools;

impl Pod {
    /// Cuts it off from all other pods and from the DNS, silently; the node's probes reach it.
    pub fn partition(&self) {
        let node = self.node();
        node.repartition(|partitions| partitions.cut_from_all(self.id()));
        let fault = node.dns.fault(Fault::silent().client(self));
        if let Some(earlier) = self.set_dns_cut(Some(fault)) {
            node.dns.clear(earlier);
        }
    }

    /// Ends every partition that this pod is in.
    pub fn heal(&self) {
        let node = self.node();
        node.repartition(|partitions| partitions.join_all(self.id()));
        if let Some(fault) = self.set_dns_cut(None) {
            node.dns.clear(fault);
        }
    }

    /// Cuts it off from these pods only, both ways; over restarts with new addresses, too.
    pub fn partition_from(&self, others: &[&Pod]) {
        self.node().repartition(|partitions| {
            for other in others {
                partitions.cut(self.id(), other.id());
            }
        });
    }

    /// What these pods send does not arrive here; what this one sends arrives there.
    pub fn deafen_to(&self, others: &[&Pod]) {
        self.node().repartition(|partitions| {
            for other in others {
                partitions.cut_one_way(other.id(), self.id());
            }
        });
    }

    pub fn heal_from(&self, others: &[&Pod]) {
        self.node().repartition(|partitions| {
            for other in others {
                partitions.join(self.id(), other.id());
            }
        });
    }

    /// Delays each packet in each direction. Not every kernel can: it wants the qdisc `netem`.
    pub fn slow_link(&self, delay: Duration) -> Result<(), String> {
        let delay = format!("{}us", delay.as_micros());
        self.shape(&["root", "netem", "delay", &delay])
            .map_err(|reason| format!("this kernel cannot delay packets (sch_netem): {reason}"))
    }

    /// Limits the rate in each direction, with queues that grow.
    pub fn narrow_link(&self, kilobits_per_second: u32) -> Result<(), String> {
        let rate = format!("{kilobits_per_second}kbit");
        self.shape(&["root", "tbf", "rate", &rate, "burst", "16kb", "latency", "2s"])
    }

    /// Ends [`Pod::slow_link`] and [`Pod::narrow_link`].
    pub fn fast_link(&self) {
        if let Some(network) = self.network() {
            let link = network.link.clone();
            let node = &self.node().netns;
            node.run(|| tools::run(&["tc", "qdisc", "del", "dev", &link, "root"])).ok();
            self.in_pod(|| tools::run(&["tc", "qdisc", "del", "dev", "eth0", "root"])).ok();
        }
    }

    fn shape(&self, discipline: &[&str]) -> Result<(), String> {
        let network = self.network().ok_or("the pod is not there")?;
        let replace = |device: &str| {
            let mut words = vec!["tc", "qdisc", "replace", "dev", device];
            words.extend(discipline);
            tools::run(&words)
        };
        self.node().netns.run(|| replace(&network.link))?;
        self.in_pod(|| replace("eth0"))?;
        Ok(())
    }
}

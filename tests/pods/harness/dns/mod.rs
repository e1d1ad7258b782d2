//! The cluster's DNS: serves the headless services' zone from the pods that exist, and lies on demand.

mod answer;
mod ask;
mod faults;
mod query_log;
mod server;
mod zone;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

pub use faults::{Fault, FaultId};
pub use hickory_resolver::proto::op::{Message, ResponseCode};
pub use hickory_resolver::proto::rr::RecordType;
pub use query_log::Query;

use super::netns::Netns;
use super::pod::Pod;
use faults::Faults;
use query_log::QueryLog;
use server::Server;
use zone::{Endpoint, Zone};

/// What the server answers from; changed at any time by scenarios.
pub(crate) struct Book {
    zone: Zone,
    faults: Faults,
    log: QueryLog,
    udp_size: usize,
}

pub struct Dns {
    book: Arc<Mutex<Book>>,
    server: Mutex<Option<Server>>,
}

/// As CoreDNS: what a client may send by EDNS; without EDNS 512 holds.
const UDP_SIZE: usize = 1232;

impl Dns {
    /// Starts serving on port 53 of the addresses, in the node's namespace.
    pub(crate) fn start(node: &Arc<Netns>, addresses: &[IpAddr]) -> Self {
        let book = Arc::new(Mutex::new(Book {
            zone: Zone::default(),
            faults: Faults::default(),
            log: QueryLog::default(),
            udp_size: UDP_SIZE,
        }));
        let server = Server::start(node, addresses, Arc::clone(&book));
        Self { book, server: Mutex::new(Some(server)) }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no holder of the DNS book panics")
    }

    pub(crate) fn stop(&self) {
        let server = self.server.lock().expect("no holder panics").take();
        drop(server);
    }

    // --- what pods do

    /// A pod exists from now on; its record comes after the publication delay.
    pub(crate) fn publish(&self, pod: &Pod, addresses: &[IpAddr]) {
        let spec = pod.spec();
        let mut book = self.book();
        book.log.introduce(&spec.name, addresses);
        book.zone.publish(Endpoint {
            pod: spec.name,
            service: spec.service,
            namespace: spec.namespace,
            addresses: addresses.to_vec(),
            ports: spec.ports,
            from: Instant::now(),
            until: None,
        });
    }

    /// A pod is gone; its record goes after the removal delay.
    pub(crate) fn withdraw(&self, pod: &Pod) {
        self.book().zone.withdraw(&pod.key());
    }

    // --- truth that comes late or not at all

    /// From now on records appear this long after their pod.
    pub fn publication_delay(&self, delay: Duration) {
        self.book().zone.publication_delay = delay;
    }

    /// From now on records stay this long after their pod, unless its successor is published.
    pub fn removal_delay(&self, delay: Duration) {
        self.book().zone.removal_delay = delay;
    }

    /// No record of the pod until it is released.
    pub fn withhold(&self, pod: &Pod) {
        self.book().zone.withheld.insert(pod.key());
    }

    pub fn release(&self, pod: &Pod) {
        self.book().zone.withheld.remove(&pod.key());
    }

    /// What is served stays as it is at this moment: stale as soon as a pod changes.
    pub fn freeze_records(&self) {
        self.book().zone.freeze();
    }

    pub fn thaw_records(&self) {
        self.book().zone.thaw();
    }

    /// The pod's name answers this address, whatever the pod's is.
    pub fn point_at(&self, pod: &Pod, address: IpAddr) {
        let addresses = vec![address];
        self.book().zone.pointed.insert(pod.key(), addresses);
    }

    /// The pod's name answers the pod's addresses again.
    pub fn repoint(&self, pod: &Pod) {
        self.book().zone.pointed.remove(&pod.key());
    }

    /// SRV answers leave the pod out; its own name resolves.
    pub fn omit_from_srv(&self, pod: &Pod) {
        self.book().zone.omitted_from_srv.insert(pod.key());
    }

    pub fn include_in_srv(&self, pod: &Pod) {
        self.book().zone.omitted_from_srv.remove(&pod.key());
    }

    /// UDP answers above this size are truncated (TC), whatever the client offers.
    pub fn udp_size(&self, bytes: usize) {
        self.book().udp_size = bytes;
    }

    // --- faults of the server

    pub fn fault(&self, fault: Fault) -> FaultId {
        self.book().faults.add(fault)
    }

    pub fn clear(&self, id: FaultId) {
        self.book().faults.remove(id);
    }

    /// Ends every fault and every lie about records; delays stay as they are set.
    pub fn clear_all(&self) {
        let mut book = self.book();
        book.faults = Faults::default();
        book.zone.tell_the_truth();
        book.udp_size = UDP_SIZE;
    }

    // --- what was asked

    pub fn queries(&self) -> Vec<Query> {
        self.book().log.queries.clone()
    }

    pub fn queries_of(&self, pod: &Pod) -> Vec<Query> {
        let mut queries = self.queries();
        queries.retain(|query| query.client == pod.name());
        queries
    }

    /// How many queries the pod has sent since then.
    pub fn count_since(&self, pod: &Pod, since: Instant) -> usize {
        let queries = self.queries_of(pod);
        queries.iter().filter(|query| query.at >= since).count()
    }

    /// The last lines of the query log.
    pub fn log_tail(&self, lines: usize) -> String {
        self.book().log.tail(lines)
    }

    /// A raw query from inside the pod's network to the world's DNS server.
    pub fn ask(&self, from: &Pod, name: &str, kind: RecordType, tcp: bool) -> Result<Message, String> {
        ask::ask(from, name, kind, tcp)
    }
}

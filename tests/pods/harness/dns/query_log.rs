//! Every query with its client, so that scenarios can count and a failed test can show them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use super::RecordType;

#[derive(Clone, Debug)]
pub struct Query {
    pub at: Instant,
    /// The pod's name, or the address where no pod has it.
    pub client: String,
    pub tcp: bool,
    pub kind: RecordType,
    /// Lower case, without the last dot.
    pub name: String,
    /// The response code, or what the server did instead ("silent", "NOERROR tc").
    pub outcome: String,
    pub answers: usize,
}

pub(super) struct QueryLog {
    pub(super) queries: Vec<Query>,
    begin: Instant,
    pods: HashMap<IpAddr, String>,
}

impl Default for QueryLog {
    fn default() -> Self {
        Self { queries: Vec::new(), begin: Instant::now(), pods: HashMap::new() }
    }
}

impl QueryLog {
    pub(super) fn introduce(&mut self, pod: &str, addresses: &[IpAddr]) {
        for &address in addresses {
            self.pods.insert(address, pod.to_owned());
        }
    }

    pub(super) fn client(&self, address: IpAddr) -> String {
        match self.pods.get(&address) {
            Some(pod) => pod.clone(),
            None => address.to_string(),
        }
    }

    pub(super) fn tail(&self, lines: usize) -> String {
        let skipped = self.queries.len().saturating_sub(lines);
        let line = |query: &Query| {
            format!(
                "{:9.3}s {} {} {} {} -> {} ({} answers)\n",
                query.at.duration_since(self.begin).as_secs_f64(),
                query.client,
                if query.tcp { "tcp" } else { "udp" },
                query.kind,
                query.name,
                query.outcome,
                query.answers,
            )
        };
        self.queries[skipped..].iter().map(line).collect()
    }
}

//! Scenarios with real etcd in pods on this machine: one network, PID and mount namespace each.

pub mod harness;

mod dns_works;
mod founding;
mod growth;
mod lost;
mod harness_works;
pub mod templates;
mod versions;

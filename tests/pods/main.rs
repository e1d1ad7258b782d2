//! Scenarios with real etcd in pods on this machine: one network, PID and mount namespace each.

#![expect(clippy::unwrap_used, reason = "a scenario ends where it fails")]

pub mod harness;

mod commands;
mod dns_works;
mod founding;
mod growth;
mod harness_works;
mod lost;
pub mod templates;
mod versions;

//! The entrypoint of etcd's pods in a Kubernetes StatefulSet.
//!
//! The way of the data: settings -> disk -> DNS -> peers -> decision -> act -> exec.

// Vocabulary: no IO, no async.
pub mod intent;
pub mod journal;
pub mod names;
pub mod observation;

// The pure core.
pub mod hearing;
pub mod identity;
pub mod plan;

// One foreign system each.
pub mod dns;
pub mod dns_budget;
pub mod dns_schedule;
#[cfg(test)]
mod dns_testing;
pub mod dns_view;
pub mod dns_wire;
pub mod local;

// The shell.
pub mod dns_watch;
pub mod flags;
pub mod settings;

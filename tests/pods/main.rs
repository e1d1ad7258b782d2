//! Scenarios with real etcd in pods on this machine: one network, PID and mount namespace each.

#![expect(clippy::unwrap_used, reason = "a scenario ends where it fails")]

pub mod harness;

mod chaos;
mod commands;
#[cfg(feature = "failpoints")]
mod crashes;
#[path = "../dice.rs"]
mod dice;
mod dns_works;
mod founding;
mod growth;
mod harness_works;
mod held;
mod leaving;
mod life;
mod lost;
mod lost_cases;
mod namesakes;
#[cfg(feature = "failpoints")]
mod racing;
mod render;
mod sidecar;
mod small;
pub mod templates;
mod tls;
mod upgrades;
mod users;
mod versions;

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
pub mod connect;
pub mod etcd;
pub mod membership;
pub mod peers;

// The shell.
pub mod flags;
pub mod settings;

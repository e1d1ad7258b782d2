//! The entrypoint of etcd's pods in a Kubernetes StatefulSet.
//!
//! The way of the data: settings -> disk -> DNS -> peers -> decision -> act -> exec.

// Vocabulary: no IO, no async.
pub mod intent;
pub mod journal;
pub mod names;
pub mod observation;

// The pure core.
pub mod cluster;
pub mod decide;
pub mod hearing;
pub mod identity;
pub mod plan;
pub mod span;
pub mod standing;

// The shell.
pub mod flags;
pub mod settings;

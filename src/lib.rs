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

// The shell.
pub mod cli;
pub mod config_file;
pub mod etcd_command;
pub mod flags;
pub mod known_flags;
pub mod options;
pub mod settings;

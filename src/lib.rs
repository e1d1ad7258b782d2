//! The entrypoint of etcd's pods in a Kubernetes StatefulSet.
//!
//! The way of the data: settings -> disk -> DNS -> peers -> decision -> act -> exec.

// Vocabulary: no IO, no async.
pub mod intent;
pub mod journal;
pub mod names;
pub mod observation;
pub mod plan;
pub mod version;

// The pure core.
pub mod checks;
pub mod cluster;
pub mod decide;
pub mod hearing;
pub mod identity;
pub mod leaving;
pub mod readiness;
pub mod span;
pub mod standing;
pub mod turn;

// Settings.
pub mod cli;
pub mod config_file;
pub mod etcd_command;
pub mod flags;
pub mod known_flags;
pub mod options;
pub mod pid_one;
pub mod settings;
pub mod surroundings;

// The disk.
pub mod archive;
pub mod bolt;
pub mod data_dir;
pub mod disk_error;
pub mod failpoint;
pub mod image;
pub mod journal_file;
pub mod space;
pub mod unstarted;
pub mod wal;

// DNS.
pub mod dns;
pub mod dns_budget;
pub mod dns_schedule;
#[cfg(test)]
mod dns_testing;
pub mod dns_view;
pub mod dns_watch;
pub mod dns_wire;
pub mod local;

// The peers: reads, then writes.
pub mod connect;
pub mod etcd;
pub mod membership;
pub mod own_etcd;
pub mod peers;
pub mod tls;

// Kubernetes.
pub mod kube_api;

// What is served while the pod waits, and the duties of PID 1.
pub mod exec;
pub mod exit;
pub mod http_server;
pub mod metrics;
pub mod probes;
pub mod rollcall;
pub mod signals;
pub mod status;
pub mod telemetry;

// The shell.
pub mod act;
pub mod after_start;
pub mod commands;
pub mod hand_over;
pub mod launch;
pub mod observe;
pub mod sidecar;
pub mod startup;

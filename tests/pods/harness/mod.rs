//! A Kubernetes node in miniature: pods as namespaces on one bridge, a DNS server that can lie, real etcd.

pub mod checker;
pub mod client;
pub mod cluster;
pub mod container;
pub mod dns;
pub mod etcds;
pub mod http;
pub mod kube_api;
pub mod kubelet;
pub mod netns;
pub mod network;
pub mod partitions;
pub mod pod;
pub mod pod_faults;
pub mod pod_files;
pub mod pod_view;
pub mod process;
pub mod spec;
pub mod terminal;
pub mod tls;
pub mod tools;
pub mod volumes;
pub mod wait;
pub mod world;
pub mod writer;

pub use checker::{Report, check};
pub use cluster::{
    Member, Status, are_voters, etcdctl, get, hashkv, leader_of, members, put, remove_member, status, wait_for_voters,
    wait_healthy,
};
pub use container::Exit;
pub use dns::{Dns, Fault, FaultId, RecordType, ResponseCode};
pub use etcds::{Etcd, default_etcd, etcd, etcds};
pub use http::HttpAnswer;
pub use kube_api::KubeApi;
pub use kubelet::SidecarPod;
pub use network::Family;
pub use nix::sys::signal::Signal;
pub use pod::Pod;
pub use spec::PodSpec;
pub use terminal::{say, skipped};
pub use tls::{Authority, Identity};
pub use volumes::SavedVolume;
pub use wait::{eventually, stays, try_eventually};
pub use world::{World, sweep_leftovers};
pub use writer::{Writer, Written};

/// Between two looks at what is waited for.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

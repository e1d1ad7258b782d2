//! The ways in which a pod starts, and what is lost when it is killed meanwhile.

use std::fmt;

use crate::harness::PodSpec;
use crate::templates::entrypoint;

pub(super) const FOUNDERS: u32 = 3;

/// How the pod that is killed comes to its etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// With two others, all blank.
    Found,
    /// As the fourth.
    Join,
    /// After the loss of its disk.
    Replace,
    /// With its data, after its member was removed.
    Rejoin,
    /// With its data, after all pods were down; its settings come from a configuration file.
    Restart,
    /// After it was killed while it left, being the leader.
    Leave,
    /// The same, where it was wanted again before it had left.
    Stay,
    /// With two others, all blank, by `render` in init containers.
    Render,
}

pub(super) const WAYS: [Way; 8] =
    [Way::Found, Way::Join, Way::Replace, Way::Rejoin, Way::Restart, Way::Leave, Way::Stay, Way::Render];

/// The ways in which a sidecar is killed at its own points. All else is as where the entrypoint itself becomes etcd.
pub(super) const WAYS_OF_A_SIDECAR: [Way; 3] = [Way::Found, Way::Join, Way::Replace];

/// What brings the pod to its etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Program {
    /// `run`, `leave` or `render`.
    Entrypoint,
    /// `sidecar`, which etcd runs beside.
    Sidecar,
}

impl Way {
    pub(super) fn founds(self) -> bool {
        matches!(self, Self::Found | Self::Render)
    }

    pub(super) fn leaves(self) -> bool {
        matches!(self, Self::Leave | Self::Stay)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Found => "found",
            Self::Join => "join",
            Self::Replace => "replace",
            Self::Rejoin => "rejoin",
            Self::Restart => "restart",
            Self::Leave => "leave",
            Self::Stay => "stay",
            Self::Render => "render",
        })
    }
}

/// Where WAL and data are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Layout {
    OneVolume,
    TwoVolumes,
}

impl Layout {
    /// How many there are.
    pub(super) fn volumes(self) -> &'static str {
        match self {
            Self::OneVolume => "1",
            Self::TwoVolumes => "2",
        }
    }
}

/// What is gone when the pod that was killed starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lost {
    Nothing,
    Everything,
    /// The volume with the WAL and the journal.
    Wal,
    /// The volume with the database.
    Data,
}

impl Lost {
    pub(super) fn volumes(self, layout: Layout) -> &'static [&'static str] {
        match (self, layout) {
            (Self::Nothing, _) => &[],
            (Self::Wal, Layout::TwoVolumes) => &["/wal"],
            (Self::Everything, Layout::TwoVolumes) => &["/data", "/wal"],
            (Self::Data, _) | (_, Layout::OneVolume) => &["/data"],
        }
    }
}

const CONFIG: &str = "/config/etcd.yaml";

/// The template of a stage's pods.
pub(super) fn template(spec: PodSpec, way: Way, layout: Layout) -> PodSpec {
    let mut spec = entrypoint(spec, FOUNDERS).volume(super::points::VOLUME);
    if layout == Layout::TwoVolumes {
        spec = spec.volume("/wal");
        spec.argv.push("--wal-dir=/wal/etcd".to_owned());
    }
    let flags = spec.argv.split_off(1);
    match way {
        Way::Restart => {
            let settings = flags.iter().map(|flag| flag.trim_start_matches("--").replacen('=', ": ", 1) + "\n");
            let settings = settings.collect::<String>() + &take_tls_settings(&mut spec);
            spec = spec.file("/etc/etcd/etcd.yaml", settings);
            spec.set_args(["--config-file=/etc/etcd/etcd.yaml"]);
        }
        Way::Render => {
            spec = spec.volume("/config");
            let verb = ["render", "--output", CONFIG, "--"].map(str::to_owned);
            spec.set_args(verb.into_iter().chain(flags));
        }
        _ => spec.argv.extend(flags),
    }
    spec
}

/// etcd's variables for TLS, as a configuration file has them: beside it etcd would not look at them.
fn take_tls_settings(spec: &mut PodSpec) -> String {
    let (mut client, mut peer) = (String::new(), String::new());
    spec.env.retain(|(name, value)| {
        let Some(name) = name.strip_prefix("ETCD_") else { return true };
        let (section, name) = match name.strip_prefix("PEER_") {
            Some(name) => (&mut peer, name),
            None => (&mut client, name),
        };
        *section += &format!("  {}: {value}\n", name.to_ascii_lowercase().replace('_', "-"));
        false
    });
    if client.is_empty() {
        return String::new();
    }
    format!("client-transport-security:\n{client}peer-transport-security:\n{peer}")
}

/// What comes after the init container.
pub(super) fn becomes_etcd(spec: &mut PodSpec) {
    spec.set_command(["/usr/local/bin/etcd", "--config-file", CONFIG]);
}

//! The failpoints: those in the source, and those that a pod has reached.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::harness::Pod;

/// Where a pod's log of reached points lies: on a volume of its own, which no test loses.
pub(super) const VOLUME: &str = "/failpoints";

/// A place to be killed at: a failpoint, and the how many-th time that the process comes by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The child's points begin with `child/`.
    pub(super) point: String,
    pub(super) time: usize,
}

impl Place {
    /// In the form of ETCD_BOOTSTRAP_FAILPOINT.
    pub(super) fn variable(&self) -> String {
        format!("{}:{}", self.point, self.time)
    }

    pub(super) fn is_of_a_call(&self) -> bool {
        ["add-", "remove-", "promote-", "move-leader-", "leave-after-move", "leave-before-remove"]
            .iter()
            .any(|call| source_name(&self.point).starts_with(call))
    }

    pub(super) fn is_behind_a_removal(&self) -> bool {
        ["remove-after", "leave-after-remove"].contains(&self.point.as_str())
    }
}

/// The name in the source: the child passes the same code.
pub(super) fn source_name(point: &str) -> &str {
    point.strip_prefix("child/").unwrap_or(point)
}

/// Makes the pod log what it reaches, from now on, and be killed at the place.
pub(super) fn arm(pod: &Pod, place: Option<&Place>) {
    pod.wipe_volume(VOLUME);
    pod.edit(|spec| {
        spec.set_env("ETCD_BOOTSTRAP_FAILPOINTS_LOG", &format!("{VOLUME}/reached"));
        spec.unset_env("ETCD_BOOTSTRAP_FAILPOINT");
        if let Some(place) = place {
            spec.set_env("ETCD_BOOTSTRAP_FAILPOINT", &place.variable());
        }
    });
}

/// Lets a pod go on that is held.
pub(super) fn let_go(pod: &Pod) {
    let place = |name: &str| pod.volume_dir(VOLUME).join(name);
    fs::rename(place("reached"), place("before")).unwrap();
}

/// What the pod has reached since it was armed, in order.
pub(super) fn reached(pod: &Pod) -> Vec<Place> {
    let log = |name: &str| fs::read_to_string(pod.volume_dir(VOLUME).join(name)).unwrap_or_default();
    let log = log("before") + &log("reached");
    let mut times = BTreeMap::new();
    let place = |point: &str| {
        let time = times.entry(point.to_owned()).and_modify(|time| *time += 1).or_insert(1);
        Place { point: point.to_owned(), time: *time }
    };
    log.lines().map(place).collect()
}

/// All that stand in the program's source.
pub(super) fn in_source() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    search(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 10, "the source's failpoints are not found any more: {found:?}");
    found
}

fn search(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            search(&path, found);
        } else if path.file_name().is_some_and(|name| name != "tests.rs") {
            let text = fs::read_to_string(&path).unwrap();
            for (call, names) in [("failpoint::reach(", 1), ("failpoint::around(", 2)] {
                for after in text.split(call).skip(1) {
                    // Every second part is between quotation marks.
                    found.extend(after.split('"').skip(1).step_by(2).take(names).map(str::to_owned));
                }
            }
        }
    }
}

//! Pods that stay at a failpoint until they are let go.

use crate::harness::*;
use crate::templates::SOON;

/// A volume on which a pod says which failpoints it has reached. It stays at one as long as it can say so.
pub(crate) const HELD: &str = "/failpoints";

/// From its next start on.
pub(crate) fn hold(pod: &Pod, point: &str) {
    pod.edit(|spec| {
        spec.set_env("ETCD_BOOTSTRAP_FAILPOINTS_LOG", &format!("{HELD}/reached"));
        spec.set_env("ETCD_BOOTSTRAP_FAILPOINT_HOLD", point);
    });
}

#[track_caller]
pub(crate) fn wait_until_held(pod: &Pod, point: &str) {
    eventually(SOON, &format!("{} is at {point}", pod.name()), || {
        let log = std::fs::read_to_string(pod.volume_dir(HELD).join("reached")).unwrap_or_default();
        if log.lines().next_back() == Some(point) { Ok(()) } else { Err(format!("{log}\n{}", pod.log_tail(5))) }
    });
}

pub(crate) fn let_go(pod: &Pod) {
    pod.edit(|spec| spec.unset_env("ETCD_BOOTSTRAP_FAILPOINT_HOLD"));
    pod.wipe_volume(HELD);
}

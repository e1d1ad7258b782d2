//! What must hold of a cluster after each restart, whatever happened before.

use std::collections::BTreeSet;

use crate::harness::*;
use crate::templates::SOON;

/// What one cluster has been through.
#[derive(Default)]
pub(super) struct Story {
    /// What has been acknowledged.
    written: Vec<Written>,
    /// Members that were listed once, and are not any more: none may come back.
    listed: BTreeSet<u64>,
    retired: BTreeSet<u64>,
    cluster_id: Option<u64>,
}

impl Story {
    /// Ends the writer, and looks whether the pods are the one cluster and nothing is lost.
    pub(super) fn goes_on(&mut self, pods: &[&Pod], writer: Writer) {
        writer.wait_for(5, SOON);
        self.written.push(writer.stop());
        let written: Vec<&Written> = self.written.iter().collect();
        check(pods, &written, SOON).assert_clean();
        let now = status(pods[0]).unwrap().cluster_id;
        assert_eq!(now, *self.cluster_id.get_or_insert(now), "it is another cluster");
        let listed: BTreeSet<u64> = members(pods[0]).unwrap().iter().map(|member| member.id).collect();
        self.retired.extend(self.listed.difference(&listed));
        assert!(self.retired.is_disjoint(&listed), "a removed member is back: {listed:x?}, {:x?}", self.retired);
        self.listed = listed;
    }
}

//! Requests in a log that an etcd of a newer version cannot replay: those in the form of the v2 API.
//!
//! Up to 3.5 a member publishes its attributes and the cluster's version in that form, and 3.4 answers `/health` by a
//! logged `QGET`. etcd 3.6 takes the first two and panics on anything else (`detected disallowed v2 WAL`,
//! `server/etcdserver/apply_v2.go`), 3.7 panics on all (`execute job failed`). What lies before the last snapshot is not
//! replayed.

use super::scan::{Extent, Seen, fields, scan_file};
use super::{Content, DiskError};

/// Which v2 requests an etcd replays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replays {
    /// Members' attributes and the cluster's version: 3.6.
    Membership,
    /// None: 3.7 and later.
    None,
}

impl Replays {
    /// Whether it takes the request of an entry: {2 method, 3 path} where it is a v2 request. The requests of today
    /// have no field 2, and what cannot be parsed is for etcd to judge.
    pub(super) fn takes(self, request: &[u8]) -> bool {
        let text = |tag| fields(request, [], tag).map(|([], bytes)| bytes);
        let Some((method, path)) = text(2).zip(text(3)).filter(|(method, _)| !method.is_empty()) else { return true };
        let is_attributes = path.starts_with(b"/0/members/") && path.ends_with(b"/attributes");
        self == Self::Membership && method == b"PUT" && (is_attributes || path == b"/0/version")
    }
}

/// The index of the first committed entry after the last snapshot that cannot be replayed. Reads all segments, some 40 ms
/// for each, so it is for the rare case of a changed etcd. A log that is damaged is not judged.
///
/// # Errors
/// Where a segment cannot be read.
pub fn unreplayable(content: &Content, replays: Replays) -> Result<Option<u64>, DiskError> {
    let mut seen = Seen { replays: Some(replays), ..Seen::default() };
    let Some((newest, older)) = content.segments.split_last() else { return Ok(None) };
    for segment in older {
        if scan_file(&segment.path, &mut seen, Extent::Older)?.is_err() {
            return Ok(None);
        }
    }
    if scan_file(&newest.path, &mut seen, Extent::Newest)?.is_err() {
        return Ok(None);
    }
    let (snapshot, _) = seen.snapshot;
    Ok(seen.unreplayable.into_iter().find(|index| *index > snapshot && *index <= seen.commit))
}

//! etcd's write-ahead log, from bytes to the identity of its owner, without etcd.
//!
//! A segment is a row of frames: a little-endian u64 (the low 56 bits are the record's length; if the top bit is
//! set, the low three bits of the top byte are the length of the padding after it), then the record, a protobuf
//! {1 type, 2 crc, 3 data}. The CRC-32C rolls over the `data` of all records and segments; each segment begins with
//! a record that repeats it and with the metadata. A length of zero is the preallocated rest.
//!
//! What etcd would repair (a record that was torn at the end of the newest segment) is read past as etcd would.
//! What etcd dies of, or what only looks like a repair because acknowledged records are cut off with it, is
//! reported as unreadable.

mod requests;
mod scan;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::disk_error::{DiskError, found};
use crate::names::{ClusterId, MemberId};
pub use requests::{Replays, unreplayable};
use scan::{End, Extent, Seen, has_more, scan_file};

/// What lies in a WAL directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Log {
    /// No `*.wal` file, or no directory: etcd would start as on an empty disk.
    Absent,
    /// There is one, but it cannot be used.
    Unreadable {
        /// The segment, or the directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It names its owner.
    Present(Content),
}

/// What a WAL says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The member that wrote it.
    pub member_id: MemberId,
    /// The cluster that it is of.
    pub cluster_id: ClusterId,
    /// The last term: of a state record or an entry, whichever is higher.
    pub term: u64,
    /// The term of the last entry, or of a snapshot that came after it; 0 where the newest segment has neither.
    pub entry_term: u64,
    /// The index of the last entry, or of a snapshot that came after it.
    pub index: u64,
    /// The last index that was known to be committed.
    pub commit: u64,
    /// It has an entry or a state record, or anything behind its end: a damaged record is no proof of silence.
    pub spoke: bool,
    /// The end was torn, which etcd repairs when it starts.
    pub torn: bool,
    /// All segments, oldest first.
    pub segments: Vec<Segment>,
}

/// A segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it lies.
    pub path: PathBuf,
    /// Its number; etcd numbers them without gaps.
    pub number: u64,
    /// The index of the first entry that it may have.
    pub first_index: u64,
}

/// How thoroughly a WAL is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The heads of all segments and the end of the newest: a few milliseconds, whatever its size. Bits that flipped
    /// in between are not seen, and etcd dies of them.
    Ends,
    /// All of all segments, as etcd reads them: some 40 ms for each.
    All,
}

/// Reads a WAL directory. Every damage is a value; the errors are those of access.
pub fn read(dir: &Path, depth: Depth) -> Result<Log, DiskError> {
    let unreadable = |path: &Path, reason: String| Log::Unreadable { path: path.to_owned(), reason };
    let segments = match segments(dir)? {
        Names::None => return Ok(Log::Absent),
        Names::OnlyBroken(path) => {
            return Ok(unreadable(&path, "no `*.wal` file here has a name of etcd's form".to_owned()));
        }
        Names::Segments(segments) => segments,
    };
    if let Some(pair) = segments.windows(2).find(|pair| pair[0].number.checked_add(1) != Some(pair[1].number)) {
        let reason = format!("the segments between {:016x} and {:016x} are gone", pair[0].number, pair[1].number);
        return Ok(unreadable(&pair[1].path, reason));
    }
    let (older_extent, newest_extent) = match depth {
        Depth::Ends => (Extent::Head, Extent::NewestEnds),
        Depth::All => (Extent::Older, Extent::Newest),
    };
    let Some((newest, older)) = segments.split_last() else { return Ok(Log::Absent) };
    let mut crc = 0;
    let mut owners = Vec::new();
    for segment in older {
        let mut seen = Seen { crc, ..Seen::default() };
        if let Err(reason) = scan_file(&segment.path, &mut seen, older_extent)? {
            return Ok(unreadable(&segment.path, reason));
        }
        owners.push((&segment.path, seen.owner));
        if depth == Depth::All {
            crc = seen.crc;
        }
    }
    let mut seen = Seen { crc, ..Seen::default() };
    let end = match scan_file(&newest.path, &mut seen, newest_extent)? {
        Ok(end) => end,
        Err(reason) => return Ok(unreadable(&newest.path, reason)),
    };
    let Some((member, cluster)) = seen.owner.filter(|(member, _)| *member != 0) else {
        return Ok(unreadable(&newest.path, end.without_owner()));
    };
    if let Some((path, other)) = owners.into_iter().find(|(_, owner)| *owner != seen.owner) {
        let theirs =
            other.map_or("names no member".to_owned(), |(m, c)| format!("is of member {m:x} of cluster {c:x}"));
        let reason = format!("it {theirs}, but the newest segment is of member {member:x} of cluster {cluster:x}");
        return Ok(unreadable(path, reason));
    }
    // A later segment exists because earlier ones were full. And what lies behind the end may once have been said.
    let spoke = seen.spoke || newest.number > 0 || newest.first_index > 0 || has_more(&newest.path, &end)?;
    Ok(Log::Present(Content {
        member_id: MemberId(member),
        cluster_id: ClusterId(cluster),
        term: seen.term,
        entry_term: seen.entry_term,
        index: seen.index.unwrap_or(newest.first_index.saturating_sub(1)),
        commit: seen.commit,
        spoke,
        torn: matches!(end, End::Torn { .. }),
        segments,
    }))
}

/// What tells whether a WAL has changed since it was read: name, size and time of modification of each segment.
pub type Stamp = Vec<(PathBuf, u64, Option<SystemTime>)>;

/// The stamp of a WAL directory; empty where there is no WAL.
pub fn stamp(dir: &Path) -> Result<Stamp, DiskError> {
    let Names::Segments(segments) = segments(dir)? else { return Ok(Vec::new()) };
    let stamp = |segment: Segment| {
        let facts = fs::metadata(&segment.path).map_err(|error| DiskError::io("look at", &segment.path, error))?;
        Ok((segment.path, facts.len(), facts.modified().ok()))
    };
    segments.into_iter().map(stamp).collect()
}

/// Whether etcd would find a WAL in this directory.
pub fn exists(dir: &Path) -> Result<bool, DiskError> {
    Ok(!matches!(segments(dir)?, Names::None))
}

/// Index and term of the last snapshot, where there is one above index 0. Reads whole segments, from the newest
/// back, so it is for rare cases.
pub fn last_snapshot(content: &Content) -> Result<Option<(u64, u64)>, DiskError> {
    for segment in content.segments.iter().rev() {
        let mut seen = Seen::default();
        // What was read before a damage counts too.
        let _ = scan_file(&segment.path, &mut seen, Extent::Newest)?;
        if seen.snapshot.0 > 0 {
            return Ok(Some(seen.snapshot));
        }
    }
    Ok(None)
}

enum Names {
    None,
    OnlyBroken(PathBuf),
    Segments(Vec<Segment>),
}

/// The segments by name. etcd takes any `*.wal` for a sign of a WAL, and then reads only those whose names it can
/// parse; `1.tmp` is a segment being preallocated, `X.wal.broken` the copy that a repair leaves.
fn segments(dir: &Path) -> Result<Names, DiskError> {
    let fail = |error| DiskError::io("read the WAL directory", dir, error);
    let Some(entries) = found(fs::read_dir(dir)).map_err(fail)? else { return Ok(Names::None) };
    let mut segments = Vec::new();
    let mut broken = None;
    for entry in entries {
        let path = entry.map_err(fail)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(stem) = name.strip_suffix(".wal") else { continue };
        match parse_name(stem) {
            Some((number, first_index)) => segments.push(Segment { path, number, first_index }),
            None => broken = Some(path),
        }
    }
    segments.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(match (segments.is_empty(), broken) {
        (false, _) => Names::Segments(segments),
        (true, Some(path)) => Names::OnlyBroken(path),
        (true, None) => Names::None,
    })
}

/// Number and first index out of `%016x-%016x`.
fn parse_name(stem: &str) -> Option<(u64, u64)> {
    let hex = |text: &str| {
        let plain = (1..=16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        plain.then(|| u64::from_str_radix(text, 16).ok()).flatten()
    };
    let (number, first_index) = stem.split_once('-')?;
    Some((hex(number)?, hex(first_index)?))
}

#[cfg(test)]
pub(crate) mod real_etcd;
#[cfg(test)]
pub(crate) mod tests;

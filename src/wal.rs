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

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::disk_error::{DiskError, errno, found};
use crate::names::{ClusterId, MemberId};

/// No record is longer: etcd's own limit is `--max-request-bytes`, 1.5 MiB unless set.
const RECORD_BYTES_MAX: u64 = 64 << 20;
/// How much is read at once.
const CHUNK_BYTES: usize = 256 << 10;
/// A torn write leaves whole sectors of zeros.
const SECTOR_BYTES: u64 = 512;

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
    /// The index of the last entry, or of a snapshot that came after it.
    pub index: u64,
    /// The last index that was known to be committed.
    pub commit: u64,
    /// It has an entry or a state record, or anything behind its end: a damaged record is no proof of silence.
    pub spoke: bool,
    /// The last snapshot (index, term) in the newest segment; earlier segments may have later ones than none.
    pub snapshot: Option<(u64, u64)>,
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

/// Reads a WAL directory. Every damage is a value; the errors are those of access.
pub fn read(dir: &Path) -> Result<Log, DiskError> {
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
    let Some((newest, older)) = segments.split_last() else { return Ok(Log::Absent) };
    let mut seen = Seen::default();
    let end = match scan_file(&newest.path, &mut seen, Extent::Newest)? {
        Ok(end) => end,
        Err(reason) => return Ok(unreadable(&newest.path, reason)),
    };
    let Some(owner) = seen.owner.filter(|owner| owner.0 != 0) else {
        return Ok(unreadable(&newest.path, end.without_owner()));
    };
    for segment in older {
        let mut head = Seen::default();
        if let Err(reason) = scan_file(&segment.path, &mut head, Extent::Head)? {
            return Ok(unreadable(&segment.path, reason));
        }
        if head.owner != Some(owner) {
            let theirs = head
                .owner
                .map_or("nobody".to_owned(), |(member, cluster)| format!("member {member:x} of cluster {cluster:x}"));
            let (member, cluster) = owner;
            let reason =
                format!("it is of {theirs}, but the newest segment is of member {member:x} of cluster {cluster:x}");
            return Ok(unreadable(&segment.path, reason));
        }
    }
    // A later segment exists because earlier ones were full. And what lies behind the end may once have been said.
    let spoke = seen.spoke || newest.number > 0 || newest.first_index > 0 || has_more(&newest.path, &end)?;
    Ok(Log::Present(Content {
        member_id: MemberId(owner.0),
        cluster_id: ClusterId(owner.1),
        term: seen.term,
        index: seen.index.unwrap_or(newest.first_index.saturating_sub(1)),
        commit: seen.commit,
        spoke,
        snapshot: seen.snapshot,
        torn: matches!(end, End::Torn { .. }),
        segments,
    }))
}

/// Whether etcd would find a WAL in this directory.
pub fn exists(dir: &Path) -> Result<bool, DiskError> {
    Ok(!matches!(segments(dir)?, Names::None))
}

/// Whether any segment has a snapshot with an index above 0. Reads all of them, so it is for rare cases.
pub fn has_snapshot(content: &Content) -> Result<bool, DiskError> {
    // What came before the first segment was thrown away because a snapshot has it.
    let purged = content.segments.first().is_some_and(|segment| segment.first_index > 0);
    if purged || content.snapshot.is_some_and(|(index, _)| index > 0) {
        return Ok(true);
    }
    for segment in &content.segments {
        let mut seen = Seen::default();
        // What was read before a damage counts too.
        let _ = scan_file(&segment.path, &mut seen, Extent::Newest)?;
        if seen.snapshot.is_some_and(|(index, _)| index > 0) {
            return Ok(true);
        }
    }
    Ok(false)
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

/// How much of a segment is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// All of it; a torn end is repairable.
    Newest,
    /// Up to the metadata.
    Head,
}

/// How a segment ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// At the end of the file, or where the preallocated zeros begin; this many records in.
    Clean { records: u64, offset: u64 },
    /// In a record that was not written to its end, which etcd cuts off.
    Torn { offset: u64 },
}

impl End {
    fn without_owner(&self) -> String {
        match self {
            Self::Clean { records: 0, .. } => "it is empty, or has only zeros: what was in it is lost".to_owned(),
            Self::Clean { .. } => "it names no member".to_owned(),
            Self::Torn { offset } => format!("it is torn at byte {offset}, before it names a member"),
        }
    }
}

/// What the records of a segment said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    crc: u32,
    owner: Option<(u64, u64)>,
    term: u64,
    index: Option<u64>,
    commit: u64,
    spoke: bool,
    snapshot: Option<(u64, u64)>,
}

fn scan_file(path: &Path, seen: &mut Seen, extent: Extent) -> Result<Result<End, String>, DiskError> {
    let fail = |error| DiskError::io("read the WAL segment", path, error);
    let file = File::open(path).map_err(fail)?;
    let facts = file.metadata().map_err(fail)?;
    if !facts.is_file() {
        return Ok(Err("it is not a file".to_owned()));
    }
    match scan(file, facts.len(), seen, extent) {
        Ok(outcome) => Ok(outcome),
        // A bad block: this volume has lost data, but it can be renamed.
        Err(error) if errno(&error) == nix::errno::Errno::EIO => Ok(Err(format!("the disk cannot read it ({error})"))),
        Err(error) => Err(fail(error)),
    }
}

/// Whether anything but zeros lies behind the end of a segment.
fn has_more(path: &Path, end: &End) -> Result<bool, DiskError> {
    let End::Clean { offset, .. } = *end else { return Ok(true) };
    let look = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match file.read(&mut chunk)? {
                0 => return Ok(false),
                count if chunk[..count].iter().any(|byte| *byte != 0) => return Ok(true),
                _ => {}
            }
        }
    };
    look().map_err(|error| DiskError::io("read the WAL segment", path, error))
}

/// Reads frames until the end. The inner error is a damage that etcd would die of, or would "repair" by cutting off
/// what was acknowledged.
fn scan(source: impl Read, size: u64, seen: &mut Seen, extent: Extent) -> io::Result<Result<End, String>> {
    let mut source = Chunks::new(source, size);
    let mut records = 0;
    loop {
        let offset = source.offset;
        let header = source.peek(8)?;
        let Ok(header) = <[u8; 8]>::try_from(header) else {
            return Ok(Ok(if header.is_empty() { End::Clean { records, offset } } else { End::Torn { offset } }));
        };
        let field = u64::from_le_bytes(header);
        if field == 0 {
            return Ok(Ok(End::Clean { records, offset }));
        }
        let padding = if field >> 63 == 1 { (field >> 56) & 7 } else { 0 };
        let length = field & ((1 << 56) - 1);
        if length > RECORD_BYTES_MAX {
            return Ok(Err(format!("the record at byte {offset} claims a length of {length} bytes")));
        }
        if 8 + length + padding > size.saturating_sub(offset) {
            return Ok(Ok(End::Torn { offset }));
        }
        let frame = source.peek((8 + length + padding) as usize)?;
        if (frame.len() as u64) < 8 + length + padding {
            return Ok(Ok(End::Torn { offset }));
        }
        if let Err(reason) = seen.take(&frame[8..8 + length as usize]) {
            // Only what ends the newest segment can have been torn.
            if has_zero_sector(&frame[8..], offset + 8) && extent == Extent::Newest {
                return Ok(Ok(End::Torn { offset }));
            }
            return Ok(Err(format!("{reason} at byte {offset}")));
        }
        let taken = frame.len();
        source.consume(taken);
        records += 1;
        if extent == Extent::Head && seen.owner.is_some() {
            let offset = source.offset;
            return Ok(Ok(End::Clean { records, offset }));
        }
    }
}

impl Seen {
    /// Takes in one record; nothing is changed where it fails.
    fn take(&mut self, record: &[u8]) -> Result<(), &'static str> {
        let [kind, crc] = numbers(record, [1, 2]).ok_or("a record that cannot be parsed")?;
        let data = bytes(record, 3).ok_or("a record that cannot be parsed")?;
        let crc = crc as u32;
        if kind == 4 {
            if self.crc != 0 && self.crc != crc {
                return Err("a CRC that does not continue the one before");
            }
            self.crc = crc;
            return Ok(());
        }
        let rolled = crc32c::crc32c_append(self.crc, data);
        if rolled != crc {
            return Err("a CRC mismatch");
        }
        self.note(kind, data)?;
        self.crc = rolled;
        Ok(())
    }

    fn note(&mut self, kind: u64, data: &[u8]) -> Result<(), &'static str> {
        let bad = "a record whose data cannot be parsed";
        match kind {
            1 => {
                let [member, cluster] = numbers(data, [1, 2]).ok_or(bad)?;
                if self.owner.is_some_and(|owner| owner != (member, cluster)) {
                    return Err("another member's metadata");
                }
                self.owner = Some((member, cluster));
            }
            2 => {
                let [term, index] = numbers(data, [2, 3]).ok_or(bad)?;
                self.term = self.term.max(term);
                // An entry replaces all that had its index or a higher one.
                self.index = Some(index);
                self.spoke = true;
            }
            3 => {
                let [term, commit] = numbers(data, [1, 3]).ok_or(bad)?;
                self.term = self.term.max(term);
                self.commit = self.commit.max(commit);
                self.spoke = true;
            }
            5 => {
                let [index, term] = numbers(data, [1, 2]).ok_or(bad)?;
                self.snapshot = Some((index, term));
                // One that a leader sent is ahead of the entries.
                if self.index.is_some_and(|last| last < index) || (self.index.is_none() && index > 0) {
                    self.index = Some(index);
                }
                self.term = self.term.max(term);
            }
            _ => return Err("a record of an unknown kind"),
        }
        Ok(())
    }
}

/// The varint fields with these tags, 0 where there is none; nothing if the message cannot be parsed.
fn numbers<const N: usize>(mut message: &[u8], tags: [u32; N]) -> Option<[u64; N]> {
    let mut values = [0; N];
    while !message.is_empty() {
        let (tag, kind) = decode_key(&mut message).ok()?;
        match tags.iter().position(|wanted| *wanted == tag) {
            Some(place) if kind == WireType::Varint => values[place] = decode_varint(&mut message).ok()?,
            Some(_) => return None,
            None => skip_field(kind, tag, &mut message, DecodeContext::default()).ok()?,
        }
    }
    Some(values)
}

/// The bytes field with this tag, without copying it; empty where there is none.
fn bytes(mut message: &[u8], wanted: u32) -> Option<&[u8]> {
    let mut value: &[u8] = &[];
    while !message.is_empty() {
        let (tag, kind) = decode_key(&mut message).ok()?;
        if tag == wanted && kind == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
            (value, message) = message.split_at_checked(length)?;
        } else if tag == wanted {
            return None;
        } else {
            skip_field(kind, tag, &mut message, DecodeContext::default()).ok()?;
        }
    }
    Some(value)
}

/// Whether a sector has nothing but zeros: etcd's sign of a torn write. `offset` is where the data lies in the file.
fn has_zero_sector(data: &[u8], offset: u64) -> bool {
    let first = (SECTOR_BYTES - offset % SECTOR_BYTES) as usize;
    let (head, rest) = data.split_at(first.min(data.len()));
    let zero = |sector: &[u8]| !sector.is_empty() && sector.iter().all(|byte| *byte == 0);
    zero(head) || rest.chunks(SECTOR_BYTES as usize).any(zero)
}

/// A window over a file that is read once, front to back, in chunks.
struct Chunks<R> {
    source: R,
    /// The file's size in bytes: never is more memory asked for.
    size: u64,
    /// Where the window begins in the file.
    offset: u64,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<R: Read> Chunks<R> {
    fn new(source: R, size: u64) -> Self {
        let first = CHUNK_BYTES.min(usize::try_from(size).unwrap_or(CHUNK_BYTES));
        Self { source, size, offset: 0, buffer: vec![0; first], start: 0, end: 0 }
    }

    /// The next `wanted` bytes, fewer where the file ends.
    fn peek(&mut self, wanted: usize) -> io::Result<&[u8]> {
        if self.end - self.start < wanted {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            let room = wanted.min(usize::try_from(self.size).unwrap_or(wanted));
            if self.buffer.len() < room {
                self.buffer.resize(room, 0);
            }
            while self.end < wanted && self.end < self.buffer.len() {
                match self.source.read(&mut self.buffer[self.end..]) {
                    Ok(0) => break,
                    Ok(count) => self.end += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(&self.buffer[self.start..self.end.min(self.start + wanted)])
    }

    fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        self.offset += count as u64;
    }
}

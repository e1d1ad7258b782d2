//! One segment of the write-ahead log, from bytes to what its records say.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::requests::Replays;
use crate::disk_error::{DiskError, errno};

/// No record is longer: etcd's own limit is `--max-request-bytes`, 1.5 MiB unless set.
const RECORD_BYTES_MAX: u64 = 64 << 20;
/// How much is read at once.
const CHUNK_BYTES: usize = 256 << 10;
/// How much is read at once where little is wanted.
const BLOCK_BYTES: u64 = 4 << 10;
/// How much is read at either end of a segment, at the least, where not all of it is.
const STRETCH_BYTES: u64 = 1 << 20;
/// The kind of an entry that changes no membership.
const NORMAL: u64 = 0;
/// A torn write leaves whole sectors of zeros.
const SECTOR_BYTES: u64 = 512;

/// How much of a segment is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of the newest; a torn end is repairable.
    Newest,
    /// The beginning and the end of the newest, and all of it where the end does not explain itself.
    NewestEnds,
    /// All of an older one.
    Older,
    /// Up to the metadata.
    Head,
}

/// How a segment ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// At the end of the file, or where the preallocated zeros begin; this many records in.
    Clean { records: u64, offset: u64 },
    /// In a record that was not written to its end, which etcd cuts off.
    Torn { offset: u64 },
    /// Where reading was to stop.
    Stopped { offset: u64 },
}

impl End {
    pub(super) fn without_owner(&self) -> String {
        match self {
            Self::Clean { records: 0, .. } => "it is empty, or has only zeros: what was in it is lost".to_owned(),
            Self::Torn { offset } => format!("it is torn at byte {offset}, before it names a member"),
            Self::Clean { .. } | Self::Stopped { .. } => "it names no member".to_owned(),
        }
    }
}

/// What the records of a segment said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) crc: u32,
    pub(super) owner: Option<(u64, u64)>,
    pub(super) term: u64,
    /// The term of the last entry, or of a snapshot that came after it.
    pub(super) entry_term: u64,
    pub(super) index: Option<u64>,
    pub(super) commit: u64,
    pub(super) spoke: bool,
    pub(super) snapshot: (u64, u64),
    /// Which requests count as such that cannot be replayed; none where nobody wants to know.
    pub(super) replays: Option<Replays>,
    /// The indices of the entries with such requests, ascending.
    pub(super) unreplayable: Vec<u64>,
}

/// Scans a segment from its file. The inner error says what is wrong with it.
pub(super) fn scan_file(path: &Path, seen: &mut Seen, extent: Extent) -> Result<Result<End, String>, DiskError> {
    let fail = |error| DiskError::io("read the WAL segment", path, error);
    // Before it is opened: opening a pipe would wait for ever.
    if !path.metadata().map_err(fail)?.is_file() {
        return Ok(Err("it is not a file".to_owned()));
    }
    let file = File::open(path).map_err(fail)?;
    let size = file.metadata().map_err(fail)?.len();
    let outcome = match extent {
        Extent::NewestEnds => scan_ends(&file, size, seen),
        Extent::Newest => scan(&file, Range::all(size), seen, true),
        Extent::Older => scan(&file, Range::all(size), seen, false),
        Extent::Head => scan(&file, Range { stop: 1, ..Range::all(size) }, seen, false),
    };
    match outcome {
        Ok(outcome) => Ok(outcome),
        // A bad block: this volume has lost data, but it can be renamed.
        Err(error) if errno(&error) == Errno::EIO => Ok(Err(format!("the disk cannot read it ({error})"))),
        Err(error) => Err(fail(error)),
    }
}

/// What is read of a segment, in bytes from its beginning.
#[derive(Clone, Copy)]
struct Range {
    start: u64,
    /// Reading stops here once the metadata has been seen.
    stop: u64,
    /// The file's size.
    size: u64,
}

impl Range {
    fn all(size: u64) -> Self {
        Self { start: 0, stop: u64::MAX, size }
    }
}

/// Scans the beginning, which has the owner, and the end, which has the last term and index.
///
/// A full segment takes tens of milliseconds, more than a restart may cost. As each record carries the CRC of all
/// before it, three that continue one another can be believed wherever they lie.
fn scan_ends(file: &File, size: u64, seen: &mut Seen) -> io::Result<Result<End, String>> {
    let beginning = scan(file, Range { stop: STRETCH_BYTES, ..Range::all(size) }, seen, true)?;
    let Ok(End::Stopped { .. }) = beginning else { return Ok(beginning) };
    let written = last_written(file, STRETCH_BYTES, size)?;
    let start = written.saturating_sub(STRETCH_BYTES) & !7;
    if start > STRETCH_BYTES {
        let mut stretch = vec![0; (written - start) as usize];
        file.read_exact_at(&mut stretch, start)?;
        if let Some((skipped, crc)) = find_row(&stretch) {
            let mut last = Seen { crc, index: None, ..seen.clone() };
            let mut source = file;
            source.seek(SeekFrom::Start(start + skipped))?;
            let end = scan(source, Range { start: start + skipped, ..Range::all(size) }, &mut last, true)?;
            // Anything else is looked at from the beginning.
            if last.index.is_some() && matches!(end, Ok(End::Clean { offset, .. }) if offset >= written) {
                *seen = last;
                return Ok(end);
            }
        }
    }
    *seen = Seen::default();
    let mut source = file;
    source.rewind()?;
    scan(source, Range::all(size), seen, true)
}

/// An offset before which something is written, and after which (by bisection) probably nothing is.
fn last_written(file: &File, from: u64, size: u64) -> io::Result<u64> {
    let (mut written, mut zero) = (from / BLOCK_BYTES, size.div_ceil(BLOCK_BYTES));
    let mut block = [0; BLOCK_BYTES as usize];
    while zero - written > 1 {
        let middle = written + (zero - written) / 2;
        let count = file.read_at(&mut block, middle * BLOCK_BYTES)?;
        if block[..count].iter().any(|byte| *byte != 0) { written = middle } else { zero = middle }
    }
    Ok(written * BLOCK_BYTES)
}

/// The first of the frames in these bytes that is followed by two whose CRCs continue it: where it ends, and its CRC.
fn find_row(bytes: &[u8]) -> Option<(u64, u32)> {
    (0..bytes.len() / 8).map(|word| word * 8).find_map(|place| {
        let (first, _, end) = frame_at(bytes, place)?;
        let (second, data, next) = frame_at(bytes, end)?;
        let (third, last_data, _) = frame_at(bytes, next)?;
        let continued = |crc, data, next| crc32c::crc32c_append(crc, data) == next;
        (continued(first, data, second) && continued(second, last_data, third)).then_some((end as u64, first))
    })
}

/// CRC, data and end of what may be a frame.
fn frame_at(bytes: &[u8], place: usize) -> Option<(u32, &[u8], usize)> {
    let header = bytes.get(place..)?.first_chunk::<8>()?;
    let (length, padding) = frame_size(u64::from_le_bytes(*header));
    let length = usize::try_from(length).ok()?;
    let record = bytes.get(place + 8..)?.get(..length)?;
    // Field 1, a varint: cheap to look at before the rest is.
    (record.first() == Some(&8)).then_some(())?;
    let ([kind, crc], data) = fields(record, [1, 2], 3)?;
    matches!(kind, 2 | 3 | 5).then_some((crc as u32, data, place + 8 + length + padding as usize))
}

/// The length of the record and of the padding behind it.
fn frame_size(field: u64) -> (u64, u64) {
    let padding = if field >> 63 == 1 { (field >> 56) & 7 } else { 0 };
    (field & ((1 << 56) - 1), padding)
}

/// Whether anything but zeros lies behind the end of a segment.
pub(super) fn has_more(path: &Path, end: &End) -> Result<bool, DiskError> {
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
/// what was acknowledged. Only the end of the newest segment may be torn.
fn scan(source: impl Read, range: Range, seen: &mut Seen, newest: bool) -> io::Result<Result<End, String>> {
    let chunk = if range.stop == 1 { BLOCK_BYTES as usize } else { CHUNK_BYTES };
    let mut source = Chunks::new(source, range, chunk);
    let mut records = 0;
    loop {
        let offset = source.offset;
        if offset >= range.stop && seen.owner.is_some() {
            return Ok(Ok(End::Stopped { offset }));
        }
        let header = source.peek(8)?;
        let Ok(header) = <[u8; 8]>::try_from(header) else {
            return Ok(Ok(if header.is_empty() { End::Clean { records, offset } } else { End::Torn { offset } }));
        };
        let field = u64::from_le_bytes(header);
        if field == 0 {
            return Ok(Ok(End::Clean { records, offset }));
        }
        let (length, padding) = frame_size(field);
        if length > RECORD_BYTES_MAX {
            return Ok(Err(format!("the record at byte {offset} claims a length of {length} bytes")));
        }
        let wanted = 8 + length + padding;
        if wanted > range.size.saturating_sub(offset) {
            return Ok(Ok(End::Torn { offset }));
        }
        let frame = source.peek(wanted as usize)?;
        if (frame.len() as u64) < wanted {
            return Ok(Ok(End::Torn { offset }));
        }
        if let Err(reason) = seen.take(&frame[8..8 + length as usize]) {
            if newest && has_zero_sector(&frame[8..], offset + 8) {
                return Ok(Ok(End::Torn { offset }));
            }
            return Ok(Err(format!("{reason} at byte {offset}")));
        }
        source.consume(wanted as usize);
        records += 1;
    }
}

impl Seen {
    /// Takes in one record; nothing is changed where it fails.
    fn take(&mut self, record: &[u8]) -> Result<(), &'static str> {
        let ([kind, crc], data) = fields(record, [1, 2], 3).ok_or("a record that cannot be parsed")?;
        let crc = crc as u32;
        if kind == 4 {
            if self.crc != 0 && self.crc != crc {
                return Err("a CRC that does not continue the one before");
            }
            self.crc = crc;
            return Ok(());
        }
        if crc32c::crc32c_append(self.crc, data) != crc {
            return Err("a CRC mismatch");
        }
        self.note(kind, data)?;
        self.crc = crc;
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
                let ([kind, term, index], request) = fields(data, [1, 2, 3], 4).ok_or(bad)?;
                self.term = self.term.max(term);
                // An entry replaces all that had its index or a higher one.
                (self.index, self.entry_term) = (Some(index), term);
                self.spoke = true;
                if let Some(replays) = self.replays {
                    self.unreplayable.truncate(self.unreplayable.partition_point(|before| *before < index));
                    if kind == NORMAL && !replays.takes(request) {
                        self.unreplayable.push(index);
                    }
                }
            }
            3 => {
                let [term, commit] = numbers(data, [1, 3]).ok_or(bad)?;
                self.term = self.term.max(term);
                self.commit = self.commit.max(commit);
                self.spoke = true;
            }
            5 => {
                let [index, term] = numbers(data, [1, 2]).ok_or(bad)?;
                self.snapshot = (index, term);
                // One that a leader sent is ahead of the entries.
                if self.index.is_some_and(|last| last < index) || (self.index.is_none() && index > 0) {
                    (self.index, self.entry_term) = (Some(index), term);
                }
                self.term = self.term.max(term);
            }
            _ => return Err("a record of an unknown kind"),
        }
        Ok(())
    }
}

/// The varint fields with these tags, 0 where there is none, and the last of these, a bytes field, without a copy;
/// nothing if the message cannot be parsed.
pub(super) fn fields<const N: usize>(mut message: &[u8], tags: [u32; N], bytes_tag: u32) -> Option<([u64; N], &[u8])> {
    let mut values = [0; N];
    let mut bytes: &[u8] = &[];
    while !message.is_empty() {
        let (tag, kind) = decode_key(&mut message).ok()?;
        match kind {
            WireType::Varint => {
                let value = decode_varint(&mut message).ok()?;
                if let Some(place) = tags.iter().position(|wanted| *wanted == tag) {
                    values[place] = value;
                }
            }
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
                let (value, rest) = message.split_at_checked(length)?;
                message = rest;
                if tag == bytes_tag {
                    bytes = value;
                }
            }
            _ => skip_field(kind, tag, &mut message, DecodeContext::default()).ok()?,
        }
    }
    Some((values, bytes))
}

fn numbers<const N: usize>(message: &[u8], tags: [u32; N]) -> Option<[u64; N]> {
    fields(message, tags, 0).map(|(values, _)| values)
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
    fn new(source: R, range: Range, chunk: usize) -> Self {
        let first = chunk.min(usize::try_from(range.size).unwrap_or(chunk));
        Self { source, size: range.size, offset: range.start, buffer: vec![0; first], start: 0, end: 0 }
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

//! Made-up WALs, their damages, and WALs that real etcds wrote.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::real_etcd::{Etcd, etcds};
use super::*;

pub(crate) const FIRST: &str = "0000000000000000-0000000000000000.wal";
const MEMBER: u64 = 0xa394_e0ee_9177_3643;
const CLUSTER: u64 = 0x1c45_a069_f3a1_d796;

/// Writes segments as etcd does, from its description and not with the reader's code.
#[derive(Clone, Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
    /// Where each frame begins.
    pub(crate) frames: Vec<usize>,
    crc: u32,
}

impl Writer {
    pub(crate) fn with_head(member: u64, cluster: u64) -> Self {
        let mut writer = Self::default();
        writer.head(member, cluster);
        writer
    }

    pub(crate) fn head(&mut self, member: u64, cluster: u64) {
        self.record(4, None);
        self.record(1, Some([varint(1, member), varint(2, cluster)].concat()));
    }

    pub(crate) fn entry(&mut self, term: u64, index: u64, data: &[u8]) {
        let mut message = [varint(1, 0), varint(2, term), varint(3, index), vec![0x22]].concat();
        message.extend(plain_varint(data.len() as u64));
        message.extend(data);
        self.record(2, Some(message));
    }

    pub(crate) fn state(&mut self, term: u64, commit: u64) {
        self.record(3, Some([varint(1, term), varint(2, MEMBER), varint(3, commit)].concat()));
    }

    pub(crate) fn snapshot(&mut self, index: u64, term: u64) {
        self.record(5, Some([varint(1, index), varint(2, term)].concat()));
    }

    /// The next segment, whose CRC goes on.
    pub(crate) fn cut(&self) -> Self {
        Self { crc: self.crc, ..Self::default() }
    }

    fn record(&mut self, kind: u64, data: Option<Vec<u8>>) {
        if let Some(data) = &data {
            self.crc = crc32c::crc32c_append(self.crc, data);
        }
        let mut record = [varint(1, kind), varint(2, u64::from(self.crc))].concat();
        if let Some(data) = data {
            record.push(0x1a);
            record.extend(plain_varint(data.len() as u64));
            record.extend(data);
        }
        let padding = (8 - record.len() % 8) % 8;
        let size = record.len() as u64 | if padding > 0 { (0x80 | padding as u64) << 56 } else { 0 };
        self.frames.push(self.bytes.len());
        self.bytes.extend(size.to_le_bytes());
        self.bytes.extend(record);
        self.bytes.extend(vec![0; padding]);
    }
}

fn varint(tag: u8, value: u64) -> Vec<u8> {
    [vec![tag << 3], plain_varint(value)].concat()
}

fn plain_varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A segment with 20 entries of growing size up to term 3, index 20, commit 19.
pub(crate) fn sample() -> Writer {
    let mut writer = Writer::with_head(MEMBER, CLUSTER);
    writer.snapshot(0, 0);
    for index in 1..=20 {
        writer.entry(2 + index / 11, index, &vec![b'x'; 40 * index as usize]);
        writer.state(2 + index / 11, index - 1);
    }
    writer
}

fn log_of(segments: &[(&str, &[u8])]) -> Log {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in segments {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    let log = read(dir.path(), Depth::Ends).unwrap();
    let whole = read(dir.path(), Depth::All).unwrap();
    if !matches!(whole, Log::Unreadable { .. }) {
        assert_eq!(log, whole, "both depths say the same of what is whole");
    }
    log
}

fn content_of(bytes: &[u8]) -> Content {
    match log_of(&[(FIRST, bytes)]) {
        Log::Present(content) => content,
        other => panic!("{other:?}"),
    }
}

fn reason_of(log: Log) -> String {
    match log {
        Log::Unreadable { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

fn preallocated(bytes: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(size, 0);
    bytes
}

#[test]
fn a_segment_names_its_owner_and_where_it_ends() {
    let writer = sample();
    for bytes in [writer.bytes.clone(), preallocated(&writer.bytes, 64_000)] {
        let content = content_of(&bytes);
        assert_eq!((content.member_id, content.cluster_id), (MemberId(MEMBER), ClusterId(CLUSTER)));
        assert_eq!((content.term, content.index, content.commit), (3, 20, 19));
        assert!(content.spoke && !content.torn);
    }
}

#[test]
fn an_entry_replaces_what_came_after_it() {
    let mut writer = sample();
    writer.entry(4, 15, b"a new leader's");
    let content = content_of(&writer.bytes);
    assert_eq!((content.term, content.index), (4, 15));
}

#[test]
fn a_snapshot_that_a_leader_sent_moves_the_index() {
    let mut writer = sample();
    writer.snapshot(1000, 7);
    let content = content_of(&writer.bytes);
    assert_eq!((content.term, content.index), (7, 1000));
}

#[test]
fn what_never_spoke_is_told_from_what_may_have() {
    let mut writer = Writer::with_head(MEMBER, CLUSTER);
    writer.snapshot(0, 0);
    let silent = preallocated(&writer.bytes, 1 << 20);
    assert!(!content_of(&silent).spoke);
    // A first entry whose frame was zeroed, or torn, is no proof of silence.
    let mut leftover = silent.clone();
    leftover[700_000] = 1;
    assert!(content_of(&leftover).spoke);
    let before = writer.bytes.len();
    writer.entry(2, 1, &[b'x'; 2000]);
    let torn = preallocated(&writer.bytes[..before + 700], 1 << 20);
    let content = content_of(&torn);
    assert!(content.spoke && content.torn);
}

#[test]
fn a_later_segment_has_spoken_and_tells_the_index_by_its_name() {
    let mut first = sample();
    first.snapshot(10, 2);
    let mut second = first.cut();
    second.head(MEMBER, CLUSTER);
    second.state(3, 20);
    let name = "0000000000000001-0000000000000015.wal";
    let Log::Present(content) = log_of(&[(FIRST, &first.bytes), (name, &second.bytes)]) else { panic!() };
    assert_eq!((content.term, content.index, content.commit, content.spoke), (3, 20, 20, true));
    let Log::Present(content) = log_of(&[(name, &second.bytes)]) else { panic!() };
    assert_eq!((content.index, content.spoke), (20, true));
}

#[test]
fn the_last_snapshot_is_found_in_an_earlier_segment() {
    let mut first = sample();
    first.snapshot(10, 2);
    let mut second = first.cut();
    second.head(MEMBER, CLUSTER);
    second.state(3, 20);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FIRST), &first.bytes).unwrap();
    fs::write(dir.path().join("0000000000000001-0000000000000015.wal"), &second.bytes).unwrap();
    let Log::Present(content) = read(dir.path(), Depth::Ends).unwrap() else { panic!() };
    assert_eq!(last_snapshot(&content).unwrap(), Some((10, 2)));
    assert_eq!(last_snapshot(&Content { segments: content.segments[1..].to_vec(), ..content }).unwrap(), None);
}

#[test]
fn segments_that_do_not_belong_together_are_unreadable() {
    let first = sample();
    let name = |number: u64, index: u64| format!("{number:016x}-{index:016x}.wal");
    let mut second = first.cut();
    second.head(MEMBER, CLUSTER);
    let mut foreign = first.cut();
    foreign.head(7, CLUSTER);
    let reason = reason_of(log_of(&[(FIRST, &first.bytes), (&name(1, 21), &foreign.bytes)]));
    assert!(reason.contains("is of member a394e0ee91773643") && reason.contains("member 7"), "{reason}");
    let reason = reason_of(log_of(&[(FIRST, &first.bytes), (&name(2, 21), &second.bytes)]));
    assert!(reason.contains("are gone"), "{reason}");
    // The newest segment lost what was in it: etcd up to 3.5 starts without a word, 3.6 hangs.
    for lost in [Vec::new(), vec![0; 64_000]] {
        let reason = reason_of(log_of(&[(FIRST, &first.bytes), (&name(1, 21), &lost)]));
        assert!(reason.contains("what was in it is lost"), "{reason}");
        let reason = reason_of(log_of(&[(FIRST, &lost)]));
        assert!(reason.contains("what was in it is lost"), "{reason}");
    }
    // A CRC that does not go on is seen where all is read.
    let dir = tempfile::tempdir().unwrap();
    let stranger = Writer::with_head(MEMBER, CLUSTER);
    fs::write(dir.path().join(FIRST), &first.bytes).unwrap();
    fs::write(dir.path().join(name(1, 21)), &stranger.bytes).unwrap();
    assert!(matches!(read(dir.path(), Depth::All).unwrap(), Log::Unreadable { .. }));
}

#[test]
fn names_are_told_apart_as_etcd_does() {
    assert_eq!(log_of(&[]), Log::Absent);
    assert_eq!(read(Path::new("/nonexistent/wal"), Depth::Ends).unwrap(), Log::Absent);
    assert_eq!(log_of(&[("1.tmp", b"x"), ("0.wal.broken", b"x"), ("lost+found", b"")]), Log::Absent);
    assert!(reason_of(log_of(&[("x.wal", b"x")])).contains("name"));
    let sample = sample();
    assert!(matches!(log_of(&[(FIRST, &sample.bytes), ("1.tmp", b""), ("x.wal", b"x")]), Log::Present(_)));
    assert!(parse_name("0-0").is_some() && parse_name("0-").is_none() && parse_name("+1-0").is_none());
}

#[test]
fn a_directory_or_a_pipe_in_a_segments_place_is_unreadable() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(FIRST)).unwrap();
    assert_eq!(reason_of(read(dir.path(), Depth::Ends).unwrap()), "it is not a file");
    fs::remove_dir(dir.path().join(FIRST)).unwrap();
    nix::unistd::mkfifo(&dir.path().join(FIRST), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(reason_of(read(dir.path(), Depth::Ends).unwrap()), "it is not a file");
}

/// However much of the last records was written, what is said is true of a log that ended before them.
fn check_every_tear(bytes: &[u8], frames: &[usize]) {
    let whole = content_of(bytes);
    let from = frames[frames.len().saturating_sub(4)];
    let at = |offset: usize| frames.iter().take_while(|frame| **frame <= offset).count();
    for cut in from..bytes.len() {
        for torn in [bytes[..cut].to_vec(), preallocated(&bytes[..cut], bytes.len() + 4096)] {
            match log_of(&[(FIRST, &torn)]) {
                Log::Present(content) => {
                    assert_eq!((content.member_id, content.cluster_id), (whole.member_id, whole.cluster_id));
                    assert!(content.index <= whole.index && content.term <= whole.term, "cut at {cut}");
                    // Cut within a record, the file ends in a tear.
                    if torn.len() == cut {
                        assert_eq!(content.torn, !frames.contains(&cut), "cut at {cut} in frame {}", at(cut));
                    }
                }
                // Zeros after a partial sector: etcd dies of these too (a CRC mismatch that is no torn write).
                Log::Unreadable { reason, .. } => assert!(torn.len() > cut, "cut at {cut}: {reason}"),
                Log::Absent => panic!("cut at {cut}"),
            }
        }
    }
}

#[test]
fn a_torn_tail_is_read_up_to_it() {
    let sample = sample();
    check_every_tear(&sample.bytes, &sample.frames);
}

#[test]
fn damage_is_not_taken_for_a_tear() {
    let sample = sample();
    let damaged = |place: usize, value: u8| {
        let mut bytes = preallocated(&sample.bytes, 64_000);
        bytes[place] ^= value;
        log_of(&[(FIRST, &bytes)])
    };
    assert!(reason_of(damaged(sample.frames[11] + 40, 1)).contains("CRC mismatch"));
    assert!(reason_of(damaged(sample.frames[1] + 12, 1)).contains("at byte"));
    // etcd from 3.5.16 on "repairs" this by cutting off all that follows.
    assert!(reason_of(damaged(sample.frames[10] + 5, 1)).contains("claims a length"));
}

#[test]
fn a_segment_is_read_at_both_ends_or_wholly_where_they_do_not_fit() {
    let mut writer = Writer::with_head(MEMBER, CLUSTER);
    for index in 1..=6000 {
        writer.entry(2, index, &vec![b'v'; 700 + index as usize % 100]);
        writer.state(2, index);
    }
    let middle = writer.frames[6000];
    let bytes = preallocated(&writer.bytes, 8_000_000);
    assert_eq!(content_of(&bytes).index, 6000);
    let mut flipped = bytes.clone();
    flipped[middle + 60] ^= 1;
    // Seen only where all is read.
    assert!(matches!(log_of(&[(FIRST, &flipped)]), Log::Present(_)));
    // The end is damaged: all is read, and the damage in the middle found first.
    flipped[writer.frames[12_000] + 60] ^= 1;
    assert!(reason_of(log_of(&[(FIRST, &flipped)])).contains(&format!("at byte {middle}")));
    // Values full of zeros, and one that is a WAL itself, do not lead astray.
    writer.entry(2, 6001, &vec![0; 1_500_000]);
    writer.entry(2, 6002, &sample().bytes);
    writer.entry(2, 6003, &vec![0; 1_500_000]);
    assert_eq!(content_of(&preallocated(&writer.bytes, 16_000_000)).index, 6003);
}

fn mutate(bytes: &mut Vec<u8>, changes: &[(usize, u8)], cut: Option<usize>, zeros: Option<(usize, usize)>) {
    let length = bytes.len();
    for (place, value) in changes {
        bytes[place % length] ^= value;
    }
    if let Some((place, count)) = zeros {
        let start = place % length;
        let end = (start + count).min(length);
        bytes[start..end].fill(0);
    }
    if let Some(cut) = cut {
        bytes.truncate(cut % length);
    }
}

/// Whatever the bytes are, nothing panics, and nobody else is named than who wrote them.
fn check_mutation(bytes: &[u8], owner: (u64, u64)) {
    let mut seen = Seen::default();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FIRST), bytes).unwrap();
    let _ = scan_file(&dir.path().join(FIRST), &mut seen, Extent::Newest).unwrap();
    if let Log::Present(content) = read(dir.path(), Depth::Ends).unwrap() {
        assert_eq!((content.member_id.0, content.cluster_id.0), owner);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_damage_panics_or_names_somebody_else(
        changes in prop::collection::vec((any::<usize>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<usize>()),
        zeros in prop::option::of((any::<usize>(), 0usize..2000)),
    ) {
        let mut bytes = preallocated(&sample().bytes, 20_000);
        mutate(&mut bytes, &changes, cut, zeros);
        check_mutation(&bytes, (MEMBER, CLUSTER));
    }

    #[test]
    fn no_bytes_at_all_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FIRST), &bytes).unwrap();
        let _ = read(dir.path(), Depth::Ends).unwrap();
    }
}

/// The frames of a segment, found without the reader's code.
fn frames_of(bytes: &[u8]) -> (Vec<usize>, usize) {
    let (mut frames, mut place) = (Vec::new(), 0);
    loop {
        let field = u64::from_le_bytes(bytes[place..place + 8].try_into().unwrap());
        if field == 0 {
            return (frames, place);
        }
        frames.push(place);
        let padding = if field >> 63 == 1 { (field >> 56) & 7 } else { 0 };
        place += 8 + ((field & 0xff_ffff_ffff_ffff) + padding) as usize;
    }
}

#[test]
fn real_wals_of_each_version_are_read_as_etcd_reads_them() {
    for (version, etcd) in etcds() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let mut running = Etcd::start(&etcd, &data, &["--snapshot-count", "5"]).expect(&version);
        (0..12).for_each(|_| running.put("dmFsdWU="));
        let (ids, (term, index)) = (running.ids(), running.term_and_index());
        running.kill();
        let wal = data.join("member/wal");
        let Log::Present(content) = read(&wal, Depth::Ends).unwrap() else { panic!("{version}") };
        assert_eq!((content.member_id.0, content.cluster_id.0), ids, "{version}");
        assert_eq!((content.term, content.spoke, content.torn), (term, true, false), "{version}");
        assert!(content.index >= index && index > 10, "{version}: {} {index}", content.index);
        assert!(last_snapshot(&content).unwrap().is_some_and(|(at, _)| at > 0 && at <= index), "{version}");
        assert_eq!(read(&wal, Depth::All).unwrap(), Log::Present(content), "{version}");
        let bytes = fs::read(wal.join(FIRST)).unwrap();
        let (frames, end) = frames_of(&bytes);
        check_every_tear(&bytes[..end], &frames);
        let mut random = proptest::test_runner::TestRunner::deterministic();
        let strategy = prop::collection::vec((any::<usize>(), any::<u8>()), 1..4);
        for _ in 0..300 {
            let changes = strategy.new_tree(&mut random).unwrap().current();
            let mut damaged = bytes[..end + 1000].to_vec();
            mutate(&mut damaged, &changes, None, None);
            check_mutation(&damaged, ids);
        }
        eprintln!("{version}: {} frames, {} bytes", frames.len(), end);
    }
}

#[test]
fn real_etcds_start_where_a_tear_was_read_past_and_end_where_damage_was_reported() {
    for (version, etcd) in etcds() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let mut running = Etcd::start(&etcd, &data, &[]).expect(&version);
        (0..5).for_each(|_| running.put("dmFsdWU="));
        running.kill();
        let segment = data.join("member/wal").join(FIRST);
        let (frames, _) = frames_of(&fs::read(&segment).unwrap());
        let last = *frames.last().unwrap();

        // etcd cuts a torn record off, and goes on.
        OpenOptions::new().write(true).open(&segment).unwrap().set_len(last as u64 + 13).unwrap();
        let wal = data.join("member/wal");
        let Log::Present(torn) = read(&wal, Depth::Ends).unwrap() else { panic!("{version}") };
        assert!(torn.torn, "{version}");
        let mut running = Etcd::start(&etcd, &data, &[]).unwrap_or_else(|| panic!("{version} repairs a torn record"));
        running.kill();
        let Log::Present(repaired) = read(&wal, Depth::Ends).unwrap() else { panic!("{version}") };
        assert!(!repaired.torn && repaired.index >= torn.index, "{version}");

        // etcd dies of a record that was changed.
        let file = OpenOptions::new().write(true).read(true).open(&segment).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, frames[3] as u64 + 20).unwrap();
        file.write_all_at(&[byte[0] ^ 1], frames[3] as u64 + 20).unwrap();
        assert!(matches!(read(&wal, Depth::Ends).unwrap(), Log::Unreadable { .. }), "{version}");
        assert!(Etcd::start(&etcd, &data, &[]).is_none(), "{version}");
    }
}

#[test]
fn a_real_wal_dir_elsewhere_is_read_too() {
    for (version, etcd) in etcds() {
        let dir = tempfile::tempdir().unwrap();
        let wal = dir.path().join("elsewhere/wal");
        let data = dir.path().join("data");
        let mut running = Etcd::start(&etcd, &data, &["--wal-dir", wal.to_str().unwrap()]).expect(&version);
        let ids = running.ids();
        running.kill();
        let Log::Present(content) = read(&wal, Depth::Ends).unwrap() else { panic!("{version}") };
        assert_eq!((content.member_id.0, content.cluster_id.0), ids, "{version}");
        assert!(!exists(&data.join("member/wal")).unwrap(), "{version}");
        // An empty newest segment: what etcd makes of it differs, so it is reported.
        let mut newest = fs::File::create(wal.join("0000000000000001-0000000000000100.wal")).unwrap();
        newest.write_all(b"").unwrap();
        assert!(matches!(read(&wal, Depth::Ends).unwrap(), Log::Unreadable { .. }), "{version}");
    }
}

/// `{1 ID, 2 method, 3 path}`: a request in the form of the v2 API.
fn v2(method: &str, path: &str) -> Vec<u8> {
    let text = |tag: u8, text: &str| [&[tag << 3 | 2, text.len() as u8], text.as_bytes()].concat();
    [varint(1, 7), text(2, method), text(3, path)].concat()
}

#[test]
fn requests_that_a_newer_etcd_cannot_replay_are_found_behind_the_last_snapshot() {
    let put = [0x22, 2, 10, 0];
    let attributes = v2("PUT", "/0/members/2e1259d415f2a040/attributes");
    let unreplayable = |entries: &[(u64, &[u8])], snapshot: u64, commit: u64, replays| {
        let mut writer = Writer::with_head(MEMBER, CLUSTER);
        entries.iter().for_each(|(index, request)| writer.entry(2, *index, request));
        if snapshot > 0 {
            writer.snapshot(snapshot, 2);
        }
        writer.state(2, commit);
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FIRST), &writer.bytes).unwrap();
        let Log::Present(content) = read(dir.path(), Depth::Ends).unwrap() else { panic!() };
        super::unreplayable(&content, replays).unwrap()
    };
    let (any, most) = (Replays::None, Replays::Membership);
    for (replays, request, taken) in [
        (any, &put[..], true),
        (any, &[], true),
        (any, &attributes, false),
        (most, &attributes, true),
        (most, &v2("PUT", "/0/version"), true),
        (most, &v2("QGET", ""), false),
        (most, &v2("PUT", "/1/key"), false),
        (any, b"\xff\xff", true),
    ] {
        let found = unreplayable(&[(1, &put), (2, request)], 0, 2, replays);
        assert_eq!(found, (!taken).then_some(2), "{replays:?} {request:?}");
    }
    assert_eq!(unreplayable(&[(1, &attributes), (2, &put)], 1, 2, any), None, "before the snapshot");
    assert_eq!(unreplayable(&[(1, &attributes), (2, &attributes)], 1, 2, any), Some(2));
    assert_eq!(unreplayable(&[(1, &put), (2, &attributes)], 0, 1, any), None, "not committed");
    assert_eq!(unreplayable(&[(1, &put), (2, &attributes), (2, &put)], 0, 2, any), None, "overwritten");
}

#[test]
fn the_terms_in_which_a_member_only_campaigned_are_not_those_of_its_entries() {
    let mut writer = sample();
    writer.state(99, 20);
    let Log::Present(content) = log_of(&[(FIRST, &writer.bytes)]) else { panic!() };
    assert_eq!((content.term, content.entry_term, content.index, content.commit), (99, 3, 20, 20));
    writer.snapshot(1000, 7);
    let Log::Present(content) = log_of(&[(FIRST, &writer.bytes)]) else { panic!() };
    assert_eq!((content.entry_term, content.index), (7, 1000));
}

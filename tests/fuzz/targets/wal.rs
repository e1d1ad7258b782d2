//! One segment of a WAL, of any bytes.
#![no_main]

use etcd_bootstrap::wal::{Depth, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("0000000000000000-0000000000000000.wal"), bytes).expect("a file");
    _ = read(dir.path(), Depth::Ends).expect("it can be read");
    _ = read(dir.path(), Depth::All).expect("it can be read");
});

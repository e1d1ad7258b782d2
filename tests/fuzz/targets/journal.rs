//! The journal, with a CRC that fits.
#![no_main]

use etcd_bootstrap::journal_file;
use etcd_bootstrap::observation::JournalFile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &str| {
    let dir = tempfile::tempdir().expect("a directory");
    let crc = crc32c::crc32c(json.as_bytes());
    let text = format!("etcd-bootstrap journal v1 crc32c={crc:08x}\n{json}");
    std::fs::write(dir.path().join("journal"), text).expect("a file");
    match journal_file::read(dir.path()).expect("it can be read") {
        JournalFile::Valid(journal) => {
            journal_file::write(dir.path(), &journal).expect("it can be written");
            assert_eq!(journal_file::read(dir.path()).expect("it can be read"), JournalFile::Valid(journal));
        }
        JournalFile::Torn(_) => {}
        JournalFile::Absent => panic!("it is there"),
    }
});

use std::fs;
use std::process::{Command, Stdio};

use super::*;
use crate::wal::real_etcd::{Etcd, etcds};

fn minor_of(version: &str) -> String {
    let mut parts = version.split('.');
    format!("{}.{}.0", parts.next().unwrap(), parts.next().unwrap())
}

#[test]
fn a_member_that_ran_has_used_its_database_and_says_the_versions() {
    for (version, etcd) in etcds() {
        let dir = tempfile::tempdir().unwrap();
        let mut running = Etcd::start(&etcd, dir.path(), &[]).unwrap();
        running.put("dg==");
        let db = dir.path().join("member/snap/db");
        // The cluster's version is agreed on after seconds, 3.0.0 before that; it is committed within 100 ms.
        let mut seen = None;
        for _ in 0..600 {
            seen = read(&db).unwrap();
            let agreed = seen.as_ref().and_then(|database| database.cluster_version.as_deref());
            if agreed.is_some_and(|agreed| agreed != "3.0.0") {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        running.kill();
        let seen = seen.unwrap();
        assert!(seen.used, "{version}");
        if version != "PATH" {
            assert_eq!(seen.cluster_version, Some(minor_of(&version)), "{version}");
            let has_one = !version.starts_with("3.4") && !version.starts_with("3.5");
            assert_eq!(read(&db).unwrap().unwrap().storage_version, has_one.then(|| minor_of(&version)), "{version}");
        }
    }
}

#[test]
fn what_a_first_start_leaves_that_failed_was_never_used() {
    for (version, etcd) in etcds() {
        let dir = tempfile::tempdir().unwrap();
        // It looks for a cluster at a port where nobody listens.
        let status = Command::new(&etcd)
            .args(["--name=m", "--initial-cluster-state=existing", "--data-dir"])
            .arg(dir.path())
            .args(["--listen-client-urls=http://127.0.0.1:0", "--advertise-client-urls=http://127.0.0.1:2379"])
            .args(["--listen-peer-urls=http://127.0.0.1:0", "--initial-advertise-peer-urls=http://127.0.0.1:1"])
            .args(["--initial-cluster=m=http://127.0.0.1:1,n=http://127.0.0.1:2"])
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(!status.success(), "{version}");
        assert!(!dir.path().join("member/wal").exists(), "{version}");
        let database = read(&dir.path().join("member/snap/db")).unwrap();
        assert_eq!(database, Some(Database::default()), "{version}");
    }
}

/// A database of two metas, with this root leaf.
fn file(page_size: usize, metas: [(u64, bool); 2], root: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; page_size * 4];
    for (n, (transaction, valid)) in metas.into_iter().enumerate() {
        let meta = &mut bytes[n * page_size + HEADER_BYTES..][..META_BYTES + 8];
        meta[0..4].copy_from_slice(&MAGIC.to_ne_bytes());
        meta[4..8].copy_from_slice(&VERSION.to_ne_bytes());
        meta[8..12].copy_from_slice(&(page_size as u32).to_ne_bytes());
        meta[16..24].copy_from_slice(&3_u64.to_ne_bytes());
        meta[48..56].copy_from_slice(&transaction.to_ne_bytes());
        let checksum = fnv1a(&meta[..META_BYTES]) ^ u64::from(!valid);
        meta[56..64].copy_from_slice(&checksum.to_ne_bytes());
    }
    let leaf = leaf(3, root);
    bytes[3 * page_size..][..leaf.len()].copy_from_slice(&leaf);
    bytes
}

fn leaf(page: u64, items: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut bytes =
        [&page.to_ne_bytes()[..], &LEAF.to_ne_bytes(), &(items.len() as u16).to_ne_bytes(), &[0; 4]].concat();
    let mut place = items.len() * 16;
    for (n, (key, value)) in items.iter().enumerate() {
        let fields = [0, place - n * 16, key.len(), value.len()].map(|field| (field as u32).to_ne_bytes());
        bytes.extend(fields.concat());
        place += key.len() + value.len();
    }
    items.iter().for_each(|(key, value)| bytes.extend([*key, *value].concat()));
    bytes
}

fn inline(items: &[(&[u8], &[u8])]) -> Vec<u8> {
    [vec![0; 16], leaf(0, items)].concat()
}

/// What a first start leaves that failed.
pub(crate) fn unused() -> Vec<u8> {
    file(4096, [(1, true), (2, true)], &[(b"meta", &inline(&[]))])
}

fn read_bytes(bytes: &[u8]) -> Option<Database> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    fs::write(&path, bytes).unwrap();
    read(&path).unwrap()
}

#[test]
fn only_an_empty_meta_bucket_is_no_use() {
    let metas = [(1, true), (2, true)];
    let empty = inline(&[]);
    let index = inline(&[(b"consistent_index", &[0, 0, 0, 0, 0, 0, 0, 1])]);
    for size in [4096, 65536] {
        let used = |root: &[(&[u8], &[u8])]| read_bytes(&file(size, metas, root)).unwrap().used;
        assert!(!used(&[]));
        assert!(!used(&[(b"meta", &empty)]));
        assert!(used(&[(b"meta", &index)]));
        assert!(used(&[(b"key", &empty), (b"meta", &empty)]));
    }
}

#[test]
fn the_valid_meta_counts_and_damage_is_not_understood() {
    let cluster = inline(&[(b"clusterVersion", b"3.6.0")]);
    let root: [(&[u8], &[u8]); 1] = [(b"cluster", &cluster)];
    for metas in [[(1, true), (2, true)], [(1, true), (2, false)], [(3, false), (2, true)]] {
        let database = read_bytes(&file(4096, metas, &root)).unwrap();
        assert_eq!(database.cluster_version.as_deref(), Some("3.6.0"));
    }
    assert_eq!(read_bytes(&file(4096, [(1, false), (2, false)], &root)), None);
    assert_eq!(read_bytes(b""), None);
    let whole = file(4096, [(1, true), (2, true)], &root);
    assert_eq!(read_bytes(&whole[..3 * 4096]), None, "the root page is gone");
    let mut lost = whole;
    lost[3 * 4096] = 9;
    assert_eq!(read_bytes(&lost), None, "another page lies there");
}

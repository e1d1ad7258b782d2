use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::exit::Exit;
use crate::journal::Journal;
use crate::names::{DiskId, PodName};
use crate::observation::Pairing;
use crate::wal::real_etcd::etcds;

fn disk(etcd: Option<EtcdBinary>) -> Disk {
    let new = Journal::of_new_disk(DiskId::from("d"), PodName::from("etcd-0"), String::new(), String::new());
    let journal = JournalFile::Valid(Journal { etcd, ..new });
    Disk { wal: Wal::Absent, db: false, journal, pairing: Pairing::NotNeeded, misplaced_wal: None }
}

fn script(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("etcd");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn each_real_etcd_says_its_version() {
    for (version, etcd) in etcds() {
        let known = Binary::look(Some(&etcd), &disk(None)).known().await.unwrap().unwrap();
        assert!(version == "PATH" || known.version == version, "{version}: {known:?}");
        assert!(known.version.parse::<Minor>().is_ok());
    }
}

#[tokio::test]
async fn a_remembered_file_is_not_asked_and_another_is() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let program = script(dir.path(), &format!("echo asked >>{}; echo 'etcd Version: 3.6.16'", log.display()));
    let first = Binary::look(Some(&program), &disk(None)).known().await.unwrap();
    assert_eq!(first.as_ref().map(|etcd| etcd.version.as_str()), Some("3.6.16"));
    let mut again = Binary::look(Some(&program), &disk(first.clone()));
    assert!(again.is_known());
    assert_eq!(again.known().await.unwrap(), first);
    assert_eq!(fs::read_to_string(&log).unwrap(), "asked\n");
    let other = script(dir.path(), "echo 'etcd Version: 3.7.3'");
    let mut newer = Binary::look(Some(&other), &disk(first));
    assert!(!newer.is_known());
    assert_eq!(newer.known().await.unwrap().unwrap().version, "3.7.3");
}

#[tokio::test]
async fn what_cannot_be_executed_ends_and_what_says_nothing_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let mut missing = Binary::look(Some(&dir.path().join("missing")), &disk(None));
    missing.required = true;
    assert_eq!(missing.known().await.unwrap_err().exit, Exit::Exec);
    let mut elsewhere = Binary::look(Some(&dir.path().join("missing")), &disk(None));
    assert_eq!(elsewhere.known().await.unwrap(), None, "plan may run where no etcd is");
    for text in ["exit 1", "echo 3.6", "echo etcd"] {
        let mut silent = Binary::look(Some(&script(dir.path(), text)), &disk(None));
        assert_eq!(silent.known().await.unwrap(), None, "{text}");
        assert!(silent.is_known());
    }
}

#[tokio::test]
async fn of_an_etcd_in_another_container_nothing_is_known_whatever_was_here_before() {
    let before = EtcdBinary { version: "3.6.16".to_owned(), fingerprint: "1-2-3".to_owned() };
    let disk = disk(Some(before));
    let mut elsewhere = Binary::look(None, &disk);
    assert!(elsewhere.is_known());
    assert_eq!(elsewhere.known().await.unwrap(), None);
    let paths = Paths::locate(Path::new("/nowhere"), None).unwrap();
    assert_eq!(elsewhere.image(&paths, &disk).await.unwrap(), Image::default());
}

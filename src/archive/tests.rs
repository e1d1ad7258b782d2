//! Archives of one and of two volumes, interrupted at any place.

use super::*;
use crate::data_dir::Observer;
use crate::data_dir::tests::{journal, put_db, put_wal};
use crate::data_dir::{self};
use crate::journal::Journal;
use crate::journal_file;
use crate::names::DiskId;
use crate::observation::{Disk, JournalFile, Pairing, Wal};
use crate::wal::tests::sample;

const MEMBER: Option<MemberId> = Some(MemberId(0xa));
const CLUSTER: Option<ClusterId> = Some(ClusterId(0xb));

/// A member's volumes, with a pairing where there are two.
fn member(dir: &Path, two: bool) -> Paths {
    let wal_dir = two.then(|| dir.join("w/wal"));
    let paths = Paths::locate(&dir.join("data"), wal_dir.as_deref()).unwrap();
    data_dir::prepare(&paths).unwrap();
    put_wal(&paths.wal_dir, &sample());
    put_db(&paths.data_dir);
    let mut journal = journal();
    data_dir::pair(&paths, &mut journal).unwrap();
    journal_file::write(&paths.journal_dir, &journal).unwrap();
    paths
}

fn look(paths: &Paths) -> Disk {
    Observer::new(paths.clone()).observe().unwrap()
}

fn names(home: &Path) -> Vec<String> {
    children_of(home).unwrap().into_iter().filter_map(|name| name.into_string().ok()).collect()
}

#[test]
fn everything_is_moved_and_nothing_is_left() {
    for two in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let paths = member(dir.path(), two);
        assert_eq!(look(&paths).pairing, if two { Pairing::Matches } else { Pairing::NotNeeded });
        let archiving = begin(&paths, MEMBER, CLUSTER, false).unwrap();
        assert!(matches!(look(&paths).wal, Wal::Present(_)), "a plan changes nothing");
        finish(&archiving).unwrap();
        finish(&archiving).unwrap();
        let JournalFile::Valid(mut journal) = look(&paths).journal else { panic!() };
        journal.archive_begun(archiving);
        journal.archived();
        journal_file::write(&paths.journal_dir, &journal).unwrap();
        let disk = look(&paths);
        assert_eq!((disk.wal, disk.db, disk.pairing), (Wal::Absent, false, Pairing::NotNeeded));
        assert!(journal.was_member && journal.archiving.is_none());
        let old = paths.data_home.join("archive-b-a-1");
        assert!(old.join("member/snap/db").exists());
        let wal = if two { paths.journal_dir.join("archive-b-a-1/wal") } else { old.join("member/wal") };
        assert!(wal.join("0000000000000000-0000000000000000.wal").exists());
    }
}

#[test]
fn a_crash_between_any_two_steps_is_finished() {
    for two in [false, true] {
        for done in 0..=3 {
            let dir = tempfile::tempdir().unwrap();
            let paths = member(dir.path(), two);
            let archiving = begin(&paths, MEMBER, CLUSTER, false).unwrap();
            let JournalFile::Valid(mut journal) = look(&paths).journal else { panic!() };
            journal.archive_begun(archiving.clone());
            journal_file::write(&paths.journal_dir, &journal).unwrap();
            for (from, to) in archiving.moves.iter().take(done) {
                finish_move(from, to).unwrap();
            }
            // The next boot.
            let JournalFile::Valid(found) = look(&paths).journal else { panic!() };
            let archiving = found.archiving.clone().unwrap();
            finish(&archiving).unwrap();
            assert!(archiving.moves.iter().all(|(from, to)| !from.exists() && to.exists()), "{two} {done}");
        }
    }
}

#[test]
fn what_never_spoke_leaves_the_stage_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let paths = member(dir.path(), false);
    let mut journal = Journal { wal_seen: MEMBER, pairing_id: Some(DiskId::from("p")), ..journal() };
    journal.archive_begun(begin(&paths, MEMBER, CLUSTER, true).unwrap());
    assert_eq!(journal.wal_seen, None, "undone before anything is renamed");
    journal.archived();
    assert!(!journal.was_member && journal.pairing_id.is_none());
    journal.archived();
    let mut spoken = Journal { wal_seen: MEMBER, ..journal.clone() };
    spoken.archive_begun(begin(&paths, MEMBER, CLUSTER, false).unwrap());
    assert_eq!(spoken.wal_seen, MEMBER);
}

#[test]
fn one_generation_is_kept_once_the_new_one_is_safe() {
    let dir = tempfile::tempdir().unwrap();
    let paths = member(dir.path(), true);
    let archive = |never_spoke| {
        put_wal(&paths.wal_dir, &sample());
        put_db(&paths.data_dir);
        begin(&paths, MEMBER, CLUSTER, never_spoke).unwrap()
    };
    let first = archive(false);
    assert!(prune(&paths, &first).unwrap().is_empty());
    finish(&first).unwrap();
    let second = archive(false);
    assert!(prune(&paths, &second).unwrap().is_empty(), "the second is not there yet");
    assert!(names(&paths.data_home).contains(&"archive-b-a-1".to_owned()));
    finish(&second).unwrap();
    fs::create_dir(paths.data_home.join("archive-of-mine")).unwrap();
    assert_eq!(prune(&paths, &second).unwrap().len(), 2, "one on each volume");
    assert_eq!(names(&paths.data_home), ["archive-b-a-2", "archive-of-mine"]);
    // A WAL that never spoke is worth nothing, and must not cost the one that did.
    for number in 3..5 {
        let silent = archive(true);
        finish(&silent).unwrap();
        prune(&paths, &silent).unwrap();
        let silent = format!("archive-b-a-{number}-unspoken");
        assert_eq!(names(&paths.data_home), ["archive-b-a-2", silent.as_str(), "archive-of-mine"]);
    }
    let last = archive(false);
    finish(&last).unwrap();
    prune(&paths, &last).unwrap();
    assert_eq!(names(&paths.data_home), ["archive-b-a-5", "archive-of-mine"]);
}

#[test]
fn what_is_there_again_is_neither_overwritten_nor_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let paths = member(dir.path(), false);
    let archiving = begin(&paths, None, None, false).unwrap();
    finish(&archiving).unwrap();
    put_db(&paths.data_dir);
    let error = finish(&archiving).unwrap_err();
    assert_eq!(error.exit_code, 65);
    assert!(error.message.contains("is there again"), "{error}");
    assert!(paths.db().exists());
}

#[test]
fn what_is_left_of_a_loss_is_archived_too() {
    let dir = tempfile::tempdir().unwrap();
    let paths = member(dir.path(), true);
    fs::remove_dir_all(&paths.data_dir).unwrap();
    assert_eq!(look(&paths).pairing, Pairing::Broken);
    let archiving = begin(&paths, MEMBER, CLUSTER, false).unwrap();
    assert_eq!(archiving.moves.len(), 1);
    finish(&archiving).unwrap();
    let mut done = journal_file::update(&paths.journal_dir, |journal| {
        journal.archive_begun(archiving);
        journal.archived();
    });
    let journal = done.as_mut().unwrap().as_mut().unwrap();
    assert_eq!(look(&paths).pairing, Pairing::NotNeeded);
    assert!(data_dir::pair(&paths, journal).unwrap(), "the next first exec pairs anew");
    journal_file::write(&paths.journal_dir, journal).unwrap();
    assert_eq!(look(&paths).pairing, Pairing::Matches);
    // Nothing at all is left.
    let empty = Paths::locate(&dir.path().join("empty"), None).unwrap();
    let archiving = begin(&empty, None, None, false).unwrap();
    assert!(archiving.moves.is_empty());
    finish(&archiving).unwrap();
    assert!(prune(&empty, &archiving).unwrap().is_empty());
}

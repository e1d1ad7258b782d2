//! The disk's effects, killed at every point that they reach, and what the next boot makes of it.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use crate::archive;
use crate::data_dir::tests::{journal, put_db, put_wal, run_child};
use crate::data_dir::{self, Observer, Paths};
use crate::journal::{Archiving, Journal};
use crate::journal_file;
use crate::names::{ClusterId, MemberId};
use crate::observation::{Disk, JournalFile, Pairing, Wal};
use crate::wal::tests::sample;

fn paths(dir: &Path) -> Paths {
    Paths::locate(&dir.join("data"), Some(&dir.join("w/wal"))).unwrap()
}

fn look(dir: &Path) -> Disk {
    Observer::new(paths(dir)).observe().unwrap()
}

fn scenario_dir() -> Option<PathBuf> {
    std::env::var_os("TEST_VOLUMES").map(PathBuf::from)
}

/// A new disk up to the first exec: the journal, then the pairing.
fn first_boot(dir: &Path) {
    let paths = paths(dir);
    data_dir::prepare(&paths).unwrap();
    let mut journal = match look(dir).journal {
        JournalFile::Valid(journal) => journal,
        _ => {
            journal_file::write(&paths.journal_dir, &journal()).unwrap();
            journal()
        }
    };
    if data_dir::pair(&paths, &mut journal).unwrap() {
        journal_file::write(&paths.journal_dir, &journal).unwrap();
    }
}

/// An archive, from wherever it stands.
fn archive_member(dir: &Path) {
    let paths = paths(dir);
    let JournalFile::Valid(mut journal) = look(dir).journal else { panic!("torn") };
    if journal.archiving.is_none() && !journal.was_member {
        let planned = archive::begin(&paths, Some(MemberId(0xa)), Some(ClusterId(0xb)), false).unwrap();
        journal.archive_begun(planned);
        journal_file::write(&paths.journal_dir, &journal).unwrap();
    }
    if let Some(archiving) = journal.archiving.clone() {
        archive::finish(&archiving).unwrap();
        journal.archived();
        journal_file::write(&paths.journal_dir, &journal).unwrap();
        archive::prune(&paths, &archiving).unwrap();
    }
}

#[test]
#[ignore = "a child of a_crash_before_the_first_exec_loses_nothing"]
fn child_first_boot() {
    if let Some(dir) = scenario_dir() {
        first_boot(&dir);
    }
}

#[test]
#[ignore = "a child of an_archive_is_finished_after_any_crash"]
fn child_archive() {
    if let Some(dir) = scenario_dir() {
        archive_member(&dir);
    }
}

/// Runs the child once to its end to learn the points that it reaches, then once for each of them, killed there.
fn kill_at_each(child: &str, set_up: impl Fn(&Path), check: impl Fn(&Path, &str)) {
    let test = format!("failpoint::tests::{child}");
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("reached");
    set_up(dir.path());
    let variables = [("TEST_VOLUMES", dir.path()), ("ETCD_BOOTSTRAP_FAILPOINTS_LOG", log.as_path())];
    let done = run_child(&test, &[], &variables).unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    check(dir.path(), "no crash");
    let reached = std::fs::read_to_string(&log).unwrap();
    let mut times = BTreeMap::new();
    for name in reached.lines() {
        let time = times.entry(name).and_modify(|time| *time += 1).or_insert(1);
        let point = format!("{name}:{time}");
        let dir = tempfile::tempdir().unwrap();
        set_up(dir.path());
        let variables = [("TEST_VOLUMES", dir.path()), ("ETCD_BOOTSTRAP_FAILPOINT", Path::new(&point))];
        let done = run_child(&test, &[], &variables).unwrap();
        assert_eq!(done.status.signal(), Some(9), "{point}: {}", String::from_utf8_lossy(&done.stderr));
        check(dir.path(), &point);
    }
    println!("{child}: {} points, {} places", times.len(), reached.lines().count());
}

#[test]
fn a_crash_before_the_first_exec_loses_nothing() {
    kill_at_each(
        "child_first_boot",
        |_| (),
        |dir, point| {
            let disk = look(dir);
            assert!(matches!(disk.pairing, Pairing::NotNeeded | Pairing::Matches), "{point}: {disk:?}");
            assert!(matches!(disk.journal, JournalFile::Absent | JournalFile::Valid(_)), "{point}: {disk:?}");
            first_boot(dir);
            let disk = look(dir);
            assert_eq!(disk.pairing, Pairing::Matches, "{point}");
        },
    );
}

#[test]
fn an_archive_is_finished_after_any_crash() {
    let set_up = |dir: &Path| {
        first_boot(dir);
        let paths = paths(dir);
        // An older generation, which may only go once the new one is safe.
        for home in [&paths.journal_dir, &paths.data_home] {
            std::fs::create_dir_all(home.join("archive-1-2-1/old")).unwrap();
        }
        put_wal(&paths.wal_dir, &sample());
        put_db(&paths.data_dir);
    };
    kill_at_each("child_archive", set_up, |dir, point| {
        let paths = paths(dir);
        let count = |name: &str| {
            let homes = [&paths.journal_dir, &paths.data_home];
            homes.iter().filter(|home| home.join(name).exists()).count()
        };
        let JournalFile::Valid(Journal { archiving, was_member, .. }) = look(dir).journal else { panic!("{point}") };
        let unfinished =
            archiving.is_some_and(|archiving: Archiving| archiving.moves.iter().any(|(_, to)| !to.exists()));
        if !was_member {
            assert_eq!(count("archive-1-2-1"), 2, "{point}: unfinished {unfinished}");
        }
        archive_member(dir);
        let disk = look(dir);
        assert_eq!((&disk.wal, disk.db, disk.pairing), (&Wal::Absent, false, Pairing::NotNeeded), "{point}");
        let JournalFile::Valid(journal) = disk.journal else { panic!("{point}") };
        assert!(journal.was_member && journal.archiving.is_none() && journal.pairing_id.is_none(), "{point}");
        assert_eq!(count("archive-b-a-2"), 2, "{point}");
    });
}

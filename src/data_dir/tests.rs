//! Volumes as they may be found. What needs mounts or another user runs in a child: this test binary again, with
//! one of the ignored tests, below `unshare` where it has to be.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use super::*;
use crate::archive;
use crate::journal::EtcdBinary;
use crate::names::PodName;
use crate::wal::real_etcd::{Etcd, etcds};
use crate::wal::tests::{FIRST, Writer, sample};

pub(crate) fn journal() -> Journal {
    Journal::of_new_disk(DiskId::from("disk"), PodName::from("etcd-0"), "default".to_owned(), "etcd".to_owned())
}

pub(crate) fn look(data: &Path, wal: Option<&Path>) -> Result<Disk, DiskError> {
    Observer::new(Paths::locate(data, wal)?).observe()
}

pub(crate) fn put_wal(dir: &Path, writer: &Writer) {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join(FIRST), &writer.bytes).unwrap();
}

pub(crate) fn put_db(data: &Path) {
    fs::create_dir_all(data.join("member/snap")).unwrap();
    fs::write(data.join("member/snap/db"), "db").unwrap();
}

/// Runs one of the ignored tests of this binary elsewhere; false where this machine cannot.
pub(crate) fn run_child(test: &str, prefix: &[&str], variables: &[(&str, &Path)]) -> Option<std::process::Output> {
    let own = std::env::current_exe().unwrap();
    let mut words = prefix.to_vec();
    let own_text = own.to_str().unwrap().to_owned();
    words.extend([own_text.as_str(), "--exact", test, "--ignored", "--nocapture", "--test-threads=1"]);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).envs(variables.iter().copied());
    command.output().ok()
}

fn child_passes(test: &str, prefix: &[&str], dir: &Path) {
    let probe: Vec<&str> = prefix.iter().copied().chain(["true"]).collect();
    if !probe.is_empty() && !Command::new(probe[0]).args(&probe[1..]).output().is_ok_and(|done| done.status.success()) {
        eprintln!("SKIPPED {test}: `{}` does not work here", prefix.join(" "));
        return;
    }
    let done = run_child(test, prefix, &[("TEST_VOLUMES", dir)]).unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && text.contains("1 passed"), "{text}");
}

fn child_dir() -> Option<PathBuf> {
    std::env::var_os("TEST_VOLUMES").map(PathBuf::from)
}

#[test]
fn a_new_volume_is_blank_and_nothing_is_written_by_looking() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("volume/data");
    assert_eq!(look(&data, None).unwrap(), Disk::blank());
    assert!(!data.exists());
    let paths = Paths::locate(&data, None).unwrap();
    prepare(&paths).unwrap();
    assert_eq!(fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    fs::create_dir(data.join("lost+found")).unwrap();
    fs::create_dir_all(data.join("member/snap")).unwrap();
    fs::create_dir_all(data.join("member/wal.tmp")).unwrap();
    fs::write(data.join("member/wal.tmp").join(FIRST), "x").unwrap();
    assert_eq!(look(&data, None).unwrap(), Disk::blank());
}

#[test]
fn what_a_failed_first_start_leaves_is_no_loss_and_anything_more_is() {
    let dir = tempfile::tempdir().unwrap();
    put_db(dir.path());
    assert!(look(dir.path(), None).unwrap().db);
    fs::write(dir.path().join("member/snap/db"), crate::bolt::tests::unused()).unwrap();
    assert!(!look(dir.path(), None).unwrap().db);
    let snapshot = dir.path().join("member/snap/0000000000000002-000000000000000a.snap");
    for path in [snapshot.clone(), snapshot.with_extension("snap.db")] {
        fs::write(&path, "").unwrap();
        assert!(look(dir.path(), None).unwrap().db, "{}", path.display());
        fs::remove_file(&path).unwrap();
    }
    put_wal(&dir.path().join("member/wal"), &sample());
    assert!(look(dir.path(), None).unwrap().db, "beside a WAL it is a database");
}

#[test]
fn the_journal_lies_on_the_volume_of_the_wal() {
    let dir = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(dir.path()).unwrap();
    let data = root.join("data");
    let journal_dir = |wal: Option<PathBuf>| Paths::locate(&data, wal.as_deref()).unwrap().journal_dir;
    assert_eq!(journal_dir(None), data.join(".etcd-bootstrap"));
    assert_eq!(journal_dir(Some(data.join("wal"))), data.join(".etcd-bootstrap"));
    assert_eq!(journal_dir(Some(root.join("w/wal-0"))), root.join("w/.etcd-bootstrap-wal-0"));
    // Also where the way there is a symbolic link.
    fs::create_dir_all(root.join("other")).unwrap();
    fs::create_dir_all(&data).unwrap();
    symlink(root.join("other"), data.join("link")).unwrap();
    assert_eq!(journal_dir(Some(data.join("link/wal"))), root.join("other/.etcd-bootstrap-wal"));
}

#[test]
fn a_wal_dir_that_etcd_would_delete_something_in_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let wrong = [&data, dir.path(), &data.join("member"), &data.join(".etcd-bootstrap/wal"), Path::new("/")];
    for wal in wrong {
        let error = Paths::locate(&data, Some(wal)).unwrap_err();
        assert_eq!(error.exit_code, 78, "{}", wal.display());
    }
    // etcd replaces a link by a directory where it makes a WAL, and follows it where there is one.
    let real = dir.path().join("real");
    let link = dir.path().join("link");
    fs::create_dir(&real).unwrap();
    symlink(&real, &link).unwrap();
    let error = look(&data, Some(&link)).unwrap_err();
    assert_eq!(error.exit_code, 78);
    assert!(error.message.contains("symbolic link"), "{error}");
    put_wal(&real, &sample());
    assert!(matches!(look(&data, Some(&link)).unwrap().wal, Wal::Present(_)));
}

#[test]
fn a_wal_elsewhere_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let root = fs::canonicalize(dir.path()).unwrap();
    let (data, elsewhere) = (root.join("data"), root.join("w/wal"));
    put_wal(&data.join("member/wal"), &sample());
    assert_eq!(look(&data, Some(&elsewhere)).unwrap().misplaced_wal, Some(data.join("member/wal")));
    assert_eq!(look(&data, None).unwrap().misplaced_wal, None);
    // With a WAL in both places etcd takes the one that is set.
    put_wal(&elsewhere, &sample());
    assert_eq!(look(&data, Some(&elsewhere)).unwrap().misplaced_wal, None);
    // The other way round: the pairing knows where the WAL was.
    let data = root.join("data2");
    let paths = Paths::locate(&data, Some(&elsewhere)).unwrap();
    let mut journal = journal();
    assert!(pair(&paths, &mut journal).unwrap());
    assert_eq!(look(&data, None).unwrap().misplaced_wal, Some(elsewhere));
    let inside = root.join("data3");
    put_wal(&inside.join("wal"), &sample());
    assert_eq!(look(&inside, None).unwrap().misplaced_wal, Some(inside.join("wal")));
}

#[test]
fn a_changed_setting_is_told_from_a_lost_volume() {
    let dir = tempfile::tempdir().unwrap();
    let (data, wal) = (dir.path().join("data"), dir.path().join("w/wal"));
    // The journal of a member whose WAL was archived: not a new disk because --wal-dir now points elsewhere.
    journal_file::write(&data.join(OWN_DIR), &journal()).unwrap();
    let error = look(&data, Some(&wal)).unwrap_err();
    assert_eq!(error.exit_code, 78);
    assert!(error.message.contains("journal"), "{error}");
    let data = dir.path().join("data2");
    pair(&Paths::locate(&data, Some(&wal)).unwrap(), &mut journal()).unwrap();
    let error = look(&data, None).unwrap_err();
    assert!(error.exit_code == 78 && error.message.contains("the settings say"), "{error}");
}

#[test]
fn two_volumes_are_paired_and_a_lost_half_is_seen_after_any_crash() {
    let dir = tempfile::tempdir().unwrap();
    let (data, wal) = (dir.path().join("data"), dir.path().join("w/wal"));
    let paths = Paths::locate(&data, Some(&wal)).unwrap();
    let pairing = || look(&data, Some(&wal)).unwrap().pairing;
    let mut journal = journal();
    journal_file::write(&paths.journal_dir, &journal).unwrap();
    assert_eq!(pairing(), Pairing::NotNeeded);
    assert!(pair(&paths, &mut journal).unwrap());
    assert_eq!(pairing(), Pairing::NotNeeded, "a crash before the journal's half");
    assert!(pair(&paths, &mut Journal { pairing_id: None, ..journal.clone() }).unwrap());
    assert_eq!(pairing(), Pairing::NotNeeded, "and again");
    journal.pairing_id = None;
    pair(&paths, &mut journal).unwrap();
    journal_file::write(&paths.journal_dir, &journal).unwrap();
    assert_eq!(pairing(), Pairing::Matches);
    assert!(!pair(&paths, &mut journal).unwrap(), "it is done once");
    // Either volume is lost, or exchanged.
    let half = fs::read(paths.pairing_file()).unwrap();
    fs::remove_file(paths.pairing_file()).unwrap();
    assert_eq!(pairing(), Pairing::Broken, "the data volume is lost");
    fs::write(paths.pairing_file(), "nonsense").unwrap();
    assert_eq!(pairing(), Pairing::Broken, "it is damaged");
    fs::write(paths.pairing_file(), &half).unwrap();
    fs::remove_dir_all(&paths.journal_dir).unwrap();
    assert_eq!(pairing(), Pairing::Broken, "the WAL's volume is lost");
    let other = Journal { disk_id: DiskId::from("other"), pairing_id: None, ..journal.clone() };
    journal_file::write(&paths.journal_dir, &other).unwrap();
    assert_eq!(pairing(), Pairing::Broken, "a new one is in its place");
    let other = Journal { pairing_id: Some(DiskId::from("other")), ..other };
    journal_file::write(&paths.journal_dir, &other).unwrap();
    assert_eq!(pairing(), Pairing::Broken, "another pod's is");
    // One volume needs none of this.
    let mut journal = Journal { pairing_id: None, ..journal };
    assert!(!pair(&Paths::locate(&dir.path().join("one"), None).unwrap(), &mut journal).unwrap());
}

#[test]
fn what_etcd_would_miss_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let missing = |data: &Path| match look(data, None).unwrap().wal {
        Wal::Present(facts) => facts.missing,
        other => panic!("{other:?}"),
    };
    // No snapshot yet: etcd makes the db anew out of the log.
    let data = dir.path().join("young");
    put_wal(&data.join("member/wal"), &sample());
    assert_eq!(missing(&data), None);
    let mut writer = sample();
    writer.snapshot(10, 2);
    put_wal(&data.join("member/wal"), &writer);
    assert!(missing(&data).unwrap().contains("a snapshot at index 10, and `"));
    // A snapshot that a leader sent will become the db.
    fs::create_dir_all(data.join("member/snap")).unwrap();
    fs::write(data.join("member/snap/000000000000000a.snap.db"), "db").unwrap();
    assert_eq!(missing(&data), None);
    put_db(&data);
    assert_eq!(missing(&data), None);
    // The first segment was thrown away.
    let data = dir.path().join("old");
    let mut later = Writer::with_head(7, 8);
    later.state(2, 900);
    fs::create_dir_all(data.join("member/wal")).unwrap();
    fs::write(data.join("member/wal/0000000000000002-00000000000003e8.wal"), &later.bytes).unwrap();
    assert!(missing(&data).unwrap().contains("thrown away"));
    put_db(&data);
    assert_eq!(missing(&data), None, "3.7 can do without .snap files, and nobody knows the version");
    let etcd = |version: &str| EtcdBinary { version: version.to_owned(), fingerprint: String::new() };
    for (version, is_missing) in [("3.7.3", false), ("3.6.16", true), ("3.4.23", true)] {
        let journal = Journal { etcd: Some(etcd(version)), ..journal() };
        journal_file::write(&data.join(OWN_DIR), &journal).unwrap();
        assert_eq!(missing(&data).is_some(), is_missing, "{version}");
    }
    fs::write(data.join("member/snap/0000000000000002-00000000000003e0.snap"), "snap").unwrap();
    assert_eq!(missing(&data), None);
}

#[test]
fn real_etcds_fail_where_something_is_said_to_be_missing() {
    for (version, etcd) in etcds() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let mut running = Etcd::start(&etcd, &data, &["--snapshot-count", "5"]).expect(&version);
        (0..12).for_each(|_| running.put("dmFsdWU="));
        running.kill();
        let disk = look(&data, None).unwrap();
        assert!(disk.db && matches!(&disk.wal, Wal::Present(facts) if facts.missing.is_none()), "{version}: {disk:?}");
        fs::remove_file(data.join("member/snap/db")).unwrap();
        let disk = look(&data, None).unwrap();
        assert!(!disk.db && matches!(&disk.wal, Wal::Present(facts) if facts.missing.is_some()), "{version}: {disk:?}");
        assert!(Etcd::start(&etcd, &data, &[]).is_none(), "{version}");
    }
}

#[test]
fn a_wal_that_etcd_may_have_died_of_is_read_wholly_and_only_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let wal = data.join("member/wal");
    let mut writer = Writer::with_head(7, 8);
    (1..=6000).for_each(|index| writer.entry(2, index, &[b'v'; 700]));
    let middle = writer.frames[3000] + 60;
    writer.bytes[middle] ^= 1;
    put_wal(&wal, &writer);
    let mut observer = Observer::new(Paths::locate(&data, None).unwrap());
    assert!(matches!(observer.observe().unwrap().wal, Wal::Present(_)));
    // A journal that is younger than the last byte in the WAL: etcd was started, and wrote nothing.
    std::thread::sleep(std::time::Duration::from_millis(20));
    journal_file::write(&data.join(OWN_DIR), &journal()).unwrap();
    assert!(matches!(observer.observe().unwrap().wal, Wal::Present(_)), "what was read is not read again");
    assert!(matches!(look(&data, None).unwrap().wal, Wal::Unreadable { .. }));
    std::thread::sleep(std::time::Duration::from_millis(20));
    put_wal(&wal, &writer);
    assert!(matches!(look(&data, None).unwrap().wal, Wal::Present(_)));
    journal_file::update(&data.join(OWN_DIR), |journal| journal.unconfirmed_starts = 1).unwrap();
    put_wal(&wal, &writer);
    assert!(matches!(look(&data, None).unwrap().wal, Wal::Unreadable { .. }));
    assert!(matches!(observer.observe().unwrap().wal, Wal::Unreadable { .. }), "the WAL has changed");
}

#[test]
fn a_file_where_a_directory_should_be_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::write(&data, "x").unwrap();
    let error = look(&data, None).unwrap_err();
    assert_eq!(error.exit_code, 78, "{error}");
    assert!(error.hint.contains("--data-dir"), "{}", error.hint);
    fs::remove_file(&data).unwrap();
    fs::create_dir_all(data.join("member")).unwrap();
    fs::write(data.join("member/wal"), "x").unwrap();
    assert_eq!(look(&data, None).unwrap_err().exit_code, 78);
}

#[test]
fn another_user_is_told_who_may_write() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root can become somebody else");
        return;
    }
    // The binary may lie where the other user cannot go.
    let own = dir.path().join("test-binary");
    fs::copy(std::env::current_exe().unwrap(), &own).unwrap();
    let data = dir.path().join("data");
    prepare(&Paths::locate(&data, None).unwrap()).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
    let done = std::os::unix::process::CommandExt::uid(&mut Command::new(&own), 65534)
        .args(["--exact", "data_dir::tests::child_of_another_user", "--ignored", "--nocapture"])
        .env("TEST_VOLUMES", &data)
        .current_dir("/")
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}

#[test]
#[ignore = "a child of another_user_is_told_who_may_write"]
fn child_of_another_user() {
    let Some(data) = child_dir() else { return };
    let paths = Paths::locate(&data, None).unwrap();
    let error = prepare(&paths).unwrap_err();
    assert_eq!(error.exit_code, 78);
    assert!(error.message.contains("this process is user 65534"), "{error}");
    assert!(error.message.contains("is of 0:0, mode 0755"), "{error}");
    assert!(error.hint.contains("fsGroup"), "{}", error.hint);
    // The journal's directory is of mode 0700: what is in it cannot be known, and must not count as nothing.
    assert_eq!(look(&data, None).unwrap_err().exit_code, 78);
}

#[test]
fn mounts_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    child_passes("data_dir::tests::child_with_mounts", &["unshare", "--mount"], dir.path());
}

fn mount(options: &[&str], place: &Path) {
    fs::create_dir_all(place).unwrap();
    assert!(Command::new("mount").args(options).arg(place).status().unwrap().success(), "{}", place.display());
}

#[test]
#[ignore = "a child of mounts_are_told_apart"]
fn child_with_mounts() {
    let Some(dir) = child_dir() else { return };
    let dir = fs::canonicalize(dir).unwrap();

    // A WAL directory that is a mount root, on another file system or on the same one.
    let tmpfs = dir.join("tmpfs");
    mount(&["-t", "tmpfs", "tmpfs"], &tmpfs);
    let error = Paths::locate(&dir.join("data"), Some(&tmpfs)).unwrap_err();
    assert!(error.exit_code == 78 && error.hint.contains("/tmpfs/wal"), "{error}: {}", error.hint);
    let bound = dir.join("bound");
    fs::create_dir(dir.join("source")).unwrap();
    mount(&["--bind", dir.join("source").to_str().unwrap()], &bound);
    assert_eq!(Paths::locate(&dir.join("data"), Some(&bound)).unwrap_err().exit_code, 78);

    // A volume below the data directory, of the same file system: a rename there fails, so it is another volume.
    let data = dir.join("data");
    mount(&["--bind", dir.join("source").to_str().unwrap()], &data.join("w"));
    let paths = Paths::locate(&data, Some(&data.join("w/wal"))).unwrap();
    assert_eq!((&paths.journal_dir, paths.are_two_volumes()), (&data.join("w/.etcd-bootstrap-wal"), true));
    put_wal(&paths.wal_dir, &sample());
    put_db(&data);
    let archiving = archive::begin(&paths, None, None, false).unwrap();
    archive::finish(&archiving).unwrap();
    assert!(!paths.wal_dir.exists() && !paths.member_dir.exists());
    assert!(data.join("w/.etcd-bootstrap-wal/archive-unknown-unknown-1/wal").join(FIRST).exists());
    assert!(data.join(".etcd-bootstrap/archive-unknown-unknown-1/member/snap/db").exists());

    // Only `member` is a volume.
    let data = dir.join("data-member");
    mount(&["-t", "tmpfs", "tmpfs"], &data.join("member"));
    let paths = Paths::locate(&data, None).unwrap();
    assert_eq!((&paths.journal_dir, paths.are_two_volumes()), (&data.join("member/.etcd-bootstrap"), false));
    put_wal(&paths.wal_dir, &sample());
    put_db(&data);
    journal_file::write(&paths.journal_dir, &journal()).unwrap();
    archive::finish(&archive::begin(&paths, None, None, false).unwrap()).unwrap();
    assert!(data.join("member/.etcd-bootstrap/archive-unknown-unknown-1/member/wal").join(FIRST).exists());
    assert!(matches!(
        look(&data, None).unwrap(),
        Disk { wal: Wal::Absent, db: false, journal: JournalFile::Valid(_), .. }
    ));

    // A volume below `member`: renamed along, it would be gone from its place.
    let data = dir.join("data-snap");
    mount(&["-t", "tmpfs", "tmpfs"], &data.join("member/snap"));
    let error = archive::begin(&Paths::locate(&data, None).unwrap(), None, None, false).unwrap_err();
    assert!(error.exit_code == 78 && error.message.contains("mounted at"), "{error}");

    // A full volume: the old journal stays.
    let data = dir.join("full");
    mount(&["-t", "tmpfs", "-o", "size=64k", "tmpfs"], &data);
    let paths = Paths::locate(&data, None).unwrap();
    prepare(&paths).unwrap();
    journal_file::write(&paths.journal_dir, &journal()).unwrap();
    let mut filler = fs::File::create(data.join("filler")).unwrap();
    while std::io::Write::write_all(&mut filler, &[1; 512]).is_ok() {}
    let error = journal_file::write(&paths.journal_dir, &Journal { was_member: true, ..journal() }).unwrap_err();
    assert!(error.exit_code == 65 && error.hint.contains("full"), "{error}: {}", error.hint);
    assert_eq!(journal_file::read(&paths.journal_dir).unwrap(), JournalFile::Valid(journal()));
    assert!(!paths.journal_dir.join("journal.tmp").exists());

    drop(filler);

    // A read-only volume can be looked at, and not be prepared.
    mount(&["-o", "remount,ro"], &data);
    assert!(look(&data, None).is_ok());
    let error = prepare(&paths).unwrap_err();
    assert!(error.exit_code == 65 && error.hint.contains("read-only"), "{error}: {}", error.hint);
    let error = journal_file::write(&paths.journal_dir, &journal()).unwrap_err();
    assert!(error.exit_code == 65 && error.hint.contains("read-only"), "{error}: {}", error.hint);
}

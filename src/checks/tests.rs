//! What is found, and what `run` would end with.

use super::*;
use crate::decide::tests::{ADDED, OTHER, Row, founder, learner, planned, pod, row, static_id, unstarted, url, voter};
use crate::intent::State;
use crate::observation::{
    DnsFailure, JournalFile, Kind, ListFailure, OwnName, Pairing, PeerView, Resolution, ServiceRecords, Silence, Wal,
};

/// The findings of a row, with these flags of etcd and these volumes.
fn found_with(row: &Row, flags: &[&str], volumes: Volumes) -> Vec<Finding> {
    let decision = row.decide();
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    findings(&Facts {
        intent: &row.intent,
        etcd: &EtcdSettings::from_args(&flags).unwrap(),
        settings_warnings: &[],
        program: None,
        decision: volumes.problem.is_none().then_some(&decision),
        volumes,
        seen: &row.seen,
    })
}

fn found(row: &Row) -> Vec<Finding> {
    found_with(row, &[], Volumes::default())
}

/// The one finding with this text in it; the decision's, which sums up, only where no other has it.
#[track_caller]
fn one<'a>(findings: &'a [Finding], part: &str) -> &'a Finding {
    let mut with: Vec<&Finding> = findings.iter().filter(|finding| finding.what.contains(part)).collect();
    if with.len() > 1 {
        with.retain(|finding| finding.topic != Topic::Decision);
    }
    assert!(with.len() == 1, "{part:?}: {findings:#?}");
    with[0]
}

/// It is a warning with this fix, and etcd would start all the same.
#[track_caller]
fn warns(findings: &[Finding], what: &str, fix: &str) {
    let finding = one(findings, what);
    assert!(finding.severity == Severity::Warning && finding.fix.contains(fix), "{finding:?}");
    assert_eq!(exit_code(findings), 0, "{findings:#?}");
}

/// It is what `run` would end with.
#[track_caller]
fn fails(findings: &[Finding], code: u8, what: &str, fix: &str) {
    let finding = one(findings, what);
    assert!(finding.severity == Severity::Error { exit_code: code } && finding.fix.contains(fix), "{finding:?}");
    assert_eq!(exit_code(findings), code, "{findings:#?}");
}

/// A member of three that comes back, with a leader.
fn healthy() -> Row {
    let members = [founder(0), founder(1), founder(2)];
    row(2, 3).wal(static_id(2)).led(&[0, 1, 2], planned(3), &members)
}

/// A first boot whose last pod is missing.
fn waiting() -> Row {
    row(0, 3).says(1, Kind::Blank)
}

#[test]
fn nothing_is_wrong_with_a_healthy_member() {
    let findings = found(&healthy());
    assert!(findings.iter().all(|finding| finding.severity == Severity::Ok), "{findings:#?}");
    let topics: Vec<Topic> = findings.iter().map(|finding| finding.topic).collect();
    use Topic::{Decision, Disk, Dns, Membership, Peers, Settings};
    assert_eq!(topics, [Settings, Disk, Dns, Peers, Peers, Membership, Decision]);
    assert_eq!(one(&findings, "3 voters").what, "3 voters, 3 run: 1 of them may fail");
    assert_eq!(exit_code(&findings), 0);
    assert!(findings[0].to_string().starts_with("ok       settings    pod etcd-2 of 3 initial members"));
}

#[test]
fn settings_that_give_up_safety() {
    let flags = |flags: &[&str]| found_with(&healthy(), flags, Volumes::default());
    warns(&flags(&["--strict-reconfig-check=false"]), "--strict-reconfig-check=false", "out of the template");
    warns(&flags(&["--unsafe-no-fsync=true"]), "acknowledged writes", "out of the template");
    assert_eq!(exit_code(&flags(&["--strict-reconfig-check=true"])), 0);
    let new = healthy().intent(|intent| intent.state = State::New);
    warns(&found(&new), "BOOTSTRAP_STATE=new", "out of the template");
    let members = [founder(0), founder(1)];
    let two = row(1, 2).wal(static_id(1)).led(&[0, 1], planned(2), &members);
    warns(&found(&two), "2 initial members survive no more failures than 1", "use 3");
    warns(&found(&two), "2 voters, 2 run: none", "scale to three");
    let forced = healthy().intent(|intent| intent.force_new_cluster = true);
    warns(&found(&forced), "all other members are forgotten", "once the pod has started");
}

#[test]
fn a_disk_that_cannot_be_used_ends_it_before_any_decision() {
    let problem = Problem { exit_code: 65, message: "failed to read `/data`".to_owned(), hint: "look".to_owned() };
    let findings = found_with(&healthy(), &[], Volumes { problem: Some(problem), ..Volumes::default() });
    fails(&findings, 65, "failed to read", "look");
    assert!(findings.iter().all(|finding| finding.topic != Topic::Decision));
    one(&findings, "3 voters");
}

#[test]
fn what_was_lost_is_replaced_where_a_leader_is() {
    let unreadable = Wal::Unreadable { path: "/data/w".into(), reason: "zeros".to_owned() };
    warns(&found(&healthy().seen(|seen| seen.disk.wal = unreadable.clone())), "cannot be read: zeros", "replaced");
    let alone = row(2, 3).seen(|seen| seen.disk.wal = unreadable.clone()).silent(0).silent(1);
    fails(&found(&alone), 75, "run would wait", "bring up");
    warns(&found(&healthy().seen(|seen| seen.disk.wal = Wal::Absent)), "a database, and no WAL", "replaced");
    warns(&found(&healthy().seen(|seen| seen.disk.pairing = Pairing::Broken)), "lost or exchanged", "volumes");
    let torn = JournalFile::Torn("crc".to_owned());
    warns(&found(&healthy().seen(|seen| seen.disk.journal = torn)), "never founds", "leader");
    warns(&found(&healthy().journal(|journal| journal.unconfirmed_starts = 3)), "3 times", "log");
    let misplaced = healthy().seen(|seen| seen.disk.misplaced_wal = Some("/data/wal".into()));
    fails(&found(&misplaced), 78, "/data/wal", "--wal-dir");
}

#[test]
fn room_and_what_was_put_aside() {
    let space = |free_bytes, kept| {
        let spaces = vec![Space { path: "/data".into(), free_bytes, kept }];
        found_with(&healthy(), &[], Volumes { spaces, ..Volumes::default() })
    };
    warns(&space(1 << 20, Kept::Mounted), "has 1 MiB left", "enlarge");
    warns(&space(1 << 40, Kept::WithContainer), "on no volume", "PersistentVolumeClaim");
    warns(&space(1 << 40, Kept::InMemory), "in memory", "PersistentVolumeClaim");
    assert_eq!(space(1 << 40, Kept::Mounted), found(&healthy()));
    let archives = BTreeMap::from([(PathBuf::from("/data/archive-1"), 5 << 20)]);
    let findings = found_with(&healthy(), &[], Volumes { archives, ..Volumes::default() });
    let archive = one(&findings, "/data/archive-1");
    assert!(archive.severity == Severity::Ok && archive.what.ends_with("5 MiB"), "{archive:?}");
}

#[test]
fn names_that_are_not_published() {
    let absent = OwnName::No(DnsFailure::NxDomain);
    let unpublished = waiting().silent(2).seen(|seen| seen.dns.own = absent.clone());
    fails(&found(&unpublished), 75, "does not resolve", "publishNotReadyAddresses: true");
    // etcd starts on its data, whatever its name says.
    warns(&found(&healthy().seen(|seen| seen.dns.own = absent)), "does not resolve", "serviceName");
    let failed = OwnName::No(DnsFailure::ServerFailed("SERVFAIL".to_owned()));
    warns(&found(&healthy().seen(|seen| seen.dns.own = failed)), "SERVFAIL", "port 53");
    let elsewhere = OwnName::Elsewhere(vec!["10.0.0.9".parse().unwrap()]);
    warns(&found(&healthy().seen(|seen| seen.dns.own = elsewhere)), "10.0.0.9, which is not this pod", "second pod");
    let none = ServiceRecords::Failed(DnsFailure::NxDomain);
    warns(&found(&healthy().seen(|seen| seen.dns.service = none)), "has no records", "headless");
    let some = ServiceRecords::Pods([pod(2)].into());
    warns(&found(&healthy().seen(|seen| seen.dns.service = some)), "etcd-0, etcd-1", "start those pods");
}

#[test]
fn addresses_that_are_not_the_pods() {
    let address = || Resolution::Addresses(vec!["10.0.0.7".parse().unwrap()]);
    let shared = healthy().seen(|seen| seen.dns.hosts.extend([(url(0).host, address()), (url(1).host, address())]));
    warns(&found(&shared), "etcd-0, etcd-1 all resolve to 10.0.0.7", "headless");
    let stale = Silence::SomebodyElse { address: "10.0.0.7:2380".to_owned(), found: "another pod".to_owned() };
    warns(&found(&healthy().answer(1, PeerView::Silent(stale))), "a stale DNS record", "forget");
}

#[test]
fn a_silent_peer_matters_where_it_is_waited_for() {
    fails(&found(&waiting().silent(2)), 75, "etcd-2: connection refused at 10.0.0.2:2380", "log");
    fails(&found(&waiting().no_record(2)), 75, "etcd-2: no DNS record (NXDOMAIN)", "scheduled");
    warns(&found(&healthy().silent(0)), "etcd-0: connection refused", "log");
    let timed_out = PeerView::Silent(Silence::TimedOut("10.0.0.2:2380".to_owned()));
    fails(&found(&waiting().answer(2, timed_out)), 75, "etcd-2: no answer", "NetworkPolicies");
}

#[test]
fn peers_that_reject_this_pod() {
    let tls = Silence::Tls { address: "10.0.0.2:2380".to_owned(), reason: "bad certificate".to_owned() };
    fails(&found(&waiting().answer(2, PeerView::Silent(tls))), 77, "bad certificate", "CAs");
}

#[test]
fn peers_that_want_something_else() {
    let mut other = row(1, 5);
    other.intent.plan.token = "other".to_owned();
    let said = other.statement(2, Kind::Blank, "theirs");
    fails(&found(&waiting().answer(2, PeerView::Waiting(said))), 75, "another plan", "rollout");
    let foreign = healthy().runs(1, OTHER, None);
    warns(&found(&foreign), "etcd-1 runs etcd, cluster bad: it has no leader", "majority");
    warns(&found(&foreign), "the peers run different clusters", "find out");
    let two = row(2, 3).runs(0, planned(3), None).runs(1, OTHER, None);
    fails(
        &found(&two.seen(|seen| seen.since.foreign = std::time::Duration::ZERO)),
        69,
        "different clusters: etcd-0",
        "",
    );
}

#[test]
fn voters_without_a_pod_and_other_urls() {
    let mut members = vec![founder(0), founder(1), founder(2), voter(3, ADDED)];
    let gone = row(2, 3).wal(static_id(2)).led(&[0, 1, 2], planned(3), &members).no_record(3);
    warns(&found(&gone), "(etcd-3) has no pod", "etcdctl member remove 1001");
    warns(&found(&gone), "4 voters, 3 run: none", "bring back etcd-3");
    members.truncate(3);
    members[2].peer_urls = vec!["https://etcd-2.etcd.test.svc:2380".to_owned()];
    let moved = row(2, 3).wal(static_id(2)).led(&[0, 1, 2], planned(3), &members);
    warns(&found(&moved), "but advertises http://", "etcdctl member update");
}

#[test]
fn members_that_are_not_there_yet() {
    let with = |member| {
        let members = [founder(0), founder(1), founder(2), member];
        found(&row(2, 3).wal(static_id(2)).led(&[0, 1, 2], planned(3), &members))
    };
    warns(&with(learner(voter(3, ADDED))), "is a learner", "etcd-bootstrap promote");
    warns(&with(unstarted(3, ADDED)), "has never started", "etcdctl member remove 1001");
}

#[test]
fn etcd_that_denies_it() {
    let denied = healthy().seen(|seen| {
        for answer in seen.peers.values_mut() {
            if let PeerView::Etcd(etcd) = &mut answer.view {
                etcd.list = Err(ListFailure::Denied("invalid auth token".to_owned()));
            }
        }
    });
    let findings = found(&denied);
    assert!(findings.iter().any(|finding| finding.fix.contains("BOOTSTRAP_PASSWORD_FILE")), "{findings:#?}");
    assert_eq!(exit_code(&findings), 0, "a member with data starts");
}

#[test]
fn what_ends_run_first_is_the_exit_code() {
    let error = |exit_code| Finding { severity: Severity::Error { exit_code }, ..Finding::ok(Topic::Peers, "") };
    assert_eq!(exit_code(&[]), 0);
    assert_eq!(exit_code(&[error(75), error(69), error(78)]), 69);
    assert_eq!(exit_code(&[error(75)]), 75);
}

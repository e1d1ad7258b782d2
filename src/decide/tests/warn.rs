//! What an operator is told beside the decision.

use super::*;

#[track_caller]
fn warns(row: &Row, part: &str) {
    let warnings = row.decide().warnings;
    assert!(warnings.iter().any(|warning| warning.to_string().contains(part)), "{warnings:#?}");
}

#[test]
fn what_a_setting_gives_up() {
    warns(&row(2, 3).intent(|intent| intent.state = State::New), "take it out of the template");
    assert_eq!(row(2, 3).decide().warnings, Vec::new());
    // A pod that is held says the same.
    let ready = row(2, 3).intent(|intent| intent.state = State::New).prepared().says_prepared(0).says_prepared(1);
    warns(&ready, "take it out of the template");
    let held = ready.intent(|intent| intent.hold = true);
    held.waits(Rule::Hold);
    warns(&held, "take it out of the template");
}

#[test]
fn a_founder_that_is_alone() {
    warns(&row(0, 1), "the Kubernetes API has not told");
    warns(&row(0, 1).prepared(), "the Kubernetes API has not told");
    assert!(row(0, 1).seen(|seen| seen.pods_wanted = claims(&[0])).decide().warnings.is_empty());
    assert!(row(1, 1).decide().warnings.is_empty());
}

#[test]
fn voters_without_a_pod() {
    let members = [founder(0), founder(1), founder(2), voter(3, ADDED), learner(voter(4, LATER))];
    let row = row(2, 3).wal(static_id(2)).led(&[0, 1], planned(3), &members).no_record(3).no_record(4);
    warns(&row, "etcdctl member remove 1001");
    assert_eq!(row.decide().warnings.len(), 1);
    // A server that failed says nothing about the record.
    let failed = Resolution::Failed(DnsFailure::ServerFailed("SERVFAIL".to_owned()));
    let unknown = row.seen(|seen| drop(seen.dns.hosts.insert(url(3).host, failed)));
    assert!(unknown.decide().warnings.is_empty());
}

#[test]
fn an_own_url_that_differs() {
    let mut members = [founder(0), founder(1), founder(2)];
    members[2].peer_urls = vec!["https://etcd-2.etcd.test.svc:2380".to_owned()];
    let row = row(2, 3).wal(static_id(2)).led(&[0, 1], planned(3), &members);
    let update = format!("etcdctl member update {} --peer-urls=http://etcd-2.etcd.test.svc:2380", static_id(2));
    warns(&row, &update);
}

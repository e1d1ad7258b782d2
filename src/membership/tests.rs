//! Against real etcds of every version.

use std::process::Command;
use std::time::Duration;

use tokio::net::TcpListener;

use super::*;
use crate::etcd::testing::{self, Binary, Etcd, LOCAL, binaries};
use crate::settings::Credentials;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn writer<'a>(cluster_id: ClusterId, endpoints: &'a [Endpoint], access: &'a Access) -> Writer<'a> {
    Writer { cluster_id, endpoints, access, deadline: soon() }
}

fn new_url() -> Vec<Url> {
    vec![format!("http://127.0.0.1:{}", testing::free_port()).parse().unwrap()]
}

/// Sends the call without the look at the list that would prevent it.
async fn unchecked<T>(
    etcd: &Etcd,
    access: &Access,
    call: impl AsyncFn(Client) -> Result<T, Error>,
) -> Result<T, CallFailure> {
    let connection = Connection::open(&etcd.endpoint(), access, soon()).await?;
    connection.call(soon(), call(connection.client())).await
}

#[tokio::test]
async fn one_voter_adds_removes_and_refuses() {
    for binary in binaries() {
        let members = testing::running_cluster(&binary, 1).await;
        let access = Access::default();
        let list = members[0].list(&access).await;
        let endpoints = [members[0].endpoint()];
        let writer = || writer(list.cluster_id, &endpoints, &access);
        let (url, other_url) = (new_url(), new_url());
        let learner = writer().add(&url, JoinAs::Learner, 1).await.unwrap();
        assert_eq!((learner.members.len(), learner.answered_by), (2, list.answered_by), "{binary:?}");
        assert!(!learner.members.iter().any(|member| member.id == learner.member_id && !member.is_learner));
        assert_eq!(writer().add(&url, JoinAs::Learner, 1).await, Err(CallFailure::UrlExists));
        assert_eq!(writer().add(&url, JoinAs::Voter, 1).await, Err(CallFailure::UrlExists));
        // Not sent, and etcd's own answer where it is.
        for learners_max in [1, 2] {
            let refused = writer().add(&other_url, JoinAs::Learner, learners_max).await;
            assert_eq!(refused, Err(CallFailure::TooManyLearners), "{binary:?}");
        }
        assert_eq!(writer().promote(learner.member_id).await, Err(CallFailure::NotInSync), "{binary:?}");
        assert_eq!(writer().promote(list.leader).await, Err(CallFailure::NotLearner));
        assert_eq!(writer().promote(MemberId(1)).await, Err(CallFailure::NotFound));
        assert_eq!(writer().remove(MemberId(1)).await, Err(CallFailure::NotFound));
        assert_eq!(writer().remove_learner(MemberId(1)).await, Err(CallFailure::NotFound));
        assert_eq!(writer().remove_learner(list.leader).await, Err(CallFailure::NotLearner));
        assert_eq!(writer().remove_learner(learner.member_id).await.map(|left| left.len()), Ok(1));
        let voter = writer().add(&other_url, JoinAs::Voter, 1).await.unwrap();
        assert!(!voter.members.iter().any(|member| member.is_learner));
        // The voter that never starts has cost the quorum: one of two.
        let start = Instant::now();
        let short = Writer { deadline: Instant::now() + Duration::from_secs(1), ..writer() };
        let failure = short.remove(voter.member_id).await.unwrap_err();
        eprintln!("{}: without quorum: {failure:?} after {:?}", binary.version, start.elapsed());
        assert!(failure.is_without_effect());
        assert!(start.elapsed() < Duration::from_millis(1500));
    }
}

/// What etcd itself answers to calls that the look at the list prevents.
#[tokio::test]
async fn etcds_own_refusals_are_understood() {
    for binary in binaries() {
        let members = testing::running_cluster(&binary, 1).await;
        let access = Access::default();
        let list = members[0].list(&access).await;
        let own_url = vec![members[0].peer_url.to_string()];
        let add = unchecked(&members[0], &access, async |mut client: Client| {
            client.member_add(own_url.clone(), None).await.map(|_| ())
        });
        assert_eq!(add.await, Err(CallFailure::UrlExists), "{binary:?}");
        let remove =
            unchecked(&members[0], &access, async |mut client: Client| client.member_remove(1).await.map(|_| ()));
        assert_eq!(remove.await, Err(CallFailure::NotFound));
        let promote = unchecked(&members[0], &access, async |mut client: Client| {
            client.member_promote(list.leader.0).await.map(|_| ())
        });
        assert_eq!(promote.await, Err(CallFailure::NotLearner));
        let promote =
            unchecked(&members[0], &access, async |mut client: Client| client.member_promote(1).await.map(|_| ()));
        assert_eq!(promote.await, Err(CallFailure::NotFound));
        let bad = unchecked(&members[0], &access, async |mut client: Client| {
            client.member_add(vec!["nonsense".to_owned()], None).await.map(|_| ())
        });
        eprintln!("{}: {:?}", binary.version, bad.await.unwrap_err());
        // The same URL in the same second makes the same ID.
        let url = new_url();
        let endpoints = [members[0].endpoint()];
        let writer = || writer(list.cluster_id, &endpoints, &access);
        let mut failures = Vec::new();
        for _ in 0..6 {
            match writer().add(&url, JoinAs::Learner, 1).await {
                Ok(added) => {
                    writer().remove(added.member_id).await.unwrap();
                }
                Err(failure) => failures.push(failure),
            }
        }
        let known = [CallFailure::IdExists, CallFailure::NotFound];
        assert!(!failures.is_empty() && failures.iter().all(|one| known.contains(one)), "{binary:?} {failures:?}");
    }
}

#[tokio::test]
async fn two_of_three_are_too_few_to_add_but_not_to_remove() {
    for binary in binaries() {
        let mut members = testing::running_cluster(&binary, 3).await;
        let access = Access::default();
        let list = members[0].list(&access).await;
        let endpoints: Vec<_> = members.iter().map(Etcd::endpoint).collect();
        let writer = || writer(list.cluster_id, &endpoints, &access);
        // Not connected for five seconds yet.
        assert_eq!(writer().add(&new_url(), JoinAs::Voter, 1).await, Err(CallFailure::UnhealthyCluster), "{binary:?}");
        assert_eq!(
            writer().add(&new_url(), JoinAs::Learner, 1).await,
            Err(CallFailure::UnhealthyCluster),
            "{binary:?}"
        );
        // The leadership moves only from the leader, to a voter that is there.
        let leader = members.iter().position(|member| named(&list, list.leader) == member.name).unwrap();
        let follower = list.members.iter().find(|member| member.id != list.leader).unwrap();
        let (at_leader, elsewhere) = ([members[leader].endpoint()], [members[(leader + 1) % 3].endpoint()]);
        let wrong = Writer { endpoints: &elsewhere, ..writer() };
        assert_eq!(wrong.move_leader(follower.id).await, Err(CallFailure::NotLeader));
        let right = Writer { endpoints: &at_leader, ..writer() };
        assert_eq!(right.move_leader(MemberId(1)).await, Err(CallFailure::NotFound));
        assert_eq!(right.move_leader(follower.id).await, Ok(()), "{binary:?}");
        assert_eq!(members[leader].list(&access).await.leader, follower.id);
        // A dead endpoint is passed over; a dead member can be removed.
        let dead = list.members.iter().find(|member| member.name == "m1").unwrap().id;
        members[0].kill();
        members[1].list(&access).await;
        assert_eq!(writer().remove(dead).await.map(|left| left.len()), Ok(2), "{binary:?}");
        assert_eq!(writer().remove(dead).await, Err(CallFailure::NotFound));
    }
}

fn named(list: &MemberList, id: MemberId) -> &str {
    list.members.iter().find(|member| member.id == id).map_or("", |member| &member.name)
}

#[tokio::test]
async fn two_unstarted_voters_are_too_many() {
    for binary in binaries() {
        let members = testing::running_cluster(&binary, 3).await;
        let access = Access::default();
        let list = members[0].list(&access).await;
        let endpoints: Vec<_> = members.iter().map(Etcd::endpoint).collect();
        let writer = || writer(list.cluster_id, &endpoints, &access);
        tokio::time::sleep(Duration::from_millis(5500)).await;
        let first = writer().add(&new_url(), JoinAs::Voter, 1).await;
        let second = writer().add(&new_url(), JoinAs::Voter, 1).await;
        let third = writer().add(&new_url(), JoinAs::Voter, 1).await;
        assert!(first.is_ok(), "{binary:?} {first:?}");
        eprintln!("{}: second {second:?}, third {third:?}", binary.version);
        assert!(matches!(third, Err(CallFailure::NotEnoughStarted | CallFailure::UnhealthyCluster)), "{third:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_proves_nothing_is_passed_over_and_another_cluster_is_left_alone() {
    let Some(binary) = testing::one_binary() else { return };
    let ours = testing::running_cluster(&binary, 1).await;
    let foreign = testing::running_cluster(&binary, 1).await;
    let access = Access::default();
    let list = ours[0].list(&access).await;
    let hanging = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let hanging_port = hanging.local_addr().unwrap().port();
    let at = |port: u16| Endpoint { url: format!("http://127.0.0.1:{port}").parse().unwrap(), addresses: vec![LOCAL] };
    let endpoints = [at(hanging_port), at(testing::free_port()), foreign[0].endpoint(), ours[0].endpoint()];
    let added = writer(list.cluster_id, &endpoints, &access).add(&new_url(), JoinAs::Learner, 1).await.unwrap();
    assert_eq!(added.members.len(), 2);
    let foreign_list = foreign[0].list(&access).await;
    assert_eq!(foreign_list.members.len(), 1);
    let only_foreign = [foreign[0].endpoint()];
    let failure = writer(list.cluster_id, &only_foreign, &access).add(&new_url(), JoinAs::Learner, 1).await;
    assert_eq!(failure, Err(CallFailure::OtherCluster(foreign_list.cluster_id)));
    assert!(matches!(
        writer(list.cluster_id, &[], &access).add(&new_url(), JoinAs::Learner, 1).await,
        Err(CallFailure::Unreachable(_))
    ));
}

/// A call that was sent and got no answer is not sent again, and is said to be of unknown outcome.
#[tokio::test]
async fn a_write_without_an_answer_is_of_unknown_outcome() {
    let Some(binary) = testing::one_binary() else { return };
    let mut members = testing::running_cluster(&binary, 3).await;
    let access = Access::default();
    // One is dead, and may be removed; the other one hangs.
    members[2].kill();
    members[1].list(&access).await;
    let list = members[0].list(&access).await;
    let voter = list.members.iter().find(|member| member.name == "m3").unwrap().id;
    let connection = Connection::open(&members[0].endpoint(), &access, soon()).await.unwrap();
    members[1].stop();
    let deadline = Instant::now() + Duration::from_millis(200);
    let mut client = connection.client();
    let failure = connection.call(deadline, client.member_remove(voter.0)).await.map(|_| ()).unwrap_err();
    assert_eq!(failure, CallFailure::TimedOut);
    assert!(!failure.is_without_effect() && !failure.is_of_the_endpoint());
    let call = connection.call(soon(), client.member_remove(voter.0));
    let kill = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        members[0].kill();
    };
    let (failure, ()) = tokio::join!(call, kill);
    let failure = failure.map(|_| ()).unwrap_err();
    assert!(matches!(failure, CallFailure::ConnectionLost(_)), "{failure:?}");
    assert!(!failure.is_without_effect());
}

fn etcdctl(binary: &Binary, etcd: &Etcd, args: &[&str]) {
    let program = binary.etcd.with_file_name("etcdctl");
    let output = Command::new(program)
        .env_clear()
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", &etcd.client_url.to_string()])
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?} {output:?}");
}

#[tokio::test]
async fn with_authentication_on_the_root_user_writes_and_nobody_else() {
    for binary in binaries().into_iter().filter(|binary| binary.etcd.with_file_name("etcdctl").is_file()) {
        let members = testing::running_cluster(&binary, 1).await;
        let list = members[0].list(&Access::default()).await;
        for args in [
            &["user", "add", "root:secret"][..],
            &["role", "add", "root"],
            &["user", "grant-role", "root", "root"],
            &["user", "add", "plain:secret"],
            &["auth", "enable"],
        ] {
            etcdctl(&binary, &members[0], args);
        }
        let user = |user: &str, password: &str| {
            let credentials = Some(Credentials { user: user.to_owned(), password: password.to_owned() });
            Access { credentials, ..Access::default() }
        };
        let endpoints = [members[0].endpoint()];
        for (name, access) in [
            ("nobody", Access::default()),
            ("plain", user("plain", "secret")),
            ("wrong", user("root", "wrong")),
            ("unknown", user("who", "secret")),
        ] {
            let read = members[0].try_list(&access).await.map(|list| list.members.len());
            let write = writer(list.cluster_id, &endpoints, &access).add(&new_url(), JoinAs::Learner, 1).await;
            eprintln!("{} {name}: {read:?} / {write:?}", binary.version);
            assert!(matches!(read, Ok(1) | Err(CallFailure::Denied(_))), "{binary:?} {name} {read:?}");
            assert!(matches!(write, Err(CallFailure::Denied(_))), "{binary:?} {name} {write:?}");
        }
        let root = user("root", "secret");
        let started = Instant::now();
        assert_eq!(members[0].list(&root).await.members.len(), 1);
        eprintln!("{} root: {:?}", binary.version, started.elapsed());
        let added = writer(list.cluster_id, &endpoints, &root).add(&new_url(), JoinAs::Learner, 1).await.unwrap();
        assert_eq!(
            writer(list.cluster_id, &endpoints, &root).remove(added.member_id).await.map(|left| left.len()),
            Ok(1)
        );
        // Credentials do no harm where authentication is off.
        etcdctl(&binary, &members[0], &["--user", "root:secret", "auth", "disable"]);
        assert_eq!(members[0].list(&root).await.members.len(), 1);
    }
}

/// 3.7 replays a refused MemberUpdate at its next restart; an add, a removal or a promotion it does not.
#[tokio::test]
async fn refused_changes_have_no_effect_after_a_restart_either() {
    for binary in binaries() {
        let mut members = testing::running_cluster(&binary, 1).await;
        let access = Access::default();
        let before = members[0].list(&access).await;
        let own_url = vec![members[0].peer_url.to_string()];
        let _ = unchecked(&members[0], &access, async |mut client: Client| {
            client.member_add(own_url.clone(), None).await.map(|_| ())
        })
        .await;
        let _ =
            unchecked(&members[0], &access, async |mut client: Client| client.member_remove(7).await.map(|_| ())).await;
        let endpoints = [members[0].endpoint()];
        let writer = || writer(before.cluster_id, &endpoints, &access);
        let learner = writer().add(&new_url(), JoinAs::Learner, 1).await.unwrap();
        assert_eq!(writer().add(&new_url(), JoinAs::Learner, 2).await, Err(CallFailure::TooManyLearners));
        assert_eq!(writer().promote(learner.member_id).await, Err(CallFailure::NotInSync));
        let running = members[0].list(&access).await.members;
        members[0].kill();
        members[0].start("", "new");
        assert_eq!(members[0].list(&access).await.members, running, "{}", binary.version);
    }
}

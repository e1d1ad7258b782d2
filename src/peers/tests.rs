//! Against real etcds of every version, and against servers that misbehave.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::*;
use crate::etcd::testing::{self, Etcd, LOCAL, binaries};
use crate::intent::{Founder, JoinAs, Plan};
use crate::membership::Writer;
use crate::names::{DiskId, ProcessId};
use crate::observation::{Kind, Statement};

struct NoDns;

impl Resolve for NoDns {
    async fn addresses(&self, _: &str) -> Result<Vec<IpAddr>, DnsFailure> {
        Err(DnsFailure::NxDomain)
    }
}

fn client() -> PeerClient {
    client_at("http://127.0.0.1:1")
}

fn client_at(own_client_url: &str) -> PeerClient {
    let asker = Asker { pod: "etcd-9".into(), namespace: "ns".into(), service: "etcd".into() };
    PeerClient::new(asker, Security::Plain, Access::default(), own_client_url.parse().unwrap())
}

fn question(pod: &str, url: &str, milliseconds: u64) -> Question {
    Question {
        pod: pod.into(),
        url: url.parse().unwrap(),
        addresses: vec![LOCAL],
        own_name_resolves: true,
        says: None,
        deadline: Instant::now() + Duration::from_millis(milliseconds),
    }
}

fn question_to(etcd: &Etcd) -> Question {
    question(&etcd.name, &etcd.peer_url.to_string(), 1000)
}

async fn ask(client: &PeerClient, question: &Question) -> PeerView {
    client.ask(question, &NoDns, |_| ()).await
}

fn etcd_of(view: PeerView) -> EtcdView {
    match view {
        PeerView::Etcd(view) => view,
        other => panic!("{other:?}"),
    }
}

fn silence_of(view: PeerView) -> Silence {
    match view {
        PeerView::Silent(silence) => silence,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_healthy_cluster_gives_its_linearizable_list() {
    for binary in binaries() {
        let members = testing::running_cluster(&binary, 3).await;
        let client = client();
        for member in &members {
            let mut reported = None;
            let view = client.ask(&question_to(member), &NoDns, |view| reported = Some(view.clone())).await;
            let view = etcd_of(view);
            let reported = etcd_of(reported.unwrap());
            assert_eq!(reported.list, Err(ListFailure::NotAsked));
            assert_eq!((reported.cluster_id, &reported.members), (view.cluster_id, &view.members));
            let list = view.list.unwrap();
            assert_eq!(list.cluster_id, view.cluster_id, "{binary:?}");
            let own = list.members.iter().find(|listed| listed.id == list.answered_by).unwrap();
            assert_eq!(own.name, member.name);
            assert_eq!(list.members.len(), 3);
            assert!(list.term > 0 && list.index > 0 && list.db_size_bytes > 0);
            assert!(list.members.iter().any(|listed| listed.id == list.leader));
            assert_eq!(view.members.unwrap().len(), 3);
            if binary.version != "PATH" {
                assert_eq!(view.version.unwrap().server, binary.version);
            }
            assert_eq!(client.endpoint(&question_to(member).pod).unwrap(), member.endpoint());
        }
    }
}

#[tokio::test]
async fn a_restarted_member_is_asked_over_a_new_connection() {
    for binary in binaries() {
        let mut members = testing::running_cluster(&binary, 1).await;
        let client = client();
        let first = etcd_of(ask(&client, &question_to(&members[0])).await).list.unwrap();
        members[0].kill();
        assert!(matches!(silence_of(ask(&client, &question_to(&members[0])).await), Silence::Refused(_)));
        members[0].start("", "new");
        members[0].list(&Access::default()).await;
        let second = etcd_of(ask(&client, &question_to(&members[0])).await).list.unwrap();
        assert!(second.term > first.term, "{binary:?}");
        // Broken between two questions, without a silent one in between.
        members[0].kill();
        members[0].start("", "new");
        members[0].list(&Access::default()).await;
        assert!(etcd_of(ask(&client, &question_to(&members[0])).await).list.is_ok());
    }
}

#[tokio::test]
async fn one_of_three_says_that_its_client_port_hangs_and_what_its_peer_port_knows() {
    for binary in binaries() {
        let (mut members, initial) = testing::cluster(&binary, 3);
        members[0].start(&initial, "new");
        let own = members[0].client_url.to_string();
        let client = client_at(&own);
        let view = loop {
            if let PeerView::Etcd(view) = ask(&client, &question_to(&members[0])).await {
                break view;
            }
            sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(view.list, Err(ListFailure::TimedOut), "{binary:?}");
        let listed = view.members.unwrap();
        assert_eq!(listed.len(), 3);
        assert!(listed.iter().all(|member| member.client_urls.is_empty()));
        assert_eq!(view.version.unwrap().cluster, "not_decided");
    }
}

#[tokio::test]
async fn a_member_that_lost_its_quorum_has_no_leader() {
    for binary in binaries() {
        let mut members = testing::running_cluster(&binary, 3).await;
        let client = client();
        assert!(etcd_of(ask(&client, &question_to(&members[0])).await).list.is_ok());
        members[1].kill();
        members[2].kill();
        let mut failures = Vec::new();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) && failures.last() != Some(&ListFailure::NoLeader) {
            failures.extend(etcd_of(ask(&client, &question_to(&members[0])).await).list.err());
        }
        assert_eq!(failures.last(), Some(&ListFailure::NoLeader), "{binary:?} {failures:?}");
        let start = Instant::now();
        let view = etcd_of(ask(&client, &question_to(&members[0])).await);
        assert_eq!(view.list, Err(ListFailure::NoLeader));
        assert!(start.elapsed() < Duration::from_millis(200), "{binary:?} {:?}", start.elapsed());
        assert!(view.members.unwrap().iter().all(|member| !member.client_urls.is_empty()));
    }
}

#[tokio::test]
async fn a_learner_says_so_and_a_removed_member_is_not_listed() {
    for binary in binaries() {
        let members = testing::running_cluster(&binary, 1).await;
        let access = Access::default();
        let client = client();
        let list = members[0].list(&access).await;
        let mut learner = Etcd::new(&binary, "m2");
        let endpoints = [members[0].endpoint()];
        let deadline = Instant::now() + Duration::from_secs(5);
        let writer = Writer { cluster_id: list.cluster_id, endpoints: &endpoints, access: &access, deadline };
        let added = writer.add(std::slice::from_ref(&learner.peer_url), JoinAs::Learner, 1).await.unwrap();
        learner.start(&format!("{},{}", members[0].entry(), learner.entry()), "existing");
        let mut seen = Vec::new();
        loop {
            let view = ask(&client, &question_to(&learner)).await;
            assert!(Instant::now() < deadline, "{view:?} {}", learner.log());
            if let PeerView::Etcd(EtcdView { list: Err(failure), members: Some(listed), .. }) = view {
                let own = listed.iter().find(|member| member.id == added.member_id);
                let step = (failure, own.map(|own| (own.is_learner, own.has_started(), own.client_urls.len())));
                if seen.last() != Some(&step) {
                    seen.push(step);
                }
                if seen.last() == Some(&(ListFailure::Learner, Some((true, true, 1)))) {
                    break;
                }
            }
            sleep(Duration::from_millis(5)).await;
        }
        eprintln!("{}: a learner's steps: {seen:?}", binary.version);
        // The learner is passed over.
        let endpoints = [learner.endpoint(), members[0].endpoint()];
        let deadline = Instant::now() + Duration::from_secs(5);
        let writer = Writer { endpoints: &endpoints, deadline, ..writer };
        let left = writer.remove(added.member_id).await.unwrap();
        assert_eq!(left.len(), 1);
        let view = etcd_of(ask(&client, &question_to(&members[0])).await);
        assert_eq!(view.list.unwrap().members.len(), 1);
        assert_eq!(writer.remove(added.member_id).await, Err(CallFailure::NotFound));
    }
}

/// Killed between the making of its WAL and its first entry. It takes some tries, and luck.
#[tokio::test]
async fn a_member_killed_in_its_first_milliseconds_has_a_null_list() {
    for binary in binaries() {
        let mut views = Vec::new();
        for _ in 0..10 {
            let (mut members, initial) = testing::cluster(&binary, 3);
            members[0].start(&initial, "new");
            while !members[0].has_wal() {
                std::thread::yield_now();
            }
            members[0].kill();
            members[0].start(&initial, "new");
            let client = client();
            let view = loop {
                match client.ask_peer_port(&question_to(&members[0])).await.view {
                    PeerView::Etcd(view) => break view,
                    PeerView::Silent(Silence::Refused(_)) => sleep(Duration::from_millis(5)).await,
                    other => panic!("{other:?} {}", members[0].log()),
                }
            };
            views.push(view.members.map(|members| members.len()));
            if let Some(None) = views.last() {
                let view = etcd_of(ask(&client, &question_to(&members[0])).await);
                assert_ne!(view.cluster_id.0, 0);
                assert!(view.list.is_err());
                break;
            }
        }
        assert!(views.contains(&None), "{binary:?} {views:?}");
    }
}

/// What a misbehaving server answers to every connection, and keeps it open.
async fn server(answer: Vec<u8>, repeat: bool) -> (u16, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(1..) = stream.read(&mut buffer).await {
                    while stream.write_all(&answer).await.is_ok() && repeat {}
                }
            });
        }
    });
    (port, task)
}

fn http(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn statement(pod: &str, service: &str) -> Statement {
    let founders = vec![Founder { name: pod.to_owned(), peer_urls: vec!["http://etcd-0.etcd:2380".parse().unwrap()] }];
    Statement {
        version: Statement::VERSION,
        pod: pod.into(),
        service: service.to_owned(),
        namespace: "ns".to_owned(),
        disk_id: DiskId("disk".to_owned()),
        process_id: ProcessId("process".to_owned()),
        plan: Plan::new(founders, "token".to_owned()),
        kind: Kind::Blank,
    }
}

#[tokio::test]
async fn a_waiting_pod_states_its_case_and_hears_who_asks() {
    let listener = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let url = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let body = serde_json::to_string(&statement("etcd-0", "etcd")).unwrap();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 4096];
        let length = stream.read(&mut buffer).await.unwrap();
        stream.write_all(&http("200 OK", &body)).await.unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    });
    let answer = client().ask_peer_port(&question("etcd-0", &url, 1000)).await;
    assert_eq!(answer.view, PeerView::Waiting(statement("etcd-0", "etcd")));
    assert_eq!(answer.address, Some(LOCAL));
    let request = served.await.unwrap();
    let host = url.strip_prefix("http://").unwrap();
    let expected = format!(
        "GET /etcd-bootstrap/statement HTTP/1.1\r\nhost: {host}\r\nx-etcd-bootstrap-pod: etcd-9\r\n\
         x-etcd-bootstrap-namespace: ns\r\nx-etcd-bootstrap-service: etcd\r\nx-etcd-bootstrap-resolved: true\r\n\r\n"
    );
    assert_eq!(request, expected);
}

#[tokio::test]
async fn a_pod_that_ran_etcd_and_waits_now_is_heard() {
    let listener = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let url = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let body = serde_json::to_string(&statement("etcd-0", "etcd")).unwrap();
    // What the roll call says to `/members`, and then to the statement's path.
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for answer in [http("503 Service Unavailable", "waits"), http("200 OK", &body)] {
            let mut buffer = vec![0; 4096];
            assert!(stream.read(&mut buffer).await.unwrap() > 0);
            stream.write_all(&answer).await.unwrap();
        }
    });
    let client = client();
    client.memory().entry(PodName::from("etcd-0")).or_default().was_etcd = true;
    let answer = client.ask_peer_port(&question("etcd-0", &url, 1000)).await;
    assert_eq!(answer.view, PeerView::Waiting(statement("etcd-0", "etcd")));
}

#[tokio::test]
async fn what_is_no_usable_answer_is_told_apart() {
    let body = |pod: &str, service: &str| serde_json::to_string(&statement(pod, service)).unwrap();
    let other_version = body("etcd-0", "etcd").replace("\"version\":1", "\"version\":2");
    let huge = format!("{:?}", "x".repeat(70_000));
    let cases: Vec<(&str, Vec<u8>, bool)> = vec![
        ("other pod", http("200 OK", &body("etcd-1", "etcd")), false),
        ("other service", http("200 OK", &body("etcd-0", "foreign")), false),
        ("other version", http("200 OK", &other_version), false),
        ("garbage", http("200 OK", "{\"version\":"), false),
        ("huge", http("200 OK", &huge), false),
        ("huge length", b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\nx".to_vec(), false),
        ("absurd length", b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\nx".to_vec(), false),
        ("chunks without end", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(), false),
        ("error", http("503 Service Unavailable", ""), false),
        ("only 404", http("404 Not Found", "404 page not found"), false),
        ("endless", b"x".repeat(4096), true),
        ("endless header", b"HTTP/1.1 200 OK\r\nx: ".iter().copied().chain(b"x".repeat(65_000)).collect(), true),
        ("no HTTP", b"\0\0\0\0".to_vec(), false),
        ("silent", Vec::new(), false),
        ("alert", b"\x15\x03\x01\x00\x02\x02\x46".to_vec(), false),
    ];
    let mut table = String::new();
    for (name, answer, repeat) in cases {
        let (port, task) = server(answer, repeat).await;
        let asked = question("etcd-0", &format!("http://127.0.0.1:{port}"), 200);
        let silence = silence_of(ask(&client(), &asked).await);
        let text = silence.to_string().replace(&port.to_string(), "PORT");
        table.push_str(&format!("{name}: {text}\n"));
        task.abort();
    }
    let refused = question("etcd-0", &format!("http://127.0.0.1:{}", testing::free_port()), 200);
    let refused = silence_of(ask(&client(), &refused).await);
    assert!(matches!(refused, Silence::Refused(_)), "{refused:?}");
    insta::assert_snapshot!(table);
}

/// That a port which wants TLS closes so, too, is no reason to think that this one does.
#[tokio::test]
async fn a_connection_that_is_closed_without_a_word_is_no_rejection() {
    let listener = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
        }
    });
    let view = ask(&client(), &question("m1", &format!("http://127.0.0.1:{port}"), 500)).await;
    assert!(!view.is_rejection(), "{view:?}");
    assert!(silence_of(view).to_string().contains("the connection was closed without an answer"));
}

#[tokio::test]
async fn members_are_read_exactly_and_foreign_pages_are_not_etcds() {
    let members = r#"[{"id":18446744073709551615,"peerURLs":["http://127.0.0.1:1"],"name":"m1","clientURLs":["http://127.0.0.1:2"]},
        {"id":9007199254740993,"peerURLs":null,"isLearner":true}]"#;
    for (head, body, expected) in [
        ("200 OK\r\nX-Etcd-Cluster-Id: bd9057b8cc1809b7", members, Ok(2)),
        ("200 OK\r\nX-Etcd-Cluster-Id: 1", "null", Ok(0)),
        ("200 OK", "[]", Err("gives no X-Etcd-Cluster-Id with /members")),
        ("200 OK\r\nX-Etcd-Cluster-Id: xyz", "[]", Err("gives no X-Etcd-Cluster-Id with /members")),
        ("200 OK\r\nX-Etcd-Cluster-Id: 1", "{}", Err("gives /members that cannot be read")),
    ] {
        let reply = http(head, body);
        let listener = TcpListener::bind((LOCAL, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                let is_members = buffer[..length].starts_with(b"GET /members ");
                let answer = if is_members { reply.clone() } else { http("404 Not Found", "") };
                stream.write_all(&answer).await.unwrap();
            }
        });
        let view = client().ask_peer_port(&question("m1", &format!("http://127.0.0.1:{port}"), 500)).await.view;
        match (view, expected) {
            (PeerView::Etcd(view), Ok(count)) => {
                assert_eq!(view.members.as_ref().map_or(0, Vec::len), count);
                if let Some([first, second]) = view.members.as_deref() {
                    assert_eq!((first.id.0, second.id.0), (u64::MAX, 9_007_199_254_740_993));
                    assert!(second.is_learner && second.peer_urls.is_empty() && !second.has_started());
                }
            }
            (PeerView::Silent(Silence::NotEtcd(text)), Err(part)) => assert!(text.contains(part), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn of_several_addresses_one_that_answers_is_enough() {
    let own = "127.0.0.3".parse().unwrap();
    let listener = TcpListener::bind((own, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // A stale record: another pod of the service lives there now.
    let stale = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let hanging = TcpListener::bind(("127.0.0.4", port)).await.unwrap();
    let serve = |listener: TcpListener, pod: &'static str| {
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).await;
                let body = serde_json::to_string(&statement(pod, "etcd")).unwrap();
                let _ = stream.write_all(&http("200 OK", &body)).await;
            }
        })
    };
    serve(listener, "etcd-0");
    serve(stale, "etcd-1");
    let client = client();
    // Refused, stale, hanging, right.
    let addresses: Vec<IpAddr> =
        ["127.0.0.5", "127.0.0.2", "127.0.0.4", "127.0.0.3"].map(|address| address.parse().unwrap()).into();
    let url = format!("http://etcd-0.etcd.ns.svc:{port}");
    let asked = Question { addresses: addresses.clone(), ..question("etcd-0", &url, 2000) };
    let start = Instant::now();
    let answer = client.ask_peer_port(&asked).await;
    assert_eq!((answer.address, answer.view), (Some(own), PeerView::Waiting(statement("etcd-0", "etcd"))));
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    // The next time it goes there first.
    let start = Instant::now();
    assert_eq!(client.ask_peer_port(&asked).await.address, Some(own));
    assert!(start.elapsed() < Duration::from_millis(50), "{:?}", start.elapsed());
    let asked = Question { addresses: addresses[..3].to_vec(), ..question("etcd-0", &url, 500) };
    let answer = client.ask_peer_port(&asked).await;
    assert!(matches!(answer.view, PeerView::Silent(Silence::SomebodyElse { .. })), "{answer:?}");
    drop(hanging);
}

#[test]
fn the_client_port_is_where_the_member_says_or_else_like_our_own() {
    let list = |client_urls: &[&str]| {
        let client_urls = client_urls.iter().map(|url| (*url).to_owned()).collect();
        let member = Member {
            id: crate::names::MemberId(1),
            name: "etcd-0".to_owned(),
            peer_urls: vec!["http://etcd-0.etcd.ns.svc:2380".to_owned()],
            client_urls,
            is_learner: false,
        };
        let cluster_id = crate::names::ClusterId(1);
        EtcdView { cluster_id, members: Some(vec![member]), version: None, list: Err(ListFailure::NotAsked) }
    };
    let asked = question("etcd-0", "http://etcd-0.etcd.ns.svc:2380", 1000);
    let urls = |client_urls: &[&str], own: &str| {
        let urls = client_urls_text(&asked, &list(client_urls), own);
        urls.join(" ")
    };
    let own = "http://etcd-9.clients.ns.svc:2379";
    assert_eq!(urls(&[], own), "http://etcd-0.clients.ns.svc:2379");
    assert_eq!(urls(&[], "http://10.0.0.1:2379"), "http://etcd-0.etcd.ns.svc:2379");
    assert_eq!(
        urls(&["http://lb:2379", "http://localhost:2379", "http://etcd-0.clients.ns.svc:2379"], own),
        "http://etcd-0.etcd.ns.svc:2379 http://etcd-0.clients.ns.svc:2379 http://lb:2379"
    );
}

fn client_urls_text(question: &Question, view: &EtcdView, own: &str) -> Vec<String> {
    let urls = client_urls(question, view, &"etcd-9".into(), &own.parse().unwrap());
    urls.iter().map(Url::to_string).collect()
}

//! No input makes a parser panic, hang, or allocate without bound. (What peers send is cut off by size as it is read:
//! `src/peers/tests.rs`; the WAL reader has tests of its own: `src/wal/tests.rs`, and etcd's flags: `src/flags.rs`.)

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use etcd_bootstrap::config_file::ConfigFile;
use etcd_bootstrap::dns::Resolver;
use etcd_bootstrap::flags::EtcdSettings;
use etcd_bootstrap::intent::{Founder, Plan};
use etcd_bootstrap::journal::{Journal, Stage};
use etcd_bootstrap::journal_file;
use etcd_bootstrap::names::{DiskId, MemberId, PodName, ProcessId};
use etcd_bootstrap::observation::{JournalFile, Kind, Member, Statement};
use etcd_bootstrap::peers::parse_members;
use etcd_bootstrap::rollcall;
use proptest::prelude::*;
use serde_json::Value;

fn plan() -> Plan {
    let founder = Founder { name: "e-0".to_owned(), peer_urls: vec!["http://e-0.e.n.svc:2380".parse().unwrap()] };
    Plan::new(vec![founder], "token".to_owned())
}

fn statement() -> Value {
    let disks = BTreeMap::from([(PodName::from("e-0"), DiskId::from("disk"))]);
    serde_json::to_value(Statement {
        version: Statement::VERSION,
        pod: PodName::from("e-0"),
        service: "e".to_owned(),
        namespace: "n".to_owned(),
        disk_id: DiskId::from("disk"),
        process_id: ProcessId::from("process"),
        plan: plan(),
        kind: Kind::Prepared(disks),
    })
    .unwrap()
}

fn journal() -> Value {
    let disk = DiskId::from("disk");
    let disks = BTreeMap::from([(PodName::from("e-0"), disk.clone())]);
    let mut journal = Journal::of_new_disk(disk, PodName::from("e-0"), "n".to_owned(), "e".to_owned());
    journal.enter(Stage::Prepared { plan: plan(), static_id: MemberId(1), disks }, &[MemberId(7)]);
    journal.wal_seen = Some(MemberId(1));
    serde_json::to_value(journal).unwrap()
}

/// As etcd gives it: a voter, a learner that has not started, and what only some versions say.
fn members() -> Value {
    serde_json::json!([
        {"id": 10_501_334_649_042_878_790_u64, "peerURLs": ["http://e-0.e.n.svc:2380"], "name": "e-0",
            "clientURLs": ["http://e-0.e.n.svc:2379"]},
        {"id": 7, "peerURLs": ["http://e-1.e.n.svc:2380"], "isLearner": true, "name": "", "clientURLs": null},
    ])
}

/// Any JSON.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "[a-z]{1,4}-[0-9]{0,12}".prop_map(Value::from),
        "https?://.{0,20}(:[0-9]{0,6})?".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[a-z_]{1,9}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Puts the value somewhere into the document: the path picks a child at each level.
fn put_into(document: &mut Value, path: &[usize], value: Value) {
    let children: Vec<&mut Value> = match document {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(map) => map.iter_mut().map(|(_, child)| child).collect(),
        _ => Vec::new(),
    };
    let count = children.len();
    match (path, children.into_iter().nth(path.first().copied().unwrap_or_default() % count.max(1))) {
        ([_, rest @ ..], Some(child)) => put_into(child, rest, value),
        _ => *document = value,
    }
}

fn changes() -> impl Strategy<Value = Vec<(Vec<usize>, Value)>> {
    prop::collection::vec((prop::collection::vec(any::<usize>(), 1..4), json()), 0..3)
}

fn changed(mut document: Value, changes: Vec<(Vec<usize>, Value)>) -> String {
    for (path, value) in changes {
        put_into(&mut document, &path, value);
    }
    document.to_string()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_statement(changes in changes()) {
        if let Ok(said) = serde_json::from_str::<Statement>(&changed(statement(), changes)) {
            prop_assert_eq!(rollcall::digest(&said).len(), 8);
            let again: Statement = serde_json::from_str(&serde_json::to_string(&said).unwrap()).unwrap();
            prop_assert_eq!(again, said);
        }
    }

    /// Never more than was sent: a member takes three bytes at least, `[0]`.
    #[test]
    fn a_list_of_members(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            changes().prop_map(|changes| changed(members(), changes).into_bytes()),
        ],
        cut in any::<prop::sample::Index>(),
    ) {
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len() + 1)]] {
            let Ok(Some(members)) = parse_members(bytes) else { continue };
            prop_assert!(members.len() * 3 <= bytes.len());
            let text = |member: &Member| {
                let urls = member.peer_urls.iter().chain(&member.client_urls);
                member.name.len() + urls.map(String::len).sum::<usize>()
            };
            prop_assert!(members.iter().map(text).sum::<usize>() <= bytes.len());
        }
    }

    /// With the right CRC, so that it is read; it is a journal of ours, or torn.
    #[test]
    fn a_journal(changes in changes()) {
        let dir = tempfile::tempdir().unwrap();
        let json = changed(journal(), changes);
        let crc = crc32c::crc32c(json.as_bytes());
        fs::write(dir.path().join("journal"), format!("etcd-bootstrap journal v1 crc32c={crc:08x}\n{json}")).unwrap();
        match journal_file::read(dir.path()).unwrap() {
            JournalFile::Valid(journal) => {
                journal_file::write(dir.path(), &journal).unwrap();
                prop_assert_eq!(journal_file::read(dir.path()).unwrap(), JournalFile::Valid(journal));
            }
            JournalFile::Torn(_) => {}
            JournalFile::Absent => prop_assert!(false, "it is there"),
        }
    }

    #[test]
    fn a_journal_of_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("journal"), bytes).unwrap();
        prop_assert!(matches!(journal_file::read(dir.path()).unwrap(), JournalFile::Torn(_)));
    }

    /// What is written says what was read.
    #[test]
    fn a_configuration_file(
        lines in prop::collection::vec(
            "((name|data-dir|wal-dir|log-outputs|pre-vote|snapshot-count|initial-cluster|peer-transport-security|[a-z-]{1,9}): ?|  )?(true|off|[0-9]{1,22}|[{\\[]?.{0,12}[}\\]]?|&a|[*]a|<<: [*]a|- x|!!binary x)",
            0..8,
        ),
    ) {
        if let Ok(file) = ConfigFile::parse(Path::new("/c"), &lines.join("\n")) {
            _ = file.settings(&EtcdSettings::default());
            prop_assert_eq!(ConfigFile::parse(Path::new("/c"), &file.text()).unwrap(), file);
        }
    }

    #[test]
    fn a_resolv_conf(
        lines in prop::collection::vec(
            "((nameserver|search|domain|options|sortlist|[a-z]{0,6})[ \t]+)?(ndots:[0-9]{0,12}|timeout:-?[0-9]{0,20}|[0-9a-f.:%]{0,20}|[a-z.-]{0,80}|.{0,20})",
            0..8,
        ),
    ) {
        _ = Resolver::new(None, &lines.join("\n"));
    }
}

/// What etcd gives is read, and what nests without end is refused.
#[test]
fn a_list_of_members_as_etcd_gives_it() {
    let read = parse_members(members().to_string().as_bytes()).unwrap().unwrap();
    let ids: Vec<u64> = read.iter().map(|member| member.id.0).collect();
    assert_eq!(ids, [10_501_334_649_042_878_790, 7]);
    assert!(read[1].is_learner && read[1].client_urls.is_empty());
    assert_eq!(parse_members(b"null").unwrap(), None);
    for nested in ["[", r#"[{"id":1,"x":"#, r#"[{"id":1,"peerURLs":["#] {
        assert!(parse_members(nested.repeat(100_000).as_bytes()).is_err());
    }
}

/// Nested aliases of YAML grow without bound where nobody counts them.
#[test]
fn a_configuration_file_that_multiplies() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..30 {
        let before = format!("*a{}", n - 1);
        text += &format!("a{n}: &a{n} [{}]\n", vec![before; 9].join(", "));
    }
    assert!(ConfigFile::parse(Path::new("/c"), &text).is_err());
    let deep = "[".repeat(100_000);
    assert!(ConfigFile::parse(Path::new("/c"), &deep).is_err());
    let long = format!("{{\"{}\": 1}}", "k".repeat(200));
    assert!(ConfigFile::parse(Path::new("/c"), &long).is_err());
    // Characters that JSON takes as they are, and YAML does not.
    let odd = ConfigFile::parse(Path::new("/c"), r#"{"name": "\u007f\u0085\u2028\ufeff\uffff"}"#).unwrap();
    assert!(odd.text().is_ascii(), "{}", odd.text());
    assert_eq!(ConfigFile::parse(Path::new("/c"), &odd.text()).unwrap(), odd);
}

//! The rules of the settings, as tables of what is given and what comes of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::cli::{Invocation, parse};
use crate::etcd_command::{EtcdCommand, command, config_text};
use crate::intent::{Discovery, JoinAs};
use crate::names::{ClusterId, MemberId};
use crate::plan::{InitialClusterState, Start};

/// Files that settings may name in these tests.
const FILES: [(&str, &str); 7] = [
    ("/etc/discovery.yaml", "name: a\ndiscovery-config: {endpoints: [http://x:1]}\n"),
    ("/etc/typed.yaml", "snapshot-count: many\n"),
    ("/etc/list.yaml", "- name: a\n"),
    ("/etc/broken.yaml", "name: [a\n"),
    ("/secrets/password", "s3cret\n"),
    ("/secrets/empty", "\n"),
    (
        "/etc/etcd.yaml",
        "name: etcd-0\n# a comment\ndata-dir: /data\nlisten-peer-urls: http://0.0.0.0:2380\nquota-backend-bytes: 8589934592\n\
         snapshot-count: 5000\nlog-outputs: [stderr]\ndiscovery-srv:\ndiscovery-fallback: 'proxy'\nproxy: 'off'\n\
         enable-pprof: yes\nsomething-new: {a: [1, 2]}\ngrpc-keepalive-interval: 7200000000000\n\
         initial-cluster-state: new\npeer-transport-security:\n  cert-file: /tls/peer.crt\n  key-file: /tls/peer.key\n  \
         client-cert-auth: true\n",
    ),
];

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn environment(text: &str) -> BTreeMap<String, String> {
    let pair = |word: &str| word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    text.split_whitespace().filter_map(pair).collect()
}

fn read_file(path: &Path) -> io::Result<String> {
    let file = FILES.iter().find(|(name, _)| Path::new(name) == path);
    file.map(|(_, text)| (*text).to_owned()).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// What comes of these arguments (by blanks) and these variables (`NAME=VALUE`, by blanks).
pub(crate) fn settings(args: &str, env: &str) -> Result<Settings, SettingsError> {
    let env = environment(env);
    let surroundings = Surroundings {
        hostname: String::new(),
        working_dir: "/".into(),
        resolv_conf: None,
        service_account: "/account".into(),
        service_account_namespace: None,
        read_file: &read_file,
        has_ipv4: true,
        has_ipv6: false,
    };
    let invocation: Invocation = parse(&words(args), &env)?;
    resolve(&invocation, &env, &surroundings)
}

fn start(state: InitialClusterState, initial_cluster: Option<&str>) -> Start {
    Start {
        state,
        initial_cluster: initial_cluster.map(str::to_owned),
        member_id: MemberId(1),
        cluster_id: ClusterId(1),
        first: true,
        learner: false,
        confirmed: true,
        force_new_cluster: false,
    }
}

fn rendered(settings: &Settings, env: &str) -> EtcdCommand {
    let env = environment(env).into_iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    command(settings, &start(InitialClusterState::New, None), env, Path::new("/run/etcd.yaml"))
}

/// The pod `etcd-N` of the service `etcd` in the namespace `default`.
fn pod(ordinal: u32) -> String {
    format!("HOSTNAME=etcd-{ordinal} SERVICE_NAME=etcd K8S_NAMESPACE=default")
}

/// The arguments of etcd's documented manifest, as Kubernetes expands them in the pod `etcd-N`.
fn seed_args(ordinal: u32) -> String {
    format!(
        "--name=etcd-{ordinal} --data-dir=/data --wal-dir=/data/wal --listen-peer-urls=http://0.0.0.0:2380 \
         --listen-client-urls=http://0.0.0.0:2379 --advertise-client-urls=http://etcd-{ordinal}.etcd:2379 \
         --initial-cluster-state=new --initial-cluster-token=etcd-default \
         --initial-cluster=etcd-0=http://etcd-0.etcd:2380,etcd-1=http://etcd-1.etcd:2380,etcd-2=http://etcd-2.etcd:2380 \
         --initial-advertise-peer-urls=http://etcd-{ordinal}.etcd:2380 --listen-metrics-urls=http://0.0.0.0:8080"
    )
}

fn seed_env(ordinal: u32) -> String {
    format!("{} ETCDCTL_ENDPOINTS=etcd-{ordinal}.etcd:2379 URI_SCHEME=http", pod(ordinal))
}

#[test]
fn the_seeds_manifest_keeps_its_member_ids() {
    for (ordinal, id) in [(0, "a394e0ee91773643"), (1, "d10297b8d2f01265"), (2, "4f98c3545405a0b0")] {
        let settings = settings(&seed_args(ordinal), &seed_env(ordinal)).unwrap();
        let intent = &settings.intent;
        assert!(intent.is_founder());
        assert_eq!(intent.static_id().unwrap().to_string(), id);
        assert_eq!(intent.discovery, Discovery::Srv);
        assert_eq!(settings.warnings, Vec::<String>::new());
    }
    let joiner = settings(&seed_args(3), &seed_env(3)).unwrap().intent;
    assert!(!joiner.is_founder());
    assert_eq!(joiner.static_id(), None);
    assert_eq!(joiner.pod.as_str(), "etcd-3");
}

#[test]
fn the_seeds_arguments_reach_etcd_as_they_were() {
    let settings = settings(&seed_args(1), &seed_env(1)).unwrap();
    let mut given = words(&seed_args(1));
    let mut args = rendered(&settings, &seed_env(1)).args;
    given.sort();
    args.sort();
    assert_eq!(args, given);
}

#[test]
fn a_size_and_a_service_are_enough() {
    let env = format!("{} BOOTSTRAP_INITIAL_CLUSTER_SIZE=3", pod(1));
    let settings = settings("--data-dir=/data", &env).unwrap();
    assert_eq!(settings.intent.plan.token, "default/etcd");
    insta::assert_snapshot!(rendered(&settings, "").args.join("\n"), @r"
    --advertise-client-urls=http://etcd-1.etcd.default.svc:2379
    --data-dir=/data
    --initial-advertise-peer-urls=http://etcd-1.etcd.default.svc:2380
    --initial-cluster-token=default/etcd
    --listen-client-urls=http://0.0.0.0:2379
    --listen-peer-urls=http://0.0.0.0:2380
    --name=etcd-1
    --initial-cluster=etcd-0=http://etcd-0.etcd.default.svc:2380,etcd-1=http://etcd-1.etcd.default.svc:2380,etcd-2=http://etcd-2.etcd.default.svc:2380
    --initial-cluster-state=new
    ");
}

#[test]
fn a_decision_replaces_state_and_initial_cluster() {
    let settings = settings(&seed_args(3), &seed_env(3)).unwrap();
    let start = start(InitialClusterState::Existing, Some("etcd-3=http://etcd-3.etcd:2380"));
    let args = command(&settings, &start, [], Path::new("/unused")).args;
    let initial: Vec<&String> = args.iter().filter(|arg| arg.starts_with("--initial-cluster")).collect();
    assert_eq!(
        initial,
        [
            "--initial-cluster-token=etcd-default",
            "--initial-cluster=etcd-3=http://etcd-3.etcd:2380",
            "--initial-cluster-state=existing",
        ]
    );
}

/// What is refused: arguments, variables, exit code, and what the message has to name.
const REFUSED: &[(&str, &str, u8, &[&str])] = &[
    // Command lines that cannot be read.
    ("etcd --name=x", "", 64, &["etcd"]),
    ("run stray", "", 64, &["stray"]),
    ("--name", "", 64, &["--name", "no value"]),
    ("--name --data-dir=/data", "", 64, &["--name", "--data-dir=/data"]),
    ("--data-dir=/data stray", "", 64, &["`stray`"]),
    ("--data-dir=/data -- --name=x", "", 64, &["`--name=x`"]),
    ("---name=x", "", 64, &["`---name=x`"]),
    ("--pre-vote false", "", 64, &["`false`"]),
    ("--pre-vote=maybe", "", 64, &["--pre-vote=maybe", "true or false"]),
    ("--snapshot-count=many", "", 64, &["--snapshot-count=many", "a number"]),
    ("--grpc-keepalive-timeout=20", "", 64, &["--grpc-keepalive-timeout=20", "a duration"]),
    ("plan --data-dir=/data", "", 64, &["--data-dir"]),
    ("render", "", 64, &["--output"]),
    ("run -- --version", "", 64, &["--version"]),
    // Values of this program's settings.
    ("", "BOOTSTRAP_INITIAL_CLUSTER_SIZE=0", 78, &["BOOTSTRAP_INITIAL_CLUSTER_SIZE=0", "1 to 99"]),
    ("", "BOOTSTRAP_INITIAL_CLUSTER_SIZE=three", 78, &["BOOTSTRAP_INITIAL_CLUSTER_SIZE=three"]),
    ("run --initial-cluster-size=0", "", 78, &["--initial-cluster-size=0"]),
    ("", "BOOTSTRAP_STATE=old", 78, &["BOOTSTRAP_STATE=old", "auto, existing, new"]),
    ("", "BOOTSTRAP_JOIN_AS=observer", 78, &["BOOTSTRAP_JOIN_AS=observer", "learner, voter"]),
    ("", "BOOTSTRAP_DISCOVERY=dns", 78, &["BOOTSTRAP_DISCOVERY=dns", "srv, a, static"]),
    ("", "BOOTSTRAP_ON_LOST_DATA=wipe", 78, &["BOOTSTRAP_ON_LOST_DATA=wipe", "replace, fail"]),
    ("", "BOOTSTRAP_ON_REMOVED=wipe", 78, &["BOOTSTRAP_ON_REMOVED=wipe", "rejoin, fail"]),
    ("", "BOOTSTRAP_TIMEOUT=soon", 78, &["BOOTSTRAP_TIMEOUT=soon", "a duration"]),
    ("", "BOOTSTRAP_HOLD=maybe", 78, &["BOOTSTRAP_HOLD=maybe", "true or false"]),
    ("", "BOOTSTRAP_STATUS_ADDRESS=2382", 78, &["BOOTSTRAP_STATUS_ADDRESS=2382", ":2382"]),
    ("", "BOOTSTRAP_DNS_SERVER=dns.example", 78, &["BOOTSTRAP_DNS_SERVER=dns.example", "IP"]),
    ("", "BOOTSTRAP_LOG=loud", 78, &["BOOTSTRAP_LOG=loud", "info"]),
    ("", "BOOTSTRAP_LOG_FORMAT=xml", 78, &["BOOTSTRAP_LOG_FORMAT=xml", "text, json"]),
    ("", "BOOTSTRAP_ORDINAL_START=-1", 78, &["BOOTSTRAP_ORDINAL_START=-1"]),
    // What etcd would not take, or what it would do harm with.
    ("--discovery=https://discovery.etcd.io/x", "", 78, &["--discovery=https://discovery.etcd.io/x"]),
    ("--discovery-srv=example.com", "", 78, &["--discovery-srv=example.com"]),
    ("--proxy=on", "", 78, &["--proxy=on"]),
    ("--config-file=/etc/discovery.yaml", "", 78, &["--config-file=/etc/discovery.yaml", "discovery-config"]),
    ("--config-file=/etc/typed.yaml", "", 78, &["--config-file=/etc/typed.yaml", "snapshot-count: many"]),
    ("--config-file=/etc/list.yaml", "", 78, &["--config-file=/etc/list.yaml", "no mapping"]),
    ("--config-file=/etc/broken.yaml", "", 78, &["--config-file=/etc/broken.yaml"]),
    ("--discovery-new=x", "", 78, &["--discovery-new"]),
    ("", "ETCD_DISCOVERY_SRV=example.com", 78, &["ETCD_DISCOVERY_SRV=example.com"]),
    ("--force-new-cluster", "BOOTSTRAP_FORCE_NEW_CLUSTER=etcd-1", 78, &["--force-new-cluster=true", "etcd-0"]),
    ("--listen-peer-urls=http://etcd-0.etcd:2380", "", 78, &["--listen-peer-urls", "etcd-0.etcd", "name"]),
    ("--listen-peer-urls=http://0.0.0.0", "", 78, &["--listen-peer-urls=http://0.0.0.0", "no port"]),
    ("--listen-client-urls=0.0.0.0:2379", "", 78, &["--listen-client-urls=0.0.0.0:2379", "no scheme"]),
    ("--listen-client-urls=https://0.0.0.0:2379", "", 78, &["--listen-client-urls", "--cert-file"]),
    (
        "--listen-metrics-urls=http://0.0.0.0:2379",
        "",
        78,
        &["--listen-client-urls", "--listen-metrics-urls", "0.0.0.0:2379"],
    ),
    ("--peer-cert-file=/tls/tls.crt", "", 78, &["--peer-cert-file=/tls/tls.crt", "--peer-key-file"]),
    ("--key-file=/tls/tls.key", "", 78, &["--key-file=/tls/tls.key", "--cert-file"]),
    ("", "ETCDCTL_CERT=/tls/tls.crt", 78, &["ETCDCTL_CERT=/tls/tls.crt", "ETCDCTL_KEY"]),
    ("", "ETCD_PRE_VOTE=maybe", 78, &["ETCD_PRE_VOTE=maybe"]),
    ("", "URI_SCHEME=tcp", 78, &["URI_SCHEME=tcp", "http"]),
    ("--name=a,b", "", 78, &["--name=a,b"]),
    // Kubernetes leaves what it cannot expand.
    (
        "--initial-cluster-token=etcd-$(K8S_NS)",
        "",
        78,
        &["--initial-cluster-token=etcd-$(K8S_NS)", "no variable K8S_NS"],
    ),
    ("--new-flag=$(X)", "", 78, &["--new-flag=$(X)", "no variable X"]),
    ("", "ETCD_DATA_DIR=$(DIR)/data", 78, &["ETCD_DATA_DIR=$(DIR)/data", "DIR"]),
    ("", "BOOTSTRAP_SERVICE=$(SERVICE)", 78, &["BOOTSTRAP_SERVICE=$(SERVICE)", "SERVICE"]),
    // Who founds the cluster.
    ("--initial-cluster=", "", 78, &["--initial-cluster=", "no member"]),
    ("--initial-cluster=etcd-0=http://etcd-0.etcd:2380,", "", 78, &["no member"]),
    ("--initial-cluster=http://etcd-0.etcd:2380", "", 78, &["`http://etcd-0.etcd:2380`", "no `=`"]),
    ("--initial-cluster=etcd-0=etcd-0.etcd:2380", "", 78, &["etcd-0.etcd:2380", "no scheme"]),
    ("--initial-cluster==http://etcd-0.etcd:2380", "", 78, &["has no name"]),
    ("--initial-cluster=etcd-0=http://a:2380,etcd-1=http://a:2380", "", 78, &["http://a:2380 is there twice"]),
    ("--initial-cluster=etcd-0=http://etcd-0.e:2380,etcd-0=http://etcd-1.e:2380", "", 78, &["etcd-0 is there twice"]),
    ("--initial-cluster=a=http://localhost:2380,b=http://localhost:3380", "", 78, &["a and b are both in localhost"]),
    (
        "--initial-cluster=etcd-0=http://etcd-0.etcd:2380",
        "BOOTSTRAP_INITIAL_CLUSTER_SIZE=3",
        78,
        &["BOOTSTRAP_INITIAL_CLUSTER_SIZE=3", "one member"],
    ),
    (
        "--initial-cluster=etcd-0=http://etcd-0.etcd:2380 --initial-advertise-peer-urls=http://etcd-0.etcd.default.svc:2380",
        "",
        78,
        &["http://etcd-0.etcd:2380", "http://etcd-0.etcd.default.svc:2380"],
    ),
    (
        "--initial-cluster=a=http://etcd-0.etcd:2380 --initial-advertise-peer-urls=http://etcd-0.etcd:2380",
        "",
        78,
        &["http://etcd-0.etcd:2380", "name a", "etcd-0"],
    ),
    ("--name=etcd-1", "", 78, &["etcd-1", "etcd-0"]),
    ("--initial-advertise-peer-urls=http://etcd-1.etcd:2380", "", 78, &["etcd-1", "etcd-0"]),
    ("--name=main", "", 78, &["main", "etcd-0"]),
    ("", "BOOTSTRAP_ORDINAL_START=5", 78, &["etcd-0", "BOOTSTRAP_ORDINAL_START=5"]),
    ("", "BOOTSTRAP_DISCOVERY=static", 78, &["BOOTSTRAP_DISCOVERY=static"]),
    ("", "BOOTSTRAP_INITIAL_CLUSTER_SIZE=", 78, &["BOOTSTRAP_INITIAL_CLUSTER_SIZE", "--initial-cluster"]),
    ("--initial-advertise-peer-urls=http://10.0.0.7:2380", "", 78, &["http://10.0.0.7:2380", "address"]),
    // Passwords.
    ("", "BOOTSTRAP_PASSWORD_FILE=/secrets/password", 78, &["no user"]),
    ("", "BOOTSTRAP_USER=root", 78, &["BOOTSTRAP_USER (root)", "no password"]),
    ("", "BOOTSTRAP_USER=root BOOTSTRAP_PASSWORD_FILE=/none", 78, &["BOOTSTRAP_PASSWORD_FILE=/none"]),
    ("", "BOOTSTRAP_USER=root BOOTSTRAP_PASSWORD_FILE=/secrets/empty", 78, &["no password"]),
    // Configuration files.
    ("--config-file=/none", "", 78, &["--config-file=/none"]),
    ("--config-file=/etc/etcd.yaml --name=etcd-9", "", 78, &["--name=etcd-9", "`etcd-0`"]),
    ("--config-file=/etc/etcd.yaml --wal-dir=/wal", "", 78, &["--wal-dir=/wal", "does not have it"]),
    ("--config-file=/etc/etcd.yaml --new-flag=1", "", 78, &["--new-flag=1"]),
    ("", "ETCD_CONFIG_FILE=/etc/etcd.yaml ETCD_SNAPSHOT_COUNT=1", 78, &["ETCD_SNAPSHOT_COUNT=1", "`5000`"]),
];

#[test]
fn what_cannot_work_is_refused_with_its_name_its_value_and_a_fix() {
    for (args, env, exit_code, named) in REFUSED {
        let size = if args.contains("--initial-cluster=") { "" } else { "BOOTSTRAP_INITIAL_CLUSTER_SIZE=3" };
        let env = format!("{} {size} {env}", pod(0));
        let error = settings(args, &env).map(|_| ()).expect_err(&format!("`{args}` with {env}"));
        assert_eq!(error.exit_code, *exit_code, "{args}: {error}");
        for word in *named {
            assert!(error.message.contains(word), "`{args}`: `{}` does not name `{word}`", error.message);
        }
        assert!(!error.hint.is_empty() && error.hint != error.message, "{args}");
        assert!(!error.message.contains('\n'), "one sentence: {error}");
    }
}

#[test]
fn a_deployment_is_refused_unless_its_peers_are_listed() {
    let env = "HOSTNAME=etcd-7b9c4-x2k SERVICE_NAME=etcd K8S_NAMESPACE=default BOOTSTRAP_INITIAL_CLUSTER_SIZE=1";
    assert!(settings("--data-dir=/d", env).unwrap_err().message.contains("no ordinal"));
    let listed = "--name=a --initial-cluster=a=http://10.0.0.1:2380,b=http://10.0.0.2:2380";
    let intent = settings(listed, "HOSTNAME=node-7").unwrap().intent;
    assert_eq!(intent.discovery, Discovery::Static);
    assert_eq!((intent.pod.as_str(), intent.is_founder()), ("a", true));
    assert_eq!(intent.plan.token, "etcd-cluster");
}

#[test]
fn names_come_from_where_kubernetes_and_people_put_them() {
    let size = "BOOTSTRAP_INITIAL_CLUSTER_SIZE=3 K8S_NAMESPACE=ns SERVICE_NAME=etcd";
    for (args, env, pod, name) in [
        ("", "HOSTNAME=etcd-1", "etcd-1", "etcd-1"),
        ("", "HOSTNAME=node.example POD_NAME=etcd-1", "etcd-1", "etcd-1"),
        ("--name=etcd-1", "HOSTNAME=node", "etcd-1", "etcd-1"),
        ("", "ETCD_NAME=m-etcd-1 HOSTNAME=etcd-1", "etcd-1", "m-etcd-1"),
        ("--name=etcd-1", "HOSTNAME=etcd-1 BOOTSTRAP_NAME=x-etcd-1", "etcd-1", "x-etcd-1"),
        ("", "HOSTNAME=etcd-1.etcd.ns.svc.cluster.local", "etcd-1", "etcd-1"),
        ("run --name=a-etcd-1", "HOSTNAME=etcd-1 BOOTSTRAP_NAME=b-etcd-1", "etcd-1", "a-etcd-1"),
    ] {
        let settings = settings(args, &format!("{size} {env}")).unwrap();
        assert_eq!((settings.intent.pod.as_str(), settings.intent.name.as_str()), (pod, name), "{args} {env}");
        let founders: Vec<&str> = settings.intent.plan.founders.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(founders[1], name);
        assert_eq!(founders[2], name.replace("etcd-1", "etcd-2"));
        assert!(settings.intent.is_founder());
    }
}

#[test]
fn urls_keep_scheme_port_and_shape_of_what_is_given() {
    let tls = "--peer-cert-file=/c --peer-key-file=/k --cert-file=/c --key-file=/k";
    for (args, env, peer, client) in [
        ("", "", "http://etcd-0.etcd.default.svc:2380", "http://etcd-0.etcd.default.svc:2379"),
        (tls, "", "https://etcd-0.etcd.default.svc:2380", "https://etcd-0.etcd.default.svc:2379"),
        (tls, "URI_SCHEME=https", "https://etcd-0.etcd.default.svc:2380", "https://etcd-0.etcd.default.svc:2379"),
        (
            "--listen-peer-urls=http://[::]:12380",
            "",
            "http://etcd-0.etcd.default.svc:12380",
            "http://etcd-0.etcd.default.svc:2379",
        ),
        (
            "--listen-client-urls=http://127.0.0.1:1379",
            "",
            "http://etcd-0.etcd.default.svc:2380",
            "http://etcd-0.etcd.default.svc:1379",
        ),
        (
            "--initial-advertise-peer-urls=http://etcd-0.peers:7001",
            "",
            "http://etcd-0.peers:7001",
            "http://etcd-0.peers:2379",
        ),
    ] {
        let env = format!("{} BOOTSTRAP_INITIAL_CLUSTER_SIZE=3 {env}", pod(0));
        let settings = settings(args, &env).unwrap();
        assert_eq!(settings.intent.peer_urls[0].to_string(), peer, "{args}");
        assert_eq!(settings.intent.client_urls[0].to_string(), client, "{args}");
        let second = peer.replace("etcd-0", "etcd-1");
        assert_eq!(settings.intent.plan.founders[1].peer_urls[0].to_string(), second);
        assert_eq!(settings.listen_peer_urls[0].port, settings.intent.peer_urls[0].port);
    }
}

#[test]
fn each_setting_reaches_etcd_once_and_no_variable_shadows_it() {
    let env = "HOSTNAME=etcd-0 SERVICE_NAME=etcd K8S_NAMESPACE=default BOOTSTRAP_INITIAL_CLUSTER_SIZE=1 \
        ETCD_DATA_DIR=/data ETCD_NAME=etcd-0 ETCD_PORT=tcp://10.0.0.1:2379 ETCD_SERVICE_HOST=10.0.0.1 ETCD_ENABLE_V2=false \
        ETCD_PORT_2379_TCP_ADDR=10.0.0.1 ETCD_ROOT_PASSWORD=hush ETCD_VERSION=3.5.9 ETCD_UNSUPPORTED_ARCH=arm64 \
        BOOTSTRAP_PASSWORD=hush ETCDCTL_CACERT=/ca.crt GOMAXPROCS=2 ETCD_SNAPSHOT_COUNT= PATH=/bin";
    let settings = settings("-name etcd-0 --snapshot-count 1 -snapshot-count=2 --pre-vote --new=1", env).unwrap();
    let command = rendered(&settings, env);
    let names: Vec<&str> = command.env.iter().filter_map(|(name, _)| name.to_str()).collect();
    assert_eq!(
        names,
        [
            "ETCDCTL_CACERT",
            "ETCD_UNSUPPORTED_ARCH",
            "GOMAXPROCS",
            "HOSTNAME",
            "K8S_NAMESPACE",
            "PATH",
            "SERVICE_NAME",
            // Not every etcd has this flag: as a variable it can do no harm.
            "ETCD_ENABLE_V2"
        ]
    );
    for arg in ["--name=etcd-0", "--data-dir=/data", "--snapshot-count=2", "--pre-vote=true", "--new=1"] {
        assert_eq!(command.args.iter().filter(|given| *given == arg).count(), 1, "{arg}");
    }
    let mut flags: Vec<&str> = command.args.iter().filter_map(|arg| arg.split('=').next()).collect();
    let count = flags.len();
    flags.sort_unstable();
    flags.dedup();
    assert_eq!(flags.len(), count);
    assert_eq!(
        settings.warnings,
        [
            "BOOTSTRAP_PASSWORD means nothing",
            "ETCD_ROOT_PASSWORD is no setting of etcd 3.4 to 3.7 and is kept from etcd, which would log its value; if a newer \
          etcd has it, give it as a flag"
        ]
    );
    assert_eq!(
        settings.etcd_settings.foreign_variables,
        ["ETCD_PORT", "ETCD_PORT_2379_TCP_ADDR", "ETCD_ROOT_PASSWORD", "ETCD_SERVICE_HOST", "ETCD_VERSION"]
    );
    assert!(!format!("{command:?}{settings:?}").contains("hush"));
}

#[test]
fn a_flag_goes_before_its_variable_and_says_so() {
    let env = format!("{} BOOTSTRAP_INITIAL_CLUSTER_SIZE=1 ETCD_DATA_DIR=/old", pod(0));
    let settings = settings("--data-dir=/new", &env).unwrap();
    assert_eq!(settings.data_dir, Path::new("/new"));
    assert_eq!(settings.warnings, ["--data-dir=/new goes before ETCD_DATA_DIR=/old; etcd itself would refuse the two"]);
}

#[test]
fn force_new_cluster_is_for_one_pod() {
    let env = format!("{} BOOTSTRAP_INITIAL_CLUSTER_SIZE=1 BOOTSTRAP_FORCE_NEW_CLUSTER=etcd-0", pod(0));
    let settings = settings("--data-dir=/d --force-new-cluster", &env).unwrap();
    assert!(settings.intent.force_new_cluster);
    assert!(!rendered(&settings, "").args.iter().any(|arg| arg.contains("force-new-cluster")), "only when decided");
    let start = Start { force_new_cluster: true, ..start(InitialClusterState::Existing, None) };
    let args = command(&settings, &start, [], Path::new("/unused")).args;
    assert!(args.contains(&"--force-new-cluster=true".to_owned()));
}

#[test]
fn timeouts_follow_the_command() {
    let env = format!("{} BOOTSTRAP_INITIAL_CLUSTER_SIZE=1", pod(0));
    for (args, extra, timeout) in [
        ("run", "", None),
        ("plan", "", Some(30)),
        ("leave", "", Some(30)),
        ("run", "BOOTSTRAP_TIMEOUT=90", Some(90)),
        ("run", "BOOTSTRAP_TIMEOUT=5m", Some(300)),
        ("leave", "BOOTSTRAP_TIMEOUT=0", None),
        ("run --timeout=7s", "BOOTSTRAP_TIMEOUT=5m", Some(7)),
    ] {
        let settings = settings(args, &format!("{env} {extra}")).unwrap();
        assert_eq!(settings.intent.timeout, timeout.map(Duration::from_secs), "{args} {extra}");
    }
    assert_eq!(settings("render --output=/x", &env).unwrap().intent.join_as, JoinAs::Voter);
    assert_eq!(settings("sidecar --output=/x", &env).unwrap().intent.join_as, JoinAs::Learner);
}

#[test]
fn the_password_is_read_and_never_shown() {
    let env = format!("{} BOOTSTRAP_INITIAL_CLUSTER_SIZE=1", pod(0));
    for (extra, expected) in [
        ("", None),
        ("ETCDCTL_USER=root", None),
        ("ETCDCTL_USER=root:a:b", Some(("root", "a:b"))),
        ("ETCDCTL_USER=root ETCDCTL_PASSWORD=pw", Some(("root", "pw"))),
        ("BOOTSTRAP_USER=admin BOOTSTRAP_PASSWORD_FILE=/secrets/password", Some(("admin", "s3cret"))),
        ("BOOTSTRAP_USER=admin:x ETCDCTL_USER=root:y", Some(("admin", "x"))),
    ] {
        let settings = settings("", &format!("{env} {extra}")).unwrap();
        let found = settings.credentials.as_ref().map(|it| (it.user.as_str(), it.password.as_str()));
        assert_eq!(found, expected, "{extra}");
        assert!(!format!("{settings:?}").contains("s3cret"));
    }
    let error = settings("", &format!("{env} BOOTSTRAP_USER=root:hush BOOTSTRAP_PASSWORD_FILE=/secrets/password"));
    assert!(!error.unwrap_err().message.contains("hush"));
}

#[test]
fn tls_files_are_etcds_and_etcdctls() {
    let args = "--peer-cert-file=/p.crt --peer-key-file=/p.key --peer-trusted-ca-file=/p.ca --peer-client-cert-auth \
                --cert-file=/s.crt --key-file=/s.key --trusted-ca-file=/s.ca --client-cert-auth=t";
    let env = format!("{} BOOTSTRAP_INITIAL_CLUSTER_SIZE=1", pod(0));
    let plain = settings(args, &env).unwrap();
    assert_eq!(plain.peer_tls.cert.as_deref(), Some(Path::new("/p.crt")));
    assert!(plain.peer_tls.client_cert_auth && plain.client_tls.client_cert_auth);
    assert_eq!(plain.client_tls.cert.as_deref(), Some(Path::new("/s.crt")));
    assert_eq!(plain.client_tls.trusted_ca.as_deref(), Some(Path::new("/s.ca")));
    let etcdctl = "ETCDCTL_CACERT=/c.ca ETCDCTL_CERT=/c.crt ETCDCTL_KEY=/c.key";
    let client = settings(args, &format!("{env} {etcdctl}")).unwrap().client_tls;
    assert_eq!(client.cert.as_deref(), Some(Path::new("/c.crt")));
    assert_eq!(client.trusted_ca.as_deref(), Some(Path::new("/c.ca")));
}

#[test]
fn a_configuration_file_is_merged_and_kept() {
    let env = format!("{} BOOTSTRAP_INITIAL_CLUSTER_SIZE=1 ETCD_SNAPSHOT_COUNT=5000", pod(0));
    let settings = settings("--config-file /etc/etcd.yaml --initial-cluster-state=existing", &env).unwrap();
    assert_eq!(settings.peer_tls.cert.as_deref(), Some(Path::new("/tls/peer.crt")));
    assert!(settings.peer_tls.client_cert_auth);
    assert_eq!(settings.data_dir, Path::new("/data"));
    let command = rendered(&settings, &env);
    assert_eq!(command.args, ["--config-file=/run/etcd.yaml"]);
    assert!(!command.env.iter().any(|(name, _)| name.to_string_lossy().starts_with("ETCD_")));
    insta::assert_snapshot!(command.config_file.unwrap().1, @r#"
    {
      "advertise-client-urls": "http://etcd-0.etcd.default.svc:2379",
      "data-dir": "/data",
      "discovery-fallback": "proxy",
      "discovery-srv": null,
      "enable-pprof": true,
      "grpc-keepalive-interval": 7200000000000,
      "initial-advertise-peer-urls": "http://etcd-0.etcd.default.svc:2380",
      "initial-cluster": "etcd-0=http://etcd-0.etcd.default.svc:2380",
      "initial-cluster-state": "new",
      "initial-cluster-token": "default/etcd",
      "listen-client-urls": "http://0.0.0.0:2379",
      "listen-peer-urls": "http://0.0.0.0:2380",
      "log-outputs": [
        "stderr"
      ],
      "name": "etcd-0",
      "peer-transport-security": {
        "cert-file": "/tls/peer.crt",
        "client-cert-auth": true,
        "key-file": "/tls/peer.key"
      },
      "proxy": "off",
      "quota-backend-bytes": 8589934592,
      "snapshot-count": 5000,
      "something-new": {
        "a": [
          1,
          2
        ]
      }
    }
    "#);
}

#[test]
fn flags_become_a_configuration_file() {
    let args = "--data-dir=/data --snapshot-count=5 --pre-vote=t --grpc-keepalive-interval=1m30s --log-outputs=stderr,/log \
                --peer-cert-file=/p.crt --peer-key-file=/p.key --peer-cert-allowed-cn=a,b --auto-compaction-retention=5";
    let env = format!("{} BOOTSTRAP_INITIAL_CLUSTER_SIZE=1", pod(0));
    let given = settings(args, &env).unwrap();
    insta::assert_snapshot!(config_text(&given, &start(InitialClusterState::New, None)).unwrap(), @r#"
    {
      "advertise-client-urls": "http://etcd-0.etcd.default.svc:2379",
      "auto-compaction-retention": "5",
      "data-dir": "/data",
      "grpc-keepalive-interval": 90000000000,
      "initial-advertise-peer-urls": "https://etcd-0.etcd.default.svc:2380",
      "initial-cluster": "etcd-0=https://etcd-0.etcd.default.svc:2380",
      "initial-cluster-state": "new",
      "initial-cluster-token": "default/etcd",
      "listen-client-urls": "http://0.0.0.0:2379",
      "listen-peer-urls": "https://0.0.0.0:2380",
      "log-outputs": [
        "stderr",
        "/log"
      ],
      "name": "etcd-0",
      "peer-transport-security": {
        "allowed-cn": [
          "a",
          "b"
        ],
        "cert-file": "/p.crt",
        "key-file": "/p.key"
      },
      "pre-vote": true,
      "snapshot-count": 5
    }
    "#);
    for args in ["--peer-crl-file=/crl", "--new-flag=1"] {
        let error = config_text(&settings(args, &env).unwrap(), &start(InitialClusterState::New, None)).unwrap_err();
        assert!(error.message.contains(args), "{error}");
    }
}

#[test]
fn a_program_of_this_container_is_not_taken_for_the_etcd_of_another() {
    let env = "POD_NAME=etcd-0 SERVICE_NAME=etcd POD_NAMESPACE=ns BOOTSTRAP_INITIAL_CLUSTER_SIZE=3";
    let here = |args: &str, more: &str| settings(args, &format!("{env} {more}")).unwrap().etcd_here;
    for args in ["run", "plan", "check"] {
        assert_eq!(here(args, ""), Some("/usr/local/bin/etcd".into()), "{args}");
    }
    for args in ["render --output=/config/etcd.yaml", "sidecar --output=/config/etcd.yaml"] {
        assert_eq!(here(args, ""), None, "{args}");
        assert_eq!(here(args, "BOOTSTRAP_ETCD=/opt/etcd"), Some("/opt/etcd".into()), "{args}");
    }
}

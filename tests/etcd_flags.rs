//! Real etcds, of every version at hand, on what this program thinks of their flags and gives them to start with.
//!
//! `TEST_ETCDS=DIR` names a directory with `VERSION/etcd`; else the etcd on the PATH is asked.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use etcd_bootstrap::data_dir::Paths;
use etcd_bootstrap::etcd_command::{EtcdCommand, command, config_text, restart_only_text};
use etcd_bootstrap::known_flags::{KNOWN_FLAGS, Kind, known_flag};
use etcd_bootstrap::names::ClusterId;
use etcd_bootstrap::plan::{InitialClusterState, Start};
use etcd_bootstrap::settings::{Settings, Surroundings, resolve};
use etcd_bootstrap::sidecar::locks;
use etcd_bootstrap::{cli, config_file, unstarted};

/// How long an etcd may take until it answers: this machine may be busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// The etcds at hand; a message where there are none.
fn etcds() -> Vec<PathBuf> {
    let found: Vec<PathBuf> = match std::env::var_os("TEST_ETCDS") {
        Some(directory) => {
            let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path().join("etcd"));
            entries.filter(|path| path.is_file()).collect()
        }
        None => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).map(|dir| dir.join("etcd")).filter(|path| path.is_file()).take(1).collect()
        }
    };
    if found.is_empty() {
        eprintln!("SKIPPED: no etcd on the PATH, and TEST_ETCDS names no directory with VERSION/etcd");
    }
    found
}

fn output(etcd: &Path, args: &[String]) -> String {
    let output = Command::new(etcd).args(args).env_clear().output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn every_flag_in_etcds_help_is_known() {
    for etcd in etcds() {
        let help = output(&etcd, &["--help".to_owned()]);
        let listed = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
        let names: BTreeSet<&str> = listed.filter_map(|line| line.split([' ', '\'', '=', ')']).next()).collect();
        assert!(names.len() > 50, "{help}");
        let unknown: Vec<&&str> = names.iter().filter(|name| known_flag(name).is_none()).collect();
        assert!(unknown.is_empty(), "{} has {unknown:?}", etcd.display());
    }
}

/// Go stops at the first flag that it does not have or cannot read: if that is the last one, all others are fine.
#[test]
fn every_etcd_has_the_flags_that_every_etcd_has() {
    let value = |name: &str| match name {
        "initial-cluster-state" => "new",
        "discovery-fallback" => "exit",
        "max-concurrent-streams" => "5",
        name if name.ends_with("-urls") => "http://127.0.0.1:1",
        "cors" => "http://127.0.0.1:1",
        _ => "text",
    };
    let flags = KNOWN_FLAGS.iter().filter(|flag| flag.everywhere);
    let mut args: Vec<String> = flags
        .map(|flag| match flag.kind {
            Kind::Bool | Kind::Ignored => format!("--{}", flag.name),
            Kind::Text | Kind::List => format!("--{}={}", flag.name, value(flag.name)),
            Kind::Number => format!("--{}=5", flag.name),
            Kind::Duration => format!("--{}=1s", flag.name),
        })
        .collect();
    args.push("--no-such-flag".to_owned());
    for etcd in etcds() {
        let said = output(&etcd, &args);
        assert!(said.contains("not defined: -no-such-flag"), "{}: {said}", etcd.display());
    }
}

/// Flags that the table says are of one type are refused by etcd with values of another.
#[test]
fn etcd_refuses_what_is_refused_for_it() {
    for etcd in etcds() {
        let help = output(&etcd, &["--help".to_owned()]);
        let typed = KNOWN_FLAGS.iter().filter(|flag| !matches!(flag.kind, Kind::Text | Kind::List | Kind::Ignored));
        for flag in typed.filter(|flag| help.contains(&format!("--{} ", flag.name))).step_by(7) {
            let said = output(&etcd, &[format!("--{}=text", flag.name)]);
            assert!(said.contains("invalid"), "{} --{}=text: {said}", etcd.display(), flag.name);
        }
    }
}

/// A pod with a volume of its own, whose etcd listens on ports of its own.
struct Pod {
    volume: tempfile::TempDir,
    peer: u16,
    args: Vec<String>,
}

impl Pod {
    /// One that is given flags.
    fn with_flags() -> Self {
        Self::new(|pod, settings| {
            let forms: [fn(&str, &str) -> Vec<String>; 3] = [
                |name, value| vec![format!("--{name}={value}")],
                |name, value| vec![format!("-{name}={value}")],
                |name, value| vec![format!("--{name}"), value.to_owned()],
            ];
            let formed = settings.iter().zip(forms.iter().cycle()).flat_map(|((name, value), form)| form(name, value));
            pod.args = formed.chain(["--pre-vote".to_owned()]).collect();
        })
    }

    /// One that is given a configuration file.
    fn with_file() -> Self {
        Self::new(|pod, settings| {
            let by_hand = "# by hand\nelection-timeout: 1500\nlog-outputs: [stderr]\nproxy: 'off'\nenable-pprof: on\n";
            let lines = settings.iter().map(|(name, value)| format!("{name}: {value}\n"));
            let path = pod.volume.path().join("etcd.yaml");
            std::fs::write(&path, by_hand.to_owned() + &lines.collect::<String>()).unwrap();
            pod.args = vec![format!("--config-file={}", path.display())];
        })
    }

    fn new(give: impl Fn(&mut Self, &[(&str, String)])) -> Self {
        let volume = tempfile::tempdir().unwrap();
        let ports: Vec<TcpListener> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let [peer, client] = [0, 1].map(|index: usize| ports[index].local_addr().unwrap().port());
        let settings = [
            ("name", "etcd-0".to_owned()),
            ("data-dir", volume.path().join("data").display().to_string()),
            ("initial-cluster", format!("etcd-0=http://127.0.0.1:{peer}")),
            ("listen-peer-urls", format!("http://127.0.0.1:{peer}")),
            ("listen-client-urls", format!("http://127.0.0.1:{client}")),
            ("initial-cluster-state", "existing".to_owned()),
            ("logger", "zap".to_owned()),
        ];
        let mut pod = Self { volume, peer, args: Vec::new() };
        give(&mut pod, &settings);
        pod
    }

    fn settings(&self, etcd: &Path) -> Settings {
        let env: BTreeMap<String, String> =
            environment(etcd).into_iter().map(|(name, value)| (text(name), text(value))).collect();
        let surroundings = Surroundings {
            hostname: "etcd-0".to_owned(),
            working_dir: self.volume.path().to_owned(),
            resolv_conf: None,
            service_account: "/account".into(),
            service_account_namespace: None,
            read_file: &|path: &Path| std::fs::read_to_string(path),
            has_ipv4: true,
            has_ipv6: false,
        };
        resolve(&cli::parse(&self.args, &env).unwrap(), &env, &surroundings).unwrap()
    }

    fn merged(&self) -> PathBuf {
        self.volume.path().join("merged.yaml")
    }

    fn command(&self, settings: &Settings, state: InitialClusterState) -> EtcdCommand {
        let command = command(settings, &start(settings, state), environment(&settings.etcd), &self.merged());
        if let Some((path, text)) = &command.config_file {
            config_file::write(path, text).unwrap();
        }
        command
    }
}

fn text(text: OsString) -> String {
    text.into_string().unwrap()
}

/// What a pod finds in its environment: service links, this program's variables, and settings of some etcds.
fn environment(etcd: &Path) -> Vec<(OsString, OsString)> {
    let etcd = etcd.to_string_lossy();
    let variables = [
        ("ETCD_PORT", "tcp://10.0.0.1:2379"),
        ("ETCD_SERVICE_HOST", "10.0.0.1"),
        ("ETCD_PORT_2379_TCP_ADDR", "10.0.0.1"),
        ("ETCD_VERSION", "0.0.1"),
        ("BOOTSTRAP_ETCD", &*etcd),
        ("HOSTNAME", "etcd-0"),
    ];
    variables.map(|(name, value)| (name.into(), value.into())).to_vec()
}

fn start(settings: &Settings, state: InitialClusterState) -> Start {
    Start {
        state,
        initial_cluster: None,
        member_id: settings.intent.static_id().unwrap(),
        cluster_id: ClusterId(0),
        first: true,
        learner: false,
        confirmed: false,
        force_new_cluster: false,
    }
}

struct Running(Child);

impl Running {
    fn start(command: &EtcdCommand, log: &Path) -> Self {
        let log = std::fs::File::create(log).unwrap();
        let mut etcd = Command::new(&command.program);
        etcd.args(&command.args).env_clear().envs(command.env.iter().map(|(name, value)| (name, value)));
        Self(etcd.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn members(peer: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", peer)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(b"GET /members HTTP/1.0\r\n\r\n").ok()?;
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    // Not until it closes the connection, for which etcd takes its time.
    while !answer.ends_with(b"]\n") {
        let length = stream.read(&mut part).ok().filter(|length| *length > 0)?;
        answer.extend_from_slice(&part[..length]);
    }
    let answer = String::from_utf8(answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned()).filter(|body| body.starts_with('['))
}

/// The member that starts so has the name and the ID that were planned.
fn assert_founds(pod: &Pod, settings: &Settings, command: &EtcdCommand) {
    let log = pod.volume.path().join("log");
    let mut running = Running::start(command, &log);
    let deadline = Instant::now() + PATIENCE;
    let said = || std::fs::read_to_string(&log).unwrap();
    let listed = loop {
        if let Some(listed) = members(pod.peer) {
            break listed;
        }
        assert!(
            running.0.try_wait().unwrap().is_none(),
            "{} {:?}: {}",
            command.program.display(),
            command.args,
            said()
        );
        assert!(Instant::now() < deadline, "{}: {}", command.program.display(), said());
        std::thread::sleep(Duration::from_millis(50));
    };
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["name"], "etcd-0");
    assert_eq!(listed[0]["id"], settings.intent.static_id().unwrap().0);
    assert!(!said().contains("10.0.0.1"), "no service link was logged: {}", said());
}

#[test]
fn etcd_starts_with_what_is_rendered_from_flags() {
    for etcd in etcds() {
        let pod = Pod::with_flags();
        let settings = pod.settings(&etcd);
        assert_founds(&pod, &settings, &pod.command(&settings, InitialClusterState::New));
    }
}

#[test]
fn etcd_starts_with_what_is_merged_into_its_file() {
    for etcd in etcds() {
        let pod = Pod::with_file();
        let settings = pod.settings(&etcd);
        assert_founds(&pod, &settings, &pod.command(&settings, InitialClusterState::New));
    }
}

#[test]
fn etcd_starts_with_a_file_made_of_flags() {
    for etcd in etcds() {
        let pod = Pod::with_flags();
        let settings = pod.settings(&etcd);
        let mut command = pod.command(&settings, InitialClusterState::New);
        let text = config_text(&settings, &start(&settings, InitialClusterState::New)).unwrap();
        config_file::write(&pod.merged(), &text).unwrap();
        command.args = vec![format!("--config-file={}", pod.merged().display())];
        assert_founds(&pod, &settings, &command);
    }
}

/// What keeps a sidecar and its etcd apart: the peer port, etcd's locks, the mark that etcd removes, and a file that can
/// only restart.
#[test]
fn etcds_port_and_locks_its_mark_and_a_file_that_can_only_restart() {
    for etcd in etcds() {
        let pod = Pod::with_flags();
        let settings = pod.settings(&etcd);
        let paths = Paths::locate(&settings.data_dir, None).unwrap();
        let own = settings.intent.static_id();
        let first = config_text(&settings, &start(&settings, InitialClusterState::New)).unwrap();
        let restart = restart_only_text(&settings).unwrap();
        let log = pod.volume.path().join("log");
        let run = |text: &str| {
            config_file::write(&pod.merged(), text).unwrap();
            let mut command = pod.command(&settings, InitialClusterState::New);
            command.args = vec![format!("--config-file={}", pod.merged().display())];
            Running::start(&command, &log)
        };
        let refused = |text: &str, reason: &str| {
            assert!(!run(text).0.wait().unwrap().success());
            let said = std::fs::read_to_string(&log).unwrap();
            assert!(said.contains(reason), "{}: {said}", etcd.display());
            let untouched = unstarted::read(&paths).unwrap() == own && !locks::held(&paths).unwrap();
            assert!(untouched, "{}: {reason}", etcd.display());
        };
        let runs = |text: &str| {
            let running = run(text);
            let deadline = Instant::now() + PATIENCE;
            while members(pod.peer).is_none() {
                assert!(Instant::now() < deadline, "{}", std::fs::read_to_string(&log).unwrap());
                std::thread::sleep(Duration::from_millis(20));
            }
            assert!(locks::held(&paths).unwrap(), "{}", etcd.display());
            assert_eq!(unstarted::read(&paths).unwrap(), None, "{}", etcd.display());
            drop(running);
            assert!(!locks::held(&paths).unwrap(), "{}", etcd.display());
        };
        unstarted::mark(&paths, own.unwrap()).unwrap();
        let port = TcpListener::bind(("127.0.0.1", pod.peer)).unwrap();
        refused(&first, "address already in use");
        assert!(!paths.member_dir.join("snap").exists(), "{}: the port is taken first", etcd.display());
        drop(port);
        refused(&restart, "couldn't find local name");
        runs(&first);
        runs(&restart);
    }
}

/// `existing` reaches etcd by both ways: it looks for a cluster, where there is none.
#[test]
fn the_decided_state_reaches_etcd() {
    for (etcd, pod) in
        etcds().into_iter().flat_map(|etcd| [(etcd.clone(), Pod::with_flags()), (etcd, Pod::with_file())])
    {
        let command = pod.command(&pod.settings(&etcd), InitialClusterState::Existing);
        let log = pod.volume.path().join("log");
        let mut running = Running::start(&command, &log);
        let code = running.0.wait().unwrap();
        let said = std::fs::read_to_string(&log).unwrap();
        assert!(!code.success() && said.contains("cannot fetch cluster info"), "{}: {said}", etcd.display());
    }
}

#[test]
fn a_written_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("etcd.yaml");
    for text in ["first", "second"] {
        config_file::write(&path, text).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left behind");
}

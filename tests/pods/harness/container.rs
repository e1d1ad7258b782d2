//! One run of a pod's program as PID 1 of fresh PID, mount, UTS and IPC namespaces.

use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::network::PodNetwork;
use super::process;
use super::spec::PodSpec;
use super::tools;

/// Marks the processes that still set the container up.
const SET_UP: &str = "pod-set-up";
/// The last step of the set-up: it execs the program with nothing else in its environment.
const ENV: [&str; 2] = ["env", "-i"];
const SET_UP_DEADLINE: Duration = Duration::from_secs(30);
pub const POD_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// As a container runtime reports it.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }

    fn new(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, signal) => Self::Signal(signal.unwrap_or(0)),
        }
    }
}

type ExitCell = Arc<(Mutex<Option<Exit>>, Condvar)>;

pub struct Container {
    /// PID 1 as the host sees it.
    pub pid: u32,
    pub log: PathBuf,
    exit: ExitCell,
}

impl Container {
    /// Starts the program and returns once PID 1 is that program.
    pub fn start(dir: &Path, spec: &PodSpec, network: &Arc<PodNetwork>, log: PathBuf) -> Self {
        let script = script(dir, spec);
        let exit = ExitCell::default();
        let (sender, receiver) = mpsc::channel();
        // The thread lives as long as its child: the child dies with it (--pdeathsig), it reaps the child.
        std::thread::spawn({
            let (network, exit, log) = (Arc::clone(network), Arc::clone(&exit), log.clone());
            move || {
                network.netns.enter();
                // Children of this thread are PID 1 of a new namespace; nothing else changes for it.
                unshare(CloneFlags::CLONE_NEWPID).expect("failed to create a PID namespace");
                let mut child = spawn(&script, &log);
                sender.send(child.id()).ok();
                let status = child.wait().expect("failed to wait for a container");
                *exit.0.lock().expect("no holder panics") = Some(Exit::new(status));
                exit.1.notify_all();
            }
        });
        let pid = receiver.recv().expect("failed to spawn a container");
        let container = Self { pid, log, exit };
        container.wait_until_set_up();
        container
    }

    fn wait_until_set_up(&self) {
        let end = Instant::now() + SET_UP_DEADLINE;
        while !is_the_program(&process::cmdline(self.pid)) {
            if let Some(exit) = self.exit() {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                // A program may be done before anybody looked; a failed set-up says so in the log.
                assert!(!log.contains(SET_UP), "failed to set up a pod ({exit:?}):\n{log}");
                return;
            }
            assert!(Instant::now() < end, "a pod was not set up in {SET_UP_DEADLINE:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn exit(&self) -> Option<Exit> {
        *self.exit.0.lock().expect("no holder panics")
    }

    pub fn wait_for_exit(&self, deadline: Duration) -> Option<Exit> {
        let guard = self.exit.0.lock().expect("no holder panics");
        let (guard, _) =
            self.exit.1.wait_timeout_while(guard, deadline, |exit| exit.is_none()).expect("no holder panics");
        *guard
    }

    /// To PID 1, unless it is gone.
    pub fn signal(&self, signal: Signal) {
        if self.exit().is_none() {
            kill(pid_of(self.pid), signal).ok();
        }
    }

    /// To every process of the container, PID 1 first.
    pub fn signal_all(&self, signal: Signal) {
        self.signal(signal);
        for pid in self.processes() {
            kill(pid_of(pid), signal).ok();
        }
    }

    pub fn processes(&self) -> Vec<u32> {
        if self.exit().is_some() {
            return Vec::new();
        }
        process::in_same_pid_namespace(self.pid)
    }

    /// SIGKILL of everything at once: the kernel ends a PID namespace with its PID 1.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
        let exit = self.wait_for_exit(Duration::from_secs(20));
        assert!(exit.is_some(), "a killed container is still there");
    }
}

fn is_the_program(argv: &[String]) -> bool {
    let setting_up = argv.iter().any(|arg| arg == SET_UP) || argv.starts_with(&ENV.map(str::to_owned));
    !argv.is_empty() && !setting_up
}

fn pid_of(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("a PID fits"))
}

fn spawn(script: &str, log: &Path) -> Child {
    let out = OpenOptions::new().create(true).append(true).open(log).expect("failed to open a pod's log");
    let err = out.try_clone().expect("failed to share a pod's log");
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--mount", "--uts", "--ipc"])
        .args(["sh", "-c", script, SET_UP])
        .env_clear()
        .env("PATH", tools::search_path())
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .expect("failed to run setpriv")
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// The shell script that builds the pod's root, moves into it and execs the program.
fn script(dir: &Path, spec: &PodSpec) -> String {
    let mut lines = vec![
        format!("set -eu; trap 'echo {SET_UP} failed >&2' EXIT"),
        format!("mount -t tmpfs -o mode=755 tmpfs {root}; cd {root}", root = quoted_path(&dir.join("root"))),
        "mkdir -p dev proc etc tmp usr .old".to_owned(),
        "cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom dev/".to_owned(),
        "mount --rbind /usr usr; mount -t tmpfs -o mode=755 tmpfs usr/local/bin".to_owned(),
        "for d in bin sbin lib lib32 lib64 libx32; do if [ -L /$d ]; then cp -P /$d $d; elif [ -d /$d ]; then mkdir $d; mount --bind /$d $d; fi; done".to_owned(),
        format!("mount --bind {} etc", quoted_path(&dir.join("etc"))),
        format!("cp -RT {} .", quoted_path(&dir.join("files"))),
        "mount -t proc proc proc".to_owned(),
        format!("echo {} > proc/sys/kernel/hostname", quoted(&spec.name)),
    ];
    lines.push(bind_file(&dir.join("termination-log"), "dev/termination-log"));
    let etcd = spec.has_etcd.then(|| spec.etcd.dir.join("etcd"));
    for program in etcd.iter().chain([&spec.etcd.dir.join("etcdctl")]).chain(&spec.binaries) {
        let name = program.file_name().expect("a program is a file").to_string_lossy();
        lines.push(bind_file(program, &format!("usr/local/bin/{name}")));
    }
    for mount_point in &spec.volumes {
        let place = quoted(mount_point.trim_start_matches('/'));
        let volume = quoted_path(&super::volumes::directory(dir, mount_point));
        lines.push(format!("mkdir -p {place}; mount --bind {volume} {place}"));
    }
    lines.push("pivot_root . .old; cd /; umount -l /.old; rmdir /.old; trap - EXIT".to_owned());
    lines.push(format!("exec {} {}", ENV.join(" "), program_words(spec)));
    lines.join("\n")
}

fn bind_file(host: &Path, place: &str) -> String {
    let place = quoted(place);
    format!("touch {place}; mount --bind {} {place}", quoted_path(host))
}

/// NAME=value words and the argv, for `env`.
fn program_words(spec: &PodSpec) -> String {
    let own = [("PATH", POD_PATH), ("HOSTNAME", spec.name.as_str())];
    let own = own
        .iter()
        .filter(|(name, _)| !spec.env.iter().any(|(given, _)| given == name))
        .map(|&(name, value)| quoted(&format!("{name}={value}")));
    let given = spec.env.iter().map(|(name, value)| quoted(&format!("{name}={value}")));
    let argv = spec.argv.iter().map(|arg| quoted(arg));
    own.chain(given).chain(argv).collect::<Vec<_>>().join(" ")
}

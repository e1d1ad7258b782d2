//! What a pod does, seen from outside: its exit, PID 1, probes, commands in it, logs.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use super::container::{Exit, POD_PATH};
use super::http::{self, HttpAnswer};
use super::pod::Pod;
use super::process;
use super::spec::CLIENT_PORT;
use super::tools;
use super::wait::eventually;

/// etcd 3.5's /readyz takes 7 s where there is no quorum.
const HTTP_DEADLINE: Duration = Duration::from_secs(10);

impl Pod {
    pub fn exit(&self) -> Option<Exit> {
        self.container()?.exit()
    }

    pub fn is_running(&self) -> bool {
        self.container().is_some_and(|c| c.exit().is_none())
    }

    #[track_caller]
    pub fn wait_for_exit(&self, deadline: Duration) -> Exit {
        let container = self.container();
        let container = container.unwrap_or_else(|| panic!("{} never ran", self.name()));
        match container.wait_for_exit(deadline) {
            Some(exit) => exit,
            None => panic!("{} still runs after {deadline:?}", self.name()),
        }
    }

    /// PID 1 as the host sees it.
    pub fn host_pid(&self) -> u32 {
        let container = self.container().filter(|c| c.exit().is_none());
        let container = container.unwrap_or_else(|| panic!("{} does not run", self.name()));
        container.pid
    }

    /// The argv of PID 1; empty where nothing runs.
    pub fn cmdline(&self) -> Vec<String> {
        match self.container() {
            Some(container) if container.exit().is_none() => process::cmdline(container.pid),
            _ => Vec::new(),
        }
    }

    pub fn environ(&self) -> Vec<(String, String)> {
        process::environ(self.host_pid())
    }

    /// PID 1 is etcd: the entrypoint has exec'd it.
    pub fn runs_etcd(&self) -> bool {
        let argv = self.cmdline();
        let program = argv.first().map(Path::new).and_then(Path::file_name);
        program.is_some_and(|name| name == "etcd")
    }

    /// Host PIDs and command lines of every process in the pod.
    pub fn processes(&self) -> Vec<(u32, String)> {
        let pids = self.container().map_or(Vec::new(), |c| c.processes());
        pids.into_iter().map(|pid| (pid, process::cmdline(pid).join(" "))).collect()
    }

    /// VmRSS of PID 1.
    pub fn resident_bytes(&self) -> u64 {
        process::resident_bytes(self.host_pid()).expect("a running process has a VmRSS")
    }

    /// A GET from the node, as the kubelet's probes do it.
    pub fn http_get(&self, port: u16, path: &str) -> Result<HttpAnswer, String> {
        self.get(port, None, path)
    }

    /// A GET from etcd's client port, with TLS where it has it.
    pub fn get_from_etcd(&self, path: &str) -> Result<HttpAnswer, String> {
        let spec = self.spec();
        let host = spec.domain_name();
        self.get(CLIENT_PORT, spec.client_tls.map(|config| (config, host)), path)
    }

    fn get(&self, port: u16, secure: Option<http::Secure>, path: &str) -> Result<HttpAnswer, String> {
        let Some(address) = self.addresses().first().copied() else {
            return Err(format!("{} is not there", self.name()));
        };
        let address = SocketAddr::new(address, port);
        let node = &self.node().netns;
        node.run(|| http::get(address, secure, path, HTTP_DEADLINE))
    }

    /// Runs `work` on a thread inside the pod's network namespace.
    pub fn in_pod<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let network = self.network();
        let network = network.unwrap_or_else(|| panic!("{} is not there", self.name()));
        network.netns.run(work)
    }

    /// A command in the pod, as `kubectl exec` runs it, with these variables and PATH.
    pub fn exec_with_env(&self, env: &[(String, String)], argv: &[&str]) -> Result<Output, String> {
        let container = self.container().filter(|c| c.exit().is_none());
        let container = container.ok_or_else(|| format!("{} does not run", self.name()))?;
        let pid = container.pid.to_string();
        let path = format!("PATH={POD_PATH}");
        let variables: Vec<String> = env.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let mut words = vec!["nsenter", "-t", &pid, "-m", "-u", "-i", "-n", "-p", "--"];
        words.extend(["env", "-i", &path]);
        words.extend(variables.iter().map(String::as_str));
        words.extend(argv);
        tools::output(&words, "")
    }

    pub fn exec(&self, argv: &[&str]) -> Result<Output, String> {
        self.exec_with_env(&[], argv)
    }

    /// Replaces files in the running container, as the kubelet does when a Secret changes.
    pub fn replace_files(&self, files: &[(String, String)]) {
        for (path, content) in files {
            let place = PathBuf::from(format!("/proc/{}/root{path}", self.host_pid()));
            let new = place.with_extension("new");
            fs::write(&new, content).unwrap_or_else(|e| panic!("{}: {e}", new.display()));
            fs::rename(&new, &place).unwrap_or_else(|e| panic!("{}: {e}", place.display()));
        }
    }

    // --- logs

    fn read_log(&self, container: u32) -> String {
        let bytes = fs::read(self.log_path(container)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What the present or last container wrote to stdout and stderr.
    pub fn logs(&self) -> String {
        let container = self.containers_started();
        self.read_log(container)
    }

    /// Of all containers, in order.
    pub fn all_logs(&self) -> String {
        let containers = self.containers_started();
        (1..=containers).map(|n| self.read_log(n)).collect()
    }

    /// The last lines, with a headline for a failed test's output.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.logs();
        let all: Vec<&str> = log.lines().collect();
        let tail = &all[all.len().saturating_sub(lines)..];
        let state = match self.exit() {
            Some(exit) => format!("ended: {exit:?}"),
            None => format!("runs: {}", self.cmdline().join(" ")),
        };
        let container = self.containers_started();
        let (name, addresses) = (self.key(), self.addresses());
        let text = tail.join("\n");
        format!("--- {name} {addresses:?}, container {container}, {state}\n{text}")
    }

    #[track_caller]
    pub fn wait_for_log(&self, deadline: Duration, text: &str) {
        let name = self.name();
        eventually(deadline, &format!("{name} logs {text:?}"), || {
            let found = self.logs().contains(text);
            found.then_some(()).ok_or_else(|| format!("{name} did not"))
        });
    }

    pub fn termination_message(&self) -> String {
        let path = self.directory().join("termination-log");
        fs::read_to_string(path).unwrap_or_default()
    }
}

//! Real etcds for the tests of this crate's clients: of every version in `TEST_ETCDS`, else the one on the PATH.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::{Access, CallFailure, Connection, Endpoint};
use crate::names::Url;
use crate::observation::MemberList;

pub(crate) const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// An etcd binary and the name of its version.
#[derive(Clone, Debug)]
pub(crate) struct Binary {
    pub(crate) version: String,
    pub(crate) etcd: PathBuf,
}

/// All etcds that the tests run on; says so where there is none.
pub(crate) fn binaries() -> Vec<Binary> {
    let mut found = Vec::new();
    if let Some(directory) = std::env::var_os("TEST_ETCDS") {
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let etcd = entry.path().join("etcd");
            if etcd.is_file() {
                found.push(Binary { version: entry.file_name().to_string_lossy().into_owned(), etcd });
            }
        }
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let on_path = std::env::split_paths(&path).map(|directory| directory.join("etcd")).find(|etcd| etcd.is_file());
        found.extend(on_path.map(|etcd| Binary { version: "PATH".to_owned(), etcd }));
    }
    found.sort_by(|left, right| left.version.cmp(&right.version));
    if found.is_empty() {
        eprintln!("SKIPPED: no etcd on the PATH and none in TEST_ETCDS=DIR (DIR/VERSION/etcd)");
    }
    found
}

/// The versions for what does not depend on them: 3.6.16, else the newest.
pub(crate) fn one_binary() -> Option<Binary> {
    let mut all = binaries();
    let index = all.iter().position(|binary| binary.version == "3.6.16").or(all.len().checked_sub(1))?;
    Some(all.swap_remove(index))
}

/// A port below the ephemeral ones, so that no outgoing connection takes it meanwhile.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 12_000 + ((std::process::id() % 97) as u16 * 200 + offset) % 19_400;
        if TcpListener::bind((LOCAL, port)).is_ok() {
            return port;
        }
    }
}

/// One etcd, which is killed in the end.
pub(crate) struct Etcd {
    pub(crate) name: String,
    pub(crate) peer_url: Url,
    pub(crate) client_url: Url,
    pub(crate) args: Vec<String>,
    binary: Binary,
    child: Option<Child>,
    directory: TempDir,
}

impl Etcd {
    pub(crate) fn new(binary: &Binary, name: &str) -> Self {
        Self::with_scheme(binary, name, "http")
    }

    pub(crate) fn with_scheme(binary: &Binary, name: &str, scheme: &str) -> Self {
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap();
        let url = || format!("{scheme}://127.0.0.1:{}", free_port()).parse::<Url>().unwrap();
        let (peer_url, client_url) = (url(), url());
        let (name, binary) = (name.to_owned(), binary.clone());
        Self { name, peer_url, client_url, args: Vec::new(), binary, child: None, directory }
    }

    /// Starts it in a cluster of these members; `state` counts where it has no data.
    pub(crate) fn start(&mut self, cluster: &str, state: &str) {
        let log = std::fs::File::create(self.directory.path().join("log")).unwrap();
        let Self { name, peer_url, client_url, .. } = self;
        let child = Command::new(&self.binary.etcd)
            .args(["--name", name, "--data-dir"])
            .arg(self.directory.path().join("data"))
            .args(["--initial-advertise-peer-urls", &peer_url.to_string(), "--listen-peer-urls", &peer_url.to_string()])
            .args(["--advertise-client-urls", &client_url.to_string()])
            .args(["--listen-client-urls", &client_url.to_string()])
            .args(["--initial-cluster", cluster, "--initial-cluster-state", state])
            .args(["--heartbeat-interval=50", "--election-timeout=500"])
            .args(&self.args)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.child = Some(child.unwrap());
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Makes it hang.
    pub(crate) fn stop(&self) {
        let process = self.child.as_ref().unwrap().id();
        let process = nix::unistd::Pid::from_raw(process.try_into().unwrap());
        nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGSTOP).unwrap();
    }

    pub(crate) fn entry(&self) -> String {
        format!("{}={}", self.name, self.peer_url)
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint { url: self.client_url.clone(), addresses: vec![LOCAL] }
    }

    pub(crate) fn has_wal(&self) -> bool {
        let wal = std::fs::read_dir(self.directory.path().join("data/member/wal"));
        wal.is_ok_and(|mut files| {
            files.any(|file| file.is_ok_and(|file| file.path().ends_with("0000000000000000-0000000000000000.wal")))
        })
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// A linearizable list as soon as it gives one.
    pub(crate) async fn list(&self, access: &Access) -> MemberList {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            match self.try_list(access).await {
                Ok(list) => return list,
                Err(failure) if Instant::now() > end => panic!("{}: {failure}\n{}", self.name, self.log()),
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    pub(crate) async fn try_list(&self, access: &Access) -> Result<MemberList, CallFailure> {
        let deadline = Instant::now() + Duration::from_secs(1);
        Connection::open(&self.endpoint(), access, deadline).await?.linearizable_list(deadline).await
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `m1`, `m2` and so on, not started yet, and their `--initial-cluster`.
pub(crate) fn cluster(binary: &Binary, size: usize) -> (Vec<Etcd>, String) {
    let members: Vec<Etcd> = (1..=size).map(|number| Etcd::new(binary, &format!("m{number}"))).collect();
    let initial = members.iter().map(Etcd::entry).collect::<Vec<_>>().join(",");
    (members, initial)
}

/// A cluster whose members all answer.
pub(crate) async fn running_cluster(binary: &Binary, size: usize) -> Vec<Etcd> {
    let (mut members, initial) = cluster(binary, size);
    members.iter_mut().for_each(|member| member.start(&initial, "new"));
    for member in &members {
        member.list(&Access::default()).await;
    }
    members
}

//! Real etcds for the tests of what is on the disk: found through TEST_ETCDS=DIR (DIR/VERSION/etcd), else the PATH.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Every etcd there is, by version (or `PATH`); says so where there is none.
pub(crate) fn etcds() -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    if let Some(dir) = std::env::var_os("TEST_ETCDS") {
        for entry in std::fs::read_dir(dir).expect("TEST_ETCDS").flatten() {
            let etcd = entry.path().join("etcd");
            if etcd.is_file() {
                found.push((entry.file_name().to_string_lossy().into_owned(), etcd));
            }
        }
        found.sort();
        assert!(!found.is_empty(), "TEST_ETCDS has no VERSION/etcd");
    } else if let Some(etcd) = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .map(|dir| dir.join("etcd"))
        .find(|etcd| etcd.is_file())
    {
        found.push(("PATH".to_owned(), etcd));
    } else {
        eprintln!("SKIPPED: no etcd: set TEST_ETCDS=DIR (DIR/VERSION/etcd) or put etcd on the PATH");
    }
    found
}

/// A running member of a cluster of one.
pub(crate) struct Etcd {
    child: Child,
    client: u16,
    peer: u16,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Etcd {
    /// Starts one on this data directory, and waits until it serves; none where it ends or hangs instead.
    pub(crate) fn start(etcd: &Path, data_dir: &Path, more: &[&str]) -> Option<Self> {
        let (client, peer) = (free_port(), free_port());
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        // A fixed advertised URL, so that a restart is the same member.
        let advertised = "http://127.0.0.1:2380";
        let child = Command::new(etcd)
            .args(["--name", "m", "--data-dir"])
            .arg(data_dir)
            .args(["--listen-client-urls", &url(client), "--advertise-client-urls", &url(client)])
            .args(["--listen-peer-urls", &url(peer), "--initial-advertise-peer-urls", advertised])
            .args(["--initial-cluster", &format!("m={advertised}")])
            .args(more)
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd starts");
        let mut started = Self { child, client, peer };
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end && started.child.try_wait().expect("wait").is_none() {
            // A connection made before the member serves hangs: try another one soon.
            if request_within(Duration::from_millis(200), client, "GET", "/health", "")
                .is_some_and(|answer| answer.contains("\"true\""))
            {
                return Some(started);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// Puts a value.
    pub(crate) fn put(&self, base64: &str) {
        let body = format!("{{\"key\":\"aw==\",\"value\":\"{base64}\"}}");
        let answer = request(self.client, "POST", "/v3/kv/put", &body).expect("put");
        assert!(answer.contains("revision"), "{answer}");
    }

    /// Member ID and cluster ID as `/members` says.
    pub(crate) fn ids(&self) -> (u64, u64) {
        let answer = request(self.peer, "GET", "/members", "").expect("members");
        let cluster = answer.lines().find_map(|line| line.strip_prefix("X-Etcd-Cluster-Id: ")).expect("cluster ID");
        let (_, rest) = answer.split_once("\"id\":").expect("member ID");
        let member: String = rest.chars().take_while(char::is_ascii_digit).collect();
        (member.parse().expect("number"), u64::from_str_radix(cluster.trim(), 16).expect("hex"))
    }

    /// Raft term and index as Status says.
    pub(crate) fn term_and_index(&self) -> (u64, u64) {
        let answer = request(self.client, "POST", "/v3/maintenance/status", "{}").expect("status");
        let number = |name: &str| {
            let (_, rest) = answer.split_once(&format!("\"{name}\":\"")).expect("field");
            rest.split('"').next().expect("value").parse().expect("number")
        };
        (number("raftTerm"), number("raftIndex"))
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("port").port()
}

fn request(port: u16, method: &str, path: &str, body: &str) -> Option<String> {
    request_within(Duration::from_secs(5), port, method, path, body)
}

fn request_within(timeout: Duration, port: u16, method: &str, path: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(timeout)).ok()?;
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).ok()?;
    // Not up to the end of the stream: some versions close the peer port's connections seconds later.
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk).ok()?;
        answer.extend(&chunk[..count]);
        let text = String::from_utf8_lossy(&answer);
        let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.trim().parse::<usize>().ok());
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.len());
        if count == 0 || length.zip(body).is_some_and(|(length, body)| body >= length) {
            return Some(text.into_owned());
        }
    }
}

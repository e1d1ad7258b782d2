//! What /proc says about the processes of a pod.

use std::fs;
use std::path::PathBuf;

fn path(pid: u32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}

/// The NUL-separated strings of `cmdline` or `environ`; empty where the process is gone.
fn strings(pid: u32, file: &str) -> Vec<String> {
    let bytes = fs::read(path(pid, file)).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let text = text.strip_suffix('\0').unwrap_or(&text);
    if text.is_empty() {
        return Vec::new();
    }
    text.split('\0').map(str::to_owned).collect()
}

pub fn cmdline(pid: u32) -> Vec<String> {
    strings(pid, "cmdline")
}

pub fn environ(pid: u32) -> Vec<(String, String)> {
    strings(pid, "environ")
        .iter()
        .filter_map(|entry| entry.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// A line of /proc/PID/status, such as "VmRSS" or "SigIgn".
pub fn status_field(pid: u32, field: &str) -> Option<String> {
    let text = fs::read_to_string(path(pid, "status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).map(|value| value.trim().to_owned())
}

pub fn resident_bytes(pid: u32) -> Option<u64> {
    let value = status_field(pid, "VmRSS")?;
    let kilobytes: u64 = value.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// Neither gone nor a zombie.
pub fn is_alive(pid: &str) -> bool {
    let state = pid.parse().ok().and_then(|pid| status_field(pid, "State"));
    state.is_some_and(|state| !state.starts_with('Z') && !state.starts_with('X'))
}

/// Every thread has come to its stop.
pub fn is_stopped(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(path(pid, "task")) else {
        return true;
    };
    threads.flatten().all(|thread| {
        let text = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let state = text.lines().find_map(|line| line.strip_prefix("State:"));
        state.is_none_or(|state| state.trim().starts_with(['T', 't', 'Z', 'X']))
    })
}

/// All processes of this machine.
pub fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn namespace(pid: u32, kind: &str) -> Option<PathBuf> {
    fs::read_link(path(pid, &format!("ns/{kind}"))).ok()
}

/// Every process in the PID namespace of `pid`, itself included.
pub fn in_same_pid_namespace(pid: u32) -> Vec<u32> {
    let Some(wanted) = namespace(pid, "pid") else {
        return Vec::new();
    };
    all().into_iter().filter(|&other| namespace(other, "pid").as_ref() == Some(&wanted)).collect()
}

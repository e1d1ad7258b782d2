//! The vocabulary and the pure core name nothing that does IO, reads a clock, or runs a thread.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};

const PURE: &[&str] = &[
    "intent",
    "journal",
    "names",
    "observation",
    "checks",
    "cluster",
    "decide",
    "hearing",
    "identity",
    "leaving",
    "plan",
    "readiness",
    "span",
    "standing",
    "turn",
    "version",
];

const IMPURE: &[&str] = &[
    "tokio",
    "etcd_client",
    "hickory",
    "hyper",
    "nix",
    "rustls",
    "tonic",
    "rand",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "Instant",
];

fn sources(path: &Path, into: &mut Vec<PathBuf>) {
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| sources(&entry.unwrap().path(), into));
    } else if path.exists() {
        into.push(path.to_owned());
    }
}

/// The paths in a line of code, a group spelled out: `std::{fs, net::IpAddr}` is `std::fs` and `std::net::IpAddr`.
fn paths(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or_default();
    let words = |text: &str| -> Vec<String> {
        let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
        words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    match code.split_once("::{") {
        Some((before, group)) => {
            let prefix = words(before).pop().unwrap_or_default();
            words(group).into_iter().map(|word| format!("{prefix}::{word}")).collect()
        }
        None => words(code),
    }
}

fn is_impure(path: &str) -> bool {
    let names =
        |word: &str| path == word || path.starts_with(&format!("{word}::")) || path.ends_with(&format!("::{word}"));
    let address = |path: &str| path.ends_with("Addr");
    IMPURE.iter().any(|word| names(word))
        || names("SystemTime")
        || (path.starts_with("std::net") && !path.split("::").any(|part| address(part) || part.starts_with("Ip")))
        || path.starts_with("std::io")
        || path == "std::time"
}

#[test]
fn the_pure_core_is_pure() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for module in PURE {
        sources(&src.join(module), &mut files);
        let file = src.join(format!("{module}.rs"));
        assert!(file.exists(), "{}", file.display());
        files.push(file);
    }
    assert!(files.len() > PURE.len());
    let mut found = Vec::new();
    for file in files {
        for (n, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            let impure = paths(line).into_iter().filter(|path| is_impure(path));
            found.extend(impure.map(|path| format!("{}:{}: {path}", file.display(), n + 1)));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_check_sees_what_it_should() {
    for bad in [
        "use tokio::time;",
        "use std::{fs, io};",
        "std::env::var(x)",
        "use std::time::Instant;",
        "let now = SystemTime::now();",
        "use std::net::TcpStream;",
        "use etcd_client::Client;",
    ] {
        assert!(paths(bad).iter().any(|path| is_impure(path)), "{bad}");
    }
    for good in
        ["use std::net::IpAddr;", "use std::time::Duration;", "// tokio", "let nixie = 1;", "std::net::Ipv6Addr"]
    {
        assert!(!paths(good).iter().any(|path| is_impure(path)), "{good}");
    }
}

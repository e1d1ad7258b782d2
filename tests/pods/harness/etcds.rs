//! Which real etcds this machine has.

use std::path::{Path, PathBuf};

use super::tools;

const DEFAULT_VERSION: &str = "3.6.16";

/// One version: a directory with `etcd` and `etcdctl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etcd {
    pub version: String,
    pub dir: PathBuf,
}

impl Etcd {
    /// (major, minor, patch), for comparing.
    pub fn numbers(&self) -> (u32, u32, u32) {
        numbers(&self.version)
    }
}

fn numbers(version: &str) -> (u32, u32, u32) {
    let digits = |part: &str| {
        let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..end].parse().unwrap_or(0)
    };
    let mut parts = version.split('.').map(digits);
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}

/// All of them, oldest first.
pub fn etcds() -> Vec<Etcd> {
    let mut found = match std::env::var_os("TEST_ETCDS") {
        Some(dir) if !dir.is_empty() => versions_in(Path::new(&dir)),
        _ => single_etcd().into_iter().collect(),
    };
    found.sort_by_key(Etcd::numbers);
    assert!(
        !found.is_empty(),
        "no etcd here: run `make test`, which fetches it, or set TEST_ETCDS to a directory with VERSION/etcd and VERSION/etcdctl"
    );
    found
}

/// The given version ("3.6.16"), or the newest that begins so ("3.5").
pub fn etcd(version: &str) -> Etcd {
    let prefix = format!("{version}.");
    let known = etcds();
    known
        .iter()
        .rfind(|etcd| etcd.version == version || etcd.version.starts_with(&prefix))
        .cloned()
        .unwrap_or_else(|| panic!("no etcd {version} in TEST_ETCDS, only {known:?}"))
}

/// 3.6.16 if it is there, else the newest.
pub fn default_etcd() -> Etcd {
    let known = etcds();
    known.iter().find(|etcd| etcd.version == DEFAULT_VERSION).or(known.last()).cloned().expect("etcds() is never empty")
}

fn versions_in(dir: &Path) -> Vec<Etcd> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("TEST_ETCDS={}: {e}", dir.display()));
    entries
        .flatten()
        .filter(|entry| has_both(&entry.path()))
        .map(|entry| Etcd { version: entry.file_name().to_string_lossy().into_owned(), dir: entry.path() })
        .collect()
}

fn has_both(dir: &Path) -> bool {
    dir.join("etcd").is_file() && dir.join("etcdctl").is_file()
}

fn single_etcd() -> Option<Etcd> {
    let on_path = tools::find_program("etcd").and_then(|etcd| etcd.parent().map(PathBuf::from));
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/etcd");
    let dir = on_path.into_iter().chain([built.clone(), built.join("usr/bin")]).find(|dir| has_both(dir))?;
    let program = dir.join("etcd");
    let text = tools::run(&[&program.to_string_lossy(), "--version"]).ok()?;
    let version = text.lines().find_map(|line| line.strip_prefix("etcd Version: "))?;
    Some(Etcd { version: version.trim().to_owned(), dir })
}

//! The program of the writer's pod: writes numbered keys without pause, and reads back what was acknowledged.
//!
//! `writer write FILE ENDPOINT...` keeps in FILE how far it got; `writer count FILE` prints that; `writer check FILE
//! ENDPOINT...` reads all acknowledged keys at each of the members and compares the members with each other.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};

use etcd_client::{Client, GetOptions};

#[path = "writer/dial.rs"]
mod dial;

/// One attempt at one member; shorter than an election, so that gaps are the cluster's.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(500);
/// One attempt at a member that has to answer.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than a node that dies keeps a DNS server in the service.
const PATIENCE: Duration = Duration::from_secs(60);
const PACE: Duration = Duration::from_millis(20);
const PAGE: i64 = 2000;
const PREFIX: &str = "w/";

type Failure = Box<dyn Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["write", file, endpoints @ ..] if !endpoints.is_empty() => write(file, endpoints).await,
        ["check", file, endpoints @ ..] if !endpoints.is_empty() => check(&Progress::read(file)?, endpoints).await,
        ["count", file] => {
            println!("{}", Progress::read(file)?.line());
            Ok(())
        }
        _ => Err("usage: writer write|check FILE ENDPOINT... or writer count FILE".into()),
    }
}

/// How far the writer got. A number is tried until it is acknowledged, so that all up to the last one are.
#[derive(Default)]
struct Progress {
    acknowledged: u64,
    longest_gap_ms: u128,
}

impl Progress {
    fn line(&self) -> String {
        format!("{} {}", self.acknowledged, self.longest_gap_ms)
    }

    fn read(file: &str) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(file)?;
        let (acknowledged, gap) = text.trim().split_once(' ').ok_or("the file is being written")?;
        Ok(Self { acknowledged: acknowledged.parse()?, longest_gap_ms: gap.parse()? })
    }

    fn save(&self, file: &str) -> Result<(), Failure> {
        let new = format!("{file}.new");
        std::fs::write(&new, self.line())?;
        Ok(std::fs::rename(new, file)?)
    }
}

fn key(number: u64) -> String {
    format!("{PREFIX}{number:08}")
}

async fn write(file: &str, endpoints: &[&str]) -> Result<(), Failure> {
    let mut progress = Progress::default();
    progress.save(file)?;
    let (mut turn, mut last, mut client) = (0, None::<Instant>, None);
    loop {
        let number = progress.acknowledged + 1;
        let attempt = async {
            let mut open = match client.take() {
                Some(open) => open,
                None => dial::connect(endpoints[turn % endpoints.len()], ATTEMPT_TIMEOUT).await?,
            };
            open.put(key(number), number.to_string(), None).await?;
            Ok::<_, Failure>(open)
        };
        if let Ok(Ok(open)) = tokio::time::timeout(ATTEMPT_TIMEOUT, attempt).await {
            client = Some(open);
            progress.acknowledged = number;
            let gap = last.map_or(0, |last| last.elapsed().as_millis());
            progress.longest_gap_ms = progress.longest_gap_ms.max(gap);
            progress.save(file)?;
            last = Some(Instant::now());
        } else {
            turn += 1;
        }
        tokio::time::sleep(PACE).await;
    }
}

async fn check(progress: &Progress, endpoints: &[&str]) -> Result<(), Failure> {
    let mut problems = Vec::new();
    let mut clients = Vec::new();
    for endpoint in endpoints {
        let (client, values, revision) = patiently(endpoint, || async {
            let mut client = dial::connect(endpoint, READ_TIMEOUT).await?;
            let (values, revision) = read_all(&mut client).await?;
            Ok((client, values, revision))
        })
        .await?;
        for number in 1..=progress.acknowledged {
            let value = values.get(&key(number));
            if value.is_none_or(|value| *value != number.to_string()) {
                problems.push(format!("lost: {} at {endpoint}, which has {value:?}", key(number)));
            }
        }
        clients.push((*endpoint, client, revision));
    }
    let revision = clients.iter().map(|(_, _, revision)| *revision).min().unwrap_or_default();
    let mut seen = BTreeMap::new();
    for (endpoint, client, _) in &clients {
        let (hash, list) = patiently(endpoint, || async {
            let mut client = client.clone();
            Ok((client.hash_kv(revision).await?.hash(), client.member_list().await?))
        })
        .await?;
        let mut members: Vec<u64> = list.members().iter().map(etcd_client::Member::id).collect();
        members.sort_unstable();
        seen.entry((hash, members)).or_insert_with(Vec::new).push(*endpoint);
    }
    if seen.len() > 1 {
        problems.push(format!("the members differ at revision {revision}: {seen:?}"));
    }
    println!("{}", progress.line());
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n").into()) }
}

/// What a member gives once it can be asked: on a busy cluster a name may not resolve for a moment.
async fn patiently<T, F>(endpoint: &str, ask: impl Fn() -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let begin = Instant::now();
    loop {
        let why = match tokio::time::timeout(READ_TIMEOUT, ask()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer in {READ_TIMEOUT:?}"),
        };
        if begin.elapsed() >= PATIENCE {
            return Err(format!("{endpoint}: {why}").into());
        }
        tokio::time::sleep(PACE).await;
    }
}

/// All keys of the writer as this member has them once it has caught up with the leader, and its revision.
async fn read_all(client: &mut Client) -> Result<(BTreeMap<String, String>, i64), etcd_client::Error> {
    let mut end = PREFIX.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    let (mut values, mut from) = (BTreeMap::new(), PREFIX.as_bytes().to_vec());
    loop {
        let options = GetOptions::new().with_range(end.clone()).with_limit(PAGE);
        let response = client.get(from, Some(options)).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        values.extend(response.kvs().iter().map(|kv| (text(kv.key()), text(kv.value()))));
        let Some(last) = response.kvs().last().filter(|_| response.more()) else {
            return Ok((values, response.header().map_or(0, etcd_client::ResponseHeader::revision)));
        };
        from = [last.key(), b"\0"].concat();
    }
}

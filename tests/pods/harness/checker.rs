//! Reads every acknowledged write back from every member, and compares the members with each other.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use etcd_client::{Client, Error, GetOptions};

use super::client::with_client;
use super::cluster::{Member, Status, hashkv, members, status};
use super::pod::Pod;
use super::wait::try_eventually;
use super::writer::Written;

const PAGE: i64 = 2000;
const READ_DEADLINE: Duration = Duration::from_secs(20);

/// An acknowledged write that a member does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    pub member: String,
    pub key: String,
    /// What is there instead.
    pub value: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Report {
    pub lost: Vec<Loss>,
    /// Differing hashes or member lists, members that do not answer or do not catch up.
    pub problems: Vec<String>,
    pub writes_checked: usize,
}

impl Report {
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.problems.is_empty()
    }

    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.is_clean(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (checked, lost) = (self.writes_checked, self.lost.len());
        writeln!(f, "{checked} acknowledged writes, {lost} times lost")?;
        for loss in self.lost.iter().take(20) {
            writeln!(f, "lost: {} on {}, which has {:?}", loss.key, loss.member, loss.value)?;
        }
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        Ok(())
    }
}

/// Checks these pods against what was written, once they have caught up with each other.
pub fn check(pods: &[&Pod], written: &[&Written], deadline: Duration) -> Report {
    let mut report = Report::default();
    let caught_up = try_eventually(deadline, || caught_up(pods));
    let statuses = match caught_up {
        Ok(statuses) => statuses,
        Err(reason) => {
            report.problems.push(reason);
            pods.iter().filter_map(|pod| status(pod).ok()).collect()
        }
    };
    for written in written {
        report.writes_checked += written.acknowledged.len();
        for pod in pods {
            read_back(&mut report, pod, written, true);
        }
    }
    let voters: Vec<&Pod> = pods.iter().copied().filter(|pod| !is_learner(pod)).collect();
    if let Some(pod) = voters.first() {
        for written in written {
            read_back(&mut report, pod, written, false);
        }
    }
    if let Some(revision) = statuses.iter().map(|status| status.revision).min() {
        compare_hashes(&mut report, &voters, revision);
    }
    compare_member_lists(&mut report, &voters);
    report
}

fn is_learner(pod: &Pod) -> bool {
    status(pod).is_ok_and(|status| status.learner)
}

/// All members answer, follow one leader in one cluster, and are at the same revision.
fn caught_up(pods: &[&Pod]) -> Result<Vec<Status>, String> {
    let statuses: Vec<Status> = pods.iter().map(|pod| status(pod)).collect::<Result<_, _>>()?;
    let place = |status: &Status| (status.cluster_id, status.leader, status.revision);
    let one = statuses.windows(2).all(|pair| place(&pair[0]) == place(&pair[1]));
    if one && statuses.iter().all(|status| status.leader != 0) {
        return Ok(statuses);
    }
    Err(format!("the members did not catch up with each other: {statuses:#?}"))
}

fn read_back(report: &mut Report, pod: &Pod, written: &Written, serializable: bool) {
    let prefix = written.prefix.clone();
    let read = with_client(pod, READ_DEADLINE, async |client| read_all(client, &prefix, serializable).await);
    let values = match read {
        Ok(values) => values,
        Err(reason) => {
            let kind = if serializable { "serializable" } else { "linearizable" };
            report.problems.push(format!("{kind} read: {reason}"));
            return;
        }
    };
    for &number in &written.acknowledged {
        let key = written.key(number);
        let value = values.get(&key);
        if value.is_none_or(|value| *value != number.to_string()) {
            report.lost.push(Loss { member: pod.name(), key, value: value.cloned() });
        }
    }
}

/// All keys with the prefix, page by page.
async fn read_all(client: &mut Client, prefix: &str, serializable: bool) -> Result<BTreeMap<String, String>, Error> {
    let mut values = BTreeMap::new();
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    let mut from = prefix.as_bytes().to_vec();
    loop {
        let mut options = GetOptions::new().with_range(end.clone()).with_limit(PAGE);
        if serializable {
            options = options.with_serializable();
        }
        let response = client.get(from, Some(options)).await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        for kv in response.kvs() {
            values.insert(text(kv.key()), text(kv.value()));
        }
        let Some(last) = response.kvs().last().filter(|_| response.more()) else {
            return Ok(values);
        };
        from = [last.key(), b"\0"].concat();
    }
}

fn compare_hashes(report: &mut Report, voters: &[&Pod], revision: i64) {
    let mut first = None;
    for pod in voters {
        let hash = match hashkv(pod, revision) {
            Ok(hash) => hash,
            Err(reason) => {
                report.problems.push(format!("HashKV: {reason}"));
                continue;
            }
        };
        let (name, known) = first.get_or_insert_with(|| (pod.name(), hash));
        if *known != hash {
            let other = pod.name();
            report.problems.push(format!(
                "HashKV at revision {revision}: {name} has {known:?}, {other} has {hash:?} (hash, compacted)"
            ));
        }
    }
}

fn compare_member_lists(report: &mut Report, voters: &[&Pod]) {
    let mut first: Option<(String, Vec<Member>)> = None;
    for pod in voters {
        let list = match members(pod) {
            Ok(list) => list,
            Err(reason) => {
                report.problems.push(format!("member list: {reason}"));
                continue;
            }
        };
        let (name, known) = first.get_or_insert_with(|| (pod.name(), list.clone()));
        if *known != list {
            let other = pod.name();
            report.problems.push(format!("member lists differ: {name} has {known:#?}, {other} has {list:#?}"));
        }
    }
}

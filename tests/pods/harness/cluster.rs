//! What etcd says about the cluster, and waiting until it says so.

use std::time::Duration;

use super::client::with_client;
use super::pod::Pod;
use super::spec::CLIENT_PORT;
use super::wait::eventually;

const CALL_DEADLINE: Duration = Duration::from_secs(3);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    pub id: u64,
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
    pub learner: bool,
}

impl Member {
    /// It has published its attributes.
    pub fn started(&self) -> bool {
        !self.name.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub cluster_id: u64,
    pub member_id: u64,
    /// 0 where there is none.
    pub leader: u64,
    pub version: String,
    pub revision: i64,
    pub raft_term: u64,
    pub raft_index: u64,
    pub raft_applied_index: u64,
    pub learner: bool,
}

/// Runs etcdctl of the pod's version inside the pod, against its own member; its stdout.
pub fn etcdctl(pod: &Pod, args: &[&str]) -> Result<String, String> {
    let spec = pod.spec();
    let address = pod.addresses().first().copied();
    let address = address.ok_or_else(|| format!("{} is not there", pod.name()))?;
    // Certificates are for names.
    let endpoint = match spec.scheme.as_str() {
        "https" => format!("https://{}:{CLIENT_PORT}", spec.domain_name()),
        _ => format!("http://{}", std::net::SocketAddr::new(address, CLIENT_PORT)),
    };
    let mut env = spec.ctl_env.clone();
    for (name, value) in [
        ("ETCDCTL_API", "3".to_owned()),
        ("ETCDCTL_ENDPOINTS", endpoint),
        ("ETCDCTL_COMMAND_TIMEOUT", "5s".to_owned()),
        ("ETCDCTL_DIAL_TIMEOUT", "2s".to_owned()),
    ] {
        if !env.iter().any(|(given, _)| given == name) {
            env.push((name.to_owned(), value));
        }
    }
    let argv = [&["/usr/local/bin/etcdctl"], args].concat();
    let output = pod.exec_with_env(&env, &argv)?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let (name, args) = (pod.name(), args.join(" "));
    Err(format!("{name}: etcdctl {args}: {stdout}{stderr}"))
}

/// The member list as this member has it; a learner refuses to say.
pub fn members(pod: &Pod) -> Result<Vec<Member>, String> {
    with_client(pod, CALL_DEADLINE, async |client| {
        let response = client.member_list().await?;
        let mut members: Vec<Member> = response.members().iter().map(member).collect();
        members.sort();
        Ok(members)
    })
}

fn member(member: &etcd_client::Member) -> Member {
    Member {
        id: member.id(),
        name: member.name().to_owned(),
        peer_urls: member.peer_urls().to_vec(),
        client_urls: member.client_urls().to_vec(),
        learner: member.is_learner(),
    }
}

pub fn status(pod: &Pod) -> Result<Status, String> {
    with_client(pod, CALL_DEADLINE, async |client| {
        let response = client.status().await?;
        let header = response.header();
        Ok(Status {
            cluster_id: header.map_or(0, |h| h.cluster_id()),
            member_id: header.map_or(0, |h| h.member_id()),
            leader: response.leader(),
            version: response.version().to_owned(),
            revision: header.map_or(0, |h| h.revision()),
            raft_term: response.raft_term(),
            raft_index: response.raft_index(),
            raft_applied_index: response.raft_applied_index(),
            learner: response.is_learner(),
        })
    })
}

/// The hash of all keys up to the revision, and the revision of the last compaction.
pub fn hashkv(pod: &Pod, revision: i64) -> Result<(u32, i64), String> {
    with_client(pod, CALL_DEADLINE, async |client| {
        let response = client.hash_kv(revision).await?;
        Ok((response.hash(), response.compact_version()))
    })
}

pub fn put(pod: &Pod, key: &str, value: &str) -> Result<(), String> {
    with_client(pod, CALL_DEADLINE, async |client| client.put(key, value, None).await.map(|_| ()))
}

/// Removes a member through this pod's.
pub fn remove_member(through: &Pod, id: u64) -> Result<(), String> {
    with_client(through, CALL_DEADLINE, async |client| client.member_remove(id).await.map(|_| ()))
}

/// A linearizable read.
pub fn get(pod: &Pod, key: &str) -> Result<Option<String>, String> {
    with_client(pod, CALL_DEADLINE, async |client| {
        let response = client.get(key, None).await?;
        let value = response.kvs().first().map(|kv| kv.value().to_vec());
        Ok(value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    })
}

/// The pod whose member leads.
pub fn leader_of(pods: &[&Pod]) -> Result<Pod, String> {
    for pod in pods {
        let Ok(status) = status(pod) else { continue };
        if status.leader != 0 && status.leader == status.member_id {
            return Ok((*pod).clone());
        }
    }
    Err("no pod says that it leads".to_owned())
}

/// Waits until these pods are one cluster of exactly `voters` started voters, each in agreement.
#[track_caller]
pub fn wait_for_voters(pods: &[&Pod], voters: usize, deadline: Duration) {
    eventually(deadline, &format!("{voters} voters"), || are_voters(pods, voters));
}

/// These pods are one cluster of exactly `voters` started voters, each in agreement.
pub fn are_voters(pods: &[&Pod], voters: usize) -> Result<(), String> {
    agree(pods)?;
    for pod in pods {
        let list = members(pod)?;
        let started = list.iter().filter(|m| m.started() && !m.learner).count();
        if started != voters || list.len() != voters {
            let name = pod.name();
            return Err(format!("{name} lists {started} started voters: {list:#?}"));
        }
    }
    Ok(())
}

/// Waits until each pod serves a linearizable read and all follow the same leader.
#[track_caller]
pub fn wait_healthy(pods: &[&Pod], deadline: Duration) {
    eventually(deadline, "healthy members", || {
        agree(pods)?;
        pods.iter().try_for_each(|pod| get(pod, "health").map(|_| ()))
    });
}

/// One cluster ID, one leader, and no member that has none.
fn agree(pods: &[&Pod]) -> Result<(), String> {
    let mut first: Option<Status> = None;
    for pod in pods {
        let status = status(pod)?;
        let name = pod.name();
        if status.leader == 0 {
            return Err(format!("{name} has no leader"));
        }
        let first = first.get_or_insert_with(|| status.clone());
        if (first.cluster_id, first.leader) != (status.cluster_id, status.leader) {
            return Err(format!("{name} disagrees: {status:?} and {first:?}"));
        }
    }
    Ok(())
}

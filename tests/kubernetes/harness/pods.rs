//! One pod, as kubectl and the etcdctl in it show it.

use serde_json::Value;

use super::SOON;
use super::space::Space;
use super::wait::eventually;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    pub id: u64,
    /// Empty where it has never started.
    pub name: String,
    pub learner: bool,
}

impl Member {
    pub fn started(&self) -> bool {
        !self.name.is_empty()
    }
}

#[derive(Clone)]
pub struct Pod<'a> {
    pub space: &'a Space,
    pub name: String,
}

impl Pod<'_> {
    pub fn json(&self) -> Result<Value, String> {
        self.space.json(&["get", "pod", &self.name])
    }

    pub fn uid(&self) -> Result<String, String> {
        let pod = self.json()?;
        pod["metadata"]["uid"].as_str().map(str::to_owned).ok_or_else(|| "it has no UID".to_owned())
    }

    pub fn node(&self) -> Result<String, String> {
        let pod = self.json()?;
        pod["spec"]["nodeName"].as_str().map(str::to_owned).ok_or_else(|| format!("{} is not scheduled", self.name))
    }

    pub fn is_ready(&self) -> Result<(), String> {
        let pod = self.json()?;
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
        let stays = pod["metadata"]["deletionTimestamp"].is_null();
        if ready && stays { Ok(()) } else { Err(format!("{} is not ready: {}", self.name, pod["status"]["phase"])) }
    }

    pub fn restarts(&self) -> Result<u64, String> {
        let pod = self.json()?;
        let statuses = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        Ok(statuses.iter().filter_map(|status| status["restartCount"].as_u64()).sum())
    }

    pub fn exec(&self, command: &[&str]) -> Result<String, String> {
        self.space.kubectl(&[&["exec", &self.name, "-c", "etcd", "--"], command].concat())
    }

    pub fn logs(&self) -> Result<String, String> {
        self.space.kubectl(&["logs", &self.name, "--all-containers"])
    }

    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        eventually(SOON, &format!("{} logs {text:?}", self.name), || {
            let logs = self.logs()?;
            if logs.contains(text) { Ok(()) } else { Err(logs.lines().last().unwrap_or_default().to_owned()) }
        });
    }

    pub fn describe(&self) -> Result<String, String> {
        self.space.kubectl(&["describe", "pod", &self.name])
    }

    /// The member list as this member has it.
    pub fn members(&self) -> Result<Vec<Member>, String> {
        let text = self.exec(&["etcdctl", "member", "list", "-w", "json"])?;
        let list: Value = serde_json::from_str(&text).map_err(|error| format!("{text}: {error}"))?;
        let member = |member: &Value| Member {
            id: member["ID"].as_u64().unwrap_or_default(),
            name: member["name"].as_str().unwrap_or_default().to_owned(),
            learner: member["isLearner"].as_bool().unwrap_or_default(),
        };
        let mut members: Vec<Member> = list["members"].as_array().into_iter().flatten().map(member).collect();
        members.sort();
        Ok(members)
    }

    #[track_caller]
    pub fn put(&self, key: &str, value: &str) {
        self.exec(&["etcdctl", "put", key, value]).unwrap();
    }

    #[track_caller]
    pub fn has(&self, key: &str, value: &str) {
        let read = self.exec(&["etcdctl", "get", key, "--print-value-only"]).unwrap();
        assert_eq!(read.trim(), value, "{key} at {}", self.name);
    }

    /// The pod goes at once, as when its node dies; the StatefulSet makes another.
    pub fn kill(&self) {
        self.space.kubectl(&["delete", "pod", &self.name, "--grace-period=0", "--force", "--wait=false"]).unwrap();
    }

    /// The volume of this pod goes, and the pod with it.
    #[track_caller]
    pub fn lose_volume(&self) {
        let uid = self.uid().unwrap();
        let claim = format!("pvc/etcd-data-{}", self.name);
        let before = self.space.json(&["get", &claim]).unwrap()["metadata"]["uid"].clone();
        self.space.kubectl(&["delete", &claim, "--wait=false"]).unwrap();
        self.kill();
        eventually(SOON, &format!("{} has a new volume", self.name), || {
            let claim = self.space.json(&["get", &claim])?;
            let other = claim["metadata"]["uid"] != before && self.uid()? != uid;
            if other { Ok(()) } else { Err("the old one is still there".to_owned()) }
        });
    }
}

//! Findings for an operator: what is wrong or risky about settings, disk, DNS, peers and membership. A pure function of
//! facts.

mod disk;
mod dns;
mod membership;
mod peers;
mod settings;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::flags::EtcdSettings;
use crate::intent::Intent;
use crate::names::PodName;
use crate::observation::Observation;
use crate::plan::{Action, Decision, Rule, Step, Warning};

/// The exit code of `run` where its time is up.
const TIMED_OUT: u8 = 75;
/// The exit code of `run` where the peers reject this pod.
const REJECTED: u8 = 77;
/// The exit code of `run` where an operator must decide.
const REFUSED: u8 = 69;

/// What findings are drawn from.
pub struct Facts<'a> {
    /// What the operator wants.
    pub intent: &'a Intent,
    /// etcd's own settings.
    pub etcd: &'a EtcdSettings,
    /// What was odd about the settings, a sentence each.
    pub settings_warnings: &'a [String],
    /// Why etcd could not be executed, where that can be told beforehand.
    pub program: Option<Problem>,
    /// The volumes, beside what a decision needs of them.
    pub volumes: Volumes,
    /// What was seen.
    pub seen: &'a Observation,
    /// What `run` would do; none where the disk could not be looked at.
    pub decision: Option<&'a Decision>,
}

/// Something that ends `run` before it decides anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// With which exit code.
    pub exit_code: u8,
    /// What is wrong.
    pub message: String,
    /// What can be done about it; may be empty.
    pub hint: String,
}

/// What was found out about the volumes, beside what a decision needs of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volumes {
    /// Why they cannot be used.
    pub problem: Option<Problem>,
    /// Each volume, once.
    pub spaces: Vec<Space>,
    /// The data that was put aside: where, and its size in bytes.
    pub archives: BTreeMap<PathBuf, u64>,
}

/// A volume that etcd writes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// A directory on it.
    pub path: PathBuf,
    /// What this user may still write, in bytes.
    pub free_bytes: u64,
    /// How the volume is kept.
    pub kept: Kept,
}

/// How long what is written to a volume stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// On a volume of its own.
    Mounted,
    /// With the container's own files.
    WithContainer,
    /// In memory.
    InMemory,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    #[serde(flatten)]
    pub severity: Severity,
    /// What it is about.
    pub topic: Topic,
    /// What is so.
    pub what: String,
    /// What can be done about it; empty where nothing has to be.
    pub fix: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "severity", rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// A risk: etcd starts all the same.
    Warning,
    /// `run` would not start etcd.
    Error {
        /// What it would end with.
        exit_code: u8,
    },
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// Flags, variables, the program.
    Settings,
    /// The volumes and what lies there.
    Disk,
    /// Names and addresses.
    Dns,
    /// Who answers.
    Peers,
    /// Who is in the cluster.
    Membership,
    /// What `run` would do.
    Decision,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Ok => "ok",
            Severity::Warning => "warning",
            Severity::Error { .. } => "error",
        };
        let topic = match self.topic {
            Topic::Settings => "settings",
            Topic::Disk => "disk",
            Topic::Dns => "dns",
            Topic::Peers => "peers",
            Topic::Membership => "membership",
            Topic::Decision => "decision",
        };
        write!(f, "{severity:<7}  {topic:<10}  {}", self.what)?;
        if self.fix.is_empty() { Ok(()) } else { write!(f, "; fix: {}", self.fix) }
    }
}

impl Finding {
    fn ok(topic: Topic, what: impl Into<String>) -> Self {
        Self { severity: Severity::Ok, topic, what: what.into(), fix: String::new() }
    }

    fn warning(topic: Topic, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, topic, what: what.into(), fix: fix.into() }
    }

    /// Something that ends `run` before it decides anything.
    pub fn of_problem(topic: Topic, problem: &Problem) -> Self {
        let severity = Severity::Error { exit_code: problem.exit_code };
        Self { severity, topic, what: problem.message.clone(), fix: problem.hint.clone() }
    }

    fn of_warning(topic: Topic, Warning { what, fix }: &Warning) -> Self {
        Self::warning(topic, what, fix)
    }
}

/// Everything that there is to say, by topic.
pub fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    let mut findings = settings::findings(facts);
    findings.extend(disk::findings(facts));
    findings.extend(dns::findings(facts));
    findings.extend(peers::findings(facts));
    findings.extend(membership::findings(facts));
    findings.extend(facts.decision.map(decision));
    findings
}

/// 0 where nothing is worse than a warning, else what `run` would end with: waiting ends it last.
pub fn exit_code(findings: &[Finding]) -> u8 {
    let errors = findings.iter().filter_map(|finding| match finding.severity {
        Severity::Error { exit_code } => Some(exit_code),
        Severity::Ok | Severity::Warning => None,
    });
    errors.min_by_key(|code| *code == TIMED_OUT).unwrap_or_default()
}

impl Facts<'_> {
    /// `run` would wait for others.
    fn waits(&self) -> bool {
        matches!(self.decision, Some(Decision { action: Action::Wait { .. }, rule, .. }) if *rule != Rule::DataGrace)
    }

    /// `run` would not get past this, or would not mind.
    fn severity(&self, exit_code: u8) -> Severity {
        let refuses = matches!(self.decision, Some(Decision { action: Action::Refuse { .. }, .. }));
        if self.waits() || (refuses && exit_code == REFUSED) {
            Severity::Error { exit_code }
        } else {
            Severity::Warning
        }
    }

    /// The pods that answered, or did not, without this one.
    fn others(&self) -> impl Iterator<Item = (&PodName, &crate::observation::PeerView)> {
        let others = self.seen.peers.iter().filter(|(pod, _)| **pod != self.intent.pod);
        others.map(|(pod, answer)| (pod, &answer.view))
    }
}

fn decision(decision: &Decision) -> Finding {
    let because = format!("{} ({})", decision.why, decision.rule);
    let topic = Topic::Decision;
    match &decision.action {
        Action::Start(_) => Finding::ok(topic, format!("run would start etcd: {because}")),
        Action::Take(step) => Finding::ok(topic, format!("run would {}: {because}", words(step))),
        Action::Wait { .. } if decision.rule == Rule::DataGrace => {
            Finding::ok(topic, format!("run would start etcd in a moment: {because}"))
        }
        Action::Wait { .. } => Finding {
            severity: Severity::Error { exit_code: TIMED_OUT },
            topic,
            what: format!("run would wait: {because}"),
            fix: "bring up what it waits for".to_owned(),
        },
        Action::Refuse { exit_code, hint } => Finding {
            severity: Severity::Error { exit_code: *exit_code },
            topic,
            what: format!("run would refuse: {because}"),
            fix: hint.clone(),
        },
    }
}

fn words(step: &Step) -> String {
    match step {
        Step::Journal { .. } | Step::NoteWal(_) => "write its journal and go on".to_owned(),
        Step::Archive { .. } | Step::FinishArchive(_) => "put the data aside and go on".to_owned(),
        Step::Remove { member_id } => format!("remove its old member {member_id} and go on"),
        Step::RemoveAbandonedLearner { member_id } => format!("remove the abandoned learner {member_id} and go on"),
        Step::PromoteLearner { member_id } => format!("promote the learner {member_id} and go on"),
        Step::Add { learner: true, .. } => "add a learner for this pod and start it".to_owned(),
        Step::Add { learner: false, .. } => "add a voter for this pod and start it".to_owned(),
    }
}

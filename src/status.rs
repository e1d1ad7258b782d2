//! The whole picture as one value: for `/status`, and for the tables of `plan` and `status`. No secret is in it.

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};

use crate::intent::Intent;
use crate::names::{ClusterId, MemberId, PodName};
use crate::observation::{EtcdView, Kind, Observation, PeerView, Statement};
use crate::plan::{Action, Decision};

/// What this pod sees, and what it makes of it.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// This program's version.
    pub version: &'static str,
    /// This pod.
    pub pod: PodName,
    /// What it is at.
    pub phase: Phase,
    /// Seconds since this process started; as JSON, when it is written.
    #[serde(rename = "since_start_seconds", serialize_with = "seconds_since")]
    pub started: Instant,
    /// What was decided last.
    pub decision: Decision,
    /// What that rests on.
    pub observation: Observation,
    /// What the operator wants.
    pub intent: Intent,
}

impl Status {
    /// The picture after a decision; the phase follows from its action.
    pub fn new(intent: Intent, observation: Observation, decision: Decision, started: Instant) -> Self {
        let phase = Phase::of(&decision.action);
        let version = env!("CARGO_PKG_VERSION");
        Self { version, pod: intent.pod.clone(), phase, started, decision, observation, intent }
    }

    /// How long this process has been at it.
    pub fn since_start(&self) -> Duration {
        self.started.elapsed()
    }

    /// As `/status` shows it; `pretty` with line breaks.
    ///
    /// # Errors
    /// Never for a value of this type; the caller decides what a failure is to look like.
    pub fn json(&self, pretty: bool) -> serde_json::Result<String> {
        let json = if pretty { serde_json::to_string_pretty(self) } else { serde_json::to_string(self) };
        json.map(|json| json + "\n")
    }

    /// Each pod that was heard of, in the order of the names.
    pub fn peers(&self) -> Vec<Peer> {
        let mut pods: BTreeSet<PodName> = self.observation.peers.keys().cloned().collect();
        pods.extend(self.intent.plan.pods());
        pods.insert(self.pod.clone());
        pods.into_iter().map(|pod| self.peer(pod)).collect()
    }

    fn peer(&self, pod: PodName) -> Peer {
        let answer = self.observation.peers.get(&pod);
        let url = answer.map_or_else(|| self.intent.peer_url(&pod), |answer| answer.url.clone()).to_string();
        let unknown = Peer {
            is_self: pod == self.pod,
            pod,
            url,
            state: PeerState::NotAsked,
            detail: String::new(),
            cluster_id: None,
            member_id: None,
            role: None,
        };
        match answer.map(|answer| &answer.view) {
            None => unknown,
            Some(PeerView::Silent(silence)) => {
                Peer { state: PeerState::Silent, detail: silence.to_string(), ..unknown }
            }
            Some(PeerView::Waiting(said)) => waiting(unknown, said),
            Some(PeerView::Etcd(etcd)) => running(unknown, etcd),
        }
    }
}

fn waiting(unknown: Peer, said: &Statement) -> Peer {
    let state = PeerState::of(&said.kind);
    match &said.kind {
        Kind::Data { member_id, cluster_id, .. } => {
            Peer { state, cluster_id: Some(*cluster_id), member_id: Some(*member_id), ..unknown }
        }
        Kind::Blank | Kind::Prepared(_) | Kind::Lost | Kind::WasMember => Peer { state, ..unknown },
    }
}

fn running(unknown: Peer, etcd: &EtcdView) -> Peer {
    let local = etcd.members.iter().flatten().find(|member| member.pod() == unknown.pod);
    let listed = etcd.list.as_ref().ok().and_then(|list| list.members.iter().find(|m| m.id == list.answered_by));
    let member = listed.or(local);
    let leader = etcd.list.as_ref().ok().map(|list| list.leader);
    let role = member.map(|member| match (member.is_learner, leader) {
        (true, _) => Role::Learner,
        (false, Some(leader)) if leader == member.id => Role::Leader,
        (false, _) => Role::Voter,
    });
    Peer {
        state: PeerState::Etcd,
        detail: match (&etcd.version, &etcd.list) {
            (_, Err(failure)) => failure.to_string(),
            (Some(version), Ok(_)) => version.server.clone(),
            (None, Ok(_)) => String::new(),
        },
        cluster_id: Some(etcd.cluster_id),
        member_id: member.map(|member| member.id),
        role,
        ..unknown
    }
}

/// The text form: what it is at, why, and one line per pod.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pod, phase, decision, .. } = self;
        let waited = humantime::format_duration(Duration::from_secs(self.since_start().as_secs()));
        writeln!(f, "{pod}: {phase} since {waited}: {} (rule {})", decision.why, decision.rule)?;
        if let Action::Refuse { exit_code, hint } = &decision.action {
            writeln!(f, "exit code {exit_code}; hint: {hint}")?;
        }
        writeln!(f)?;
        let head = ["POD", "URL", "STATE", "CLUSTER", "MEMBER", "ROLE", "DETAIL"].map(str::to_owned);
        let rows: Vec<[String; 7]> = std::iter::once(head).chain(self.peers().iter().map(Peer::row)).collect();
        f.write_str(&aligned(&rows))?;
        if let Action::Wait { on } = &decision.action {
            for (pod, why) in on {
                writeln!(f, "waits for {pod}: {why}")?;
            }
        }
        decision.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))
    }
}

/// Columns two blanks apart, without blanks at the end of a line.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _never = write!(line, "{cell:width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// What this pod is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It waits for others.
    Waiting,
    /// It takes a step: a journal entry, a membership call, an archive.
    Acting,
    /// It becomes etcd.
    Starting,
    /// It ends, for an operator must decide.
    Refused,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::Acting, Self::Starting, Self::Refused];

    /// What an action means for the phase.
    pub fn of(action: &Action) -> Self {
        match action {
            Action::Wait { .. } => Self::Waiting,
            Action::Take(_) => Self::Acting,
            Action::Start(_) => Self::Starting,
            Action::Refuse { .. } => Self::Refused,
        }
    }

    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Acting => "acting",
            Self::Starting => "starting",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One pod, as a line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub pod: PodName,
    /// It is this pod.
    pub is_self: bool,
    /// Where it was asked, or would be.
    pub url: String,
    /// What it is.
    pub state: PeerState,
    /// Why it is silent, why an etcd gave no list, or which version it is.
    pub detail: String,
    /// The cluster that it has data of, or runs.
    pub cluster_id: Option<ClusterId>,
    /// Its ID there.
    pub member_id: Option<MemberId>,
    /// Its part there.
    pub role: Option<Role>,
}

impl Peer {
    fn row(&self) -> [String; 7] {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        [
            if self.is_self { format!("{} *", self.pod) } else { self.pod.to_string() },
            self.url.clone(),
            self.state.as_str().to_owned(),
            or_dash(self.cluster_id.map(|id| id.to_string())),
            or_dash(self.member_id.map(|id| id.to_string())),
            or_dash(self.role.map(|role| role.as_str().to_owned())),
            self.detail.clone(),
        ]
    }
}

/// A member's part in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It leads.
    Leader,
    /// It has a vote.
    Voter,
    /// It has none.
    Learner,
}

impl Role {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Voter => "voter",
            Self::Learner => "learner",
        }
    }
}

/// What a pod is, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerState {
    /// Nobody asked it yet.
    NotAsked,
    /// Nothing usable came.
    Silent,
    /// It waits with a blank disk.
    Blank,
    /// It waits, and has promised to found.
    Prepared,
    /// It waits with data.
    Data,
    /// It waits with what is left of lost data.
    Lost,
    /// It waits, and was a member once.
    WasMember,
    /// It runs etcd.
    Etcd,
}

impl PeerState {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::NotAsked,
        Self::Silent,
        Self::Blank,
        Self::Prepared,
        Self::Data,
        Self::Lost,
        Self::WasMember,
        Self::Etcd,
    ];

    fn of(kind: &Kind) -> Self {
        match kind {
            Kind::Blank => Self::Blank,
            Kind::Prepared(_) => Self::Prepared,
            Kind::Data { .. } => Self::Data,
            Kind::Lost => Self::Lost,
            Kind::WasMember => Self::WasMember,
        }
    }

    /// The word, as a statement has it where there is one.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAsked => "not-asked",
            Self::Silent => "silent",
            Self::Blank => "blank",
            Self::Prepared => "prepared",
            Self::Data => "data",
            Self::Lost => "lost",
            Self::WasMember => "was-member",
            Self::Etcd => "etcd",
        }
    }
}

fn seconds_since<S: Serializer>(started: &Instant, serializer: S) -> Result<S::Ok, S::Error> {
    // Milliseconds are enough, and read better.
    let milliseconds = started.elapsed().as_millis();
    serializer.serialize_f64(milliseconds as f64 / 1000.0)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::intent::tests::intent_of;
    use crate::observation::{Answer, Disk, Dns, DnsFailure, EtcdVersion, Member, MemberList, Silence, Since};
    use crate::plan::{Rule, Warning};

    fn url(pod: &str) -> crate::names::Url {
        format!("http://{pod}.etcd.default.svc:2380").parse().unwrap()
    }

    fn intent() -> Intent {
        intent_of("default", 0, 3)
    }

    fn member(n: u64, is_learner: bool) -> Member {
        let name = format!("etcd-{n}");
        Member { id: MemberId(n + 1), peer_urls: vec![url(&name).to_string()], name, client_urls: vec![], is_learner }
    }

    fn etcd(n: u64, leads: bool) -> PeerView {
        let members = vec![member(3, false), member(4, true)];
        let (answered_by, leader, cluster_id) = (MemberId(n + 1), MemberId(4), ClusterId(0xabc));
        let list = MemberList { cluster_id, answered_by, leader, term: 2, index: 9, members, db_size_bytes: 1 };
        PeerView::Etcd(EtcdView {
            cluster_id,
            members: Some(vec![member(5, false)]),
            version: Some(EtcdVersion { server: "3.6.16".to_owned(), cluster: "3.6.0".to_owned() }),
            list: if leads { Ok(list) } else { Err(crate::observation::ListFailure::NoLeader) },
        })
    }

    /// A pod that waits, and has seen one of everything.
    pub(crate) fn waiting() -> Status {
        let data = Kind::Data { member_id: MemberId(7), cluster_id: ClusterId(0xabc), term: 1, index: 2 };
        let said = |pod: &str, kind: Kind| {
            PeerView::Waiting(Statement {
                version: 1,
                pod: pod.into(),
                service: "etcd".to_owned(),
                namespace: "default".to_owned(),
                disk_id: "d".into(),
                process_id: "p".into(),
                plan: intent().plan,
                kind,
            })
        };
        let views = [
            ("etcd-0", said("etcd-0", Kind::Blank)),
            ("etcd-1", PeerView::Silent(Silence::NoAddress(DnsFailure::NxDomain))),
            ("etcd-3", etcd(3, true)),
            ("etcd-4", etcd(4, true)),
            ("etcd-5", etcd(5, false)),
            ("etcd-10", said("etcd-10", data)),
        ];
        let answer =
            |(pod, view): (&str, PeerView)| (PodName::new(pod), Answer { asked: 1, answered: 2, url: url(pod), view });
        let observation = Observation {
            process_id: "p".into(),
            disk: Disk::blank(),
            dns: Dns::default(),
            peers: views.into_iter().map(answer).collect(),
            hearing: crate::hearing::Hearing::default(),
            pods_wanted: None,
            image: Default::default(),
            since: Since::default(),
        };
        let on = BTreeMap::from([("etcd-1".into(), "no DNS record (NXDOMAIN)".to_owned())]);
        let decision = Decision {
            rule: Rule::RollCall,
            action: Action::Wait { on },
            why: "etcd-1 is silent".to_owned(),
            warnings: vec![Warning {
                what: "member 9 has no pod".to_owned(),
                fix: "etcdctl member remove 9".to_owned(),
            }],
        };
        Status::new(intent(), observation, decision, Instant::now())
    }

    #[test]
    fn the_table_has_a_line_per_pod_in_their_order() {
        let text = waiting().to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "etcd-0: waiting since 0s: etcd-1 is silent (rule roll-call)",
                "",
                "POD       URL                                   STATE      CLUSTER  MEMBER  ROLE     DETAIL",
                "etcd-0 *  http://etcd-0.etcd.default.svc:2380   blank      -        -       -",
                "etcd-1    http://etcd-1.etcd.default.svc:2380   silent     -        -       -        no DNS record (NXDOMAIN)",
                "etcd-2    http://etcd-2.etcd.default.svc:2380   not-asked  -        -       -",
                "etcd-3    http://etcd-3.etcd.default.svc:2380   etcd       abc      4       leader   3.6.16",
                "etcd-4    http://etcd-4.etcd.default.svc:2380   etcd       abc      5       learner  3.6.16",
                "etcd-5    http://etcd-5.etcd.default.svc:2380   etcd       abc      6       voter    it has no leader",
                "etcd-10   http://etcd-10.etcd.default.svc:2380  data       abc      7       -",
                "waits for etcd-1: no DNS record (NXDOMAIN)",
                "warning: member 9 has no pod: etcdctl member remove 9",
            ]
        );
    }

    #[test]
    fn json_has_the_whole_picture() {
        let json = waiting().json(false).unwrap();
        assert_eq!(json.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["phase"], "waiting");
        assert_eq!(value["pod"], "etcd-0");
        assert_eq!(value["decision"]["action"]["wait"]["on"]["etcd-1"], "no DNS record (NXDOMAIN)");
        assert_eq!(value["observation"]["peers"]["etcd-3"]["view"]["etcd"]["cluster_id"], "abc");
        assert!(value["since_start_seconds"].as_f64().unwrap() < 5.0);
        assert!(waiting().json(true).unwrap().lines().count() > 50);
    }
}

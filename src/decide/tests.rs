//! The decision table, row by row: each expectation is read off the protocol's text, not off the code.

mod data;
mod found;
mod join;
mod loss;
mod refusals;
mod roll_call;
mod version;
mod warn;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::decide;
use crate::hearing::Hearing;
use crate::identity;
use crate::intent::tests::intent_of;
use crate::intent::{Intent, JoinAs, OnLostData, OnRemoved, Plan, State};
use crate::journal::{Journal, Leaving, Stage};
use crate::names::{ClusterId, DiskId, MemberId, PodName, ProcessId, Url};
use crate::observation::{
    Answer, Disk, Dns, DnsFailure, EtcdView, Image, JournalFile, Kind, ListFailure, Member, MemberList, Observation,
    OwnName, Pairing, PeerView, PodsWanted, Resolution, ServiceRecords, Silence, Since, Statement, Wal, WalFacts,
};
use crate::plan::{Action, Decision, InitialClusterState, Rule, Start, Step};

/// A cluster that no plan of these tests makes.
pub(crate) const OTHER: ClusterId = ClusterId(0xbad);
/// A member that was added for a pod, not founded.
pub(crate) const ADDED: MemberId = MemberId(0x1001);
/// Another one of the same pod.
pub(super) const LATER: MemberId = MemberId(0x1002);

pub(crate) fn pod(n: u32) -> PodName {
    PodName::new(format!("etcd-{n}"))
}

pub(crate) fn url(n: u32) -> Url {
    format!("http://etcd-{n}.etcd.test.svc:2380").parse().unwrap()
}

pub(super) fn plan(size: u32) -> Plan {
    intent_of("test", 0, size).plan
}

/// The cluster that `plan(size)` makes.
pub(crate) fn planned(size: u32) -> ClusterId {
    plan(size).cluster_id
}

/// The ID that the pod has in a founded cluster.
pub(crate) fn static_id(n: u32) -> MemberId {
    identity::member_id(&[url(n)], "test/etcd")
}

pub(super) fn disk_id(n: u32) -> DiskId {
    DiskId(format!("disk-{n}"))
}

/// The disks of the first pods, as a PREPARED has them.
pub(super) fn disks(size: u32) -> BTreeMap<PodName, DiskId> {
    (0..size).map(|n| (pod(n), disk_id(n))).collect()
}

/// A voter that runs.
pub(crate) fn voter(n: u32, id: MemberId) -> Member {
    Member {
        id,
        name: format!("etcd-{n}"),
        peer_urls: vec![url(n).to_string()],
        client_urls: vec![format!("http://etcd-{n}.etcd.test.svc:2379")],
        is_learner: false,
    }
}

/// A founder that runs, under its static ID.
pub(crate) fn founder(n: u32) -> Member {
    voter(n, static_id(n))
}

/// A member that has never started.
pub(crate) fn unstarted(n: u32, id: MemberId) -> Member {
    Member { name: String::new(), client_urls: vec![], ..voter(n, id) }
}

pub(crate) fn learner(member: Member) -> Member {
    Member { is_learner: true, ..member }
}

/// One row: the facts, to be filled in, and what must follow.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) intent: Intent,
    pub(crate) seen: Observation,
}

/// A pod whose disk has nothing but an ID, ten seconds after its start; its own name and the founders' are published.
pub(crate) fn row(own: u32, size: u32) -> Row {
    let intent = intent_of("test", own, size);
    let journal = Journal::of_new_disk(disk_id(own), pod(own), "test".to_owned(), "etcd".to_owned());
    let named = (0..size).map(pod).chain([pod(own)]).collect();
    let since = Since { start: Duration::from_secs(10), step: Duration::from_secs(10), ..Since::default() };
    let seen = Observation {
        process_id: ProcessId::from("me"),
        disk: Disk { journal: JournalFile::Valid(journal), ..Disk::blank() },
        dns: Dns { own: OwnName::Ours, service: ServiceRecords::Pods(named), hosts: BTreeMap::new() },
        peers: BTreeMap::new(),
        hearing: Hearing::default(),
        pods_wanted: None,
        image: Image::default(),
        since,
    };
    let row = Row { intent, seen };
    let own_statement = row.statement(own, Kind::Blank, "me");
    row.answer(own, PeerView::Waiting(own_statement))
}

impl Row {
    pub(crate) fn intent(mut self, change: impl FnOnce(&mut Intent)) -> Self {
        change(&mut self.intent);
        self
    }

    pub(crate) fn seen(mut self, change: impl FnOnce(&mut Observation)) -> Self {
        change(&mut self.seen);
        self
    }

    pub(crate) fn journal(mut self, change: impl FnOnce(&mut Journal)) -> Self {
        if let JournalFile::Valid(journal) = &mut self.seen.disk.journal {
            change(journal);
        }
        self
    }

    pub(super) fn stage(self, stage: Stage) -> Self {
        self.journal(|journal| journal.stage = stage)
    }

    /// PREPARED under the plan in force, with the disks that the pods have.
    pub(crate) fn prepared(self) -> Self {
        let (plan, own) = (self.intent.plan.clone(), self.intent.static_id().unwrap());
        let heard = disks(plan.founders.len() as u32);
        self.stage(Stage::Prepared { plan, static_id: own, disks: heard })
    }

    pub(super) fn joined(self, cluster_id: ClusterId, member_id: MemberId) -> Self {
        self.stage(Stage::Joined { cluster_id, member_id, learner: true })
    }

    /// A WAL of this member of the planned cluster, up to term 3 and index 30.
    pub(crate) fn wal(self, member_id: MemberId) -> Self {
        let cluster_id = self.intent.plan.cluster_id;
        let facts = WalFacts { member_id, cluster_id, term: 3, index: 30, commit: 30, spoke: true, missing: None };
        self.seen(|seen| {
            seen.disk.wal = Wal::Present(facts);
            seen.disk.db = true;
        })
    }

    pub(super) fn wal_facts(self, change: impl FnOnce(&mut WalFacts)) -> Self {
        self.seen(|seen| {
            if let Wal::Present(facts) = &mut seen.disk.wal {
                change(facts);
            }
        })
    }

    pub(crate) fn answer(mut self, n: u32, view: PeerView) -> Self {
        self.seen.peers.insert(pod(n), Answer { asked: 100, answered: 101, url: url(n), view });
        if let ServiceRecords::Pods(named) = &mut self.seen.dns.service {
            named.insert(pod(n));
        }
        self
    }

    pub(crate) fn statement(&self, n: u32, kind: Kind, process: &str) -> Statement {
        Statement {
            version: Statement::VERSION,
            pod: pod(n),
            service: "etcd".to_owned(),
            namespace: "test".to_owned(),
            disk_id: disk_id(n),
            process_id: ProcessId::from(process),
            plan: self.intent.plan.clone(),
            kind,
        }
    }

    /// This program waits at a peer, and says this.
    pub(crate) fn says(self, n: u32, kind: Kind) -> Self {
        let statement = self.statement(n, kind, "theirs");
        self.answer(n, PeerView::Waiting(statement))
    }

    /// What this pod says is of this plan.
    pub(super) fn plans(mut self, n: u32, plan: Plan) -> Self {
        let answer = self.seen.peers.get_mut(&pod(n)).unwrap();
        let PeerView::Waiting(said) = &mut answer.view else { panic!("etcd-{n} says nothing: {answer:?}") };
        said.plan = plan;
        self
    }

    /// It says "prepared", with the disks that the pods have.
    pub(super) fn says_prepared(self, n: u32) -> Self {
        let heard = disks(self.intent.plan.founders.len() as u32);
        self.says(n, Kind::Prepared(heard))
    }

    pub(crate) fn says_data(self, n: u32) -> Self {
        let cluster_id = self.intent.plan.cluster_id;
        self.says(n, Kind::Data { member_id: static_id(n), cluster_id, term: 3, index: 30 })
    }

    pub(crate) fn silent(self, n: u32) -> Self {
        self.answer(n, PeerView::Silent(Silence::Refused(format!("10.0.0.{n}:2380"))))
    }

    pub(crate) fn no_record(mut self, n: u32) -> Self {
        self = self.answer(n, PeerView::Silent(Silence::NoAddress(DnsFailure::NxDomain)));
        if let ServiceRecords::Pods(named) = &mut self.seen.dns.service {
            named.remove(&pod(n));
        }
        self.seen.dns.hosts.insert(url(n).host, Resolution::Failed(DnsFailure::NxDomain));
        self
    }

    /// An etcd without a leader.
    pub(crate) fn runs(self, n: u32, cluster_id: ClusterId, members: Option<Vec<Member>>) -> Self {
        let list = Err(ListFailure::NoLeader);
        self.answer(n, PeerView::Etcd(EtcdView { cluster_id, members, version: None, list }))
    }

    /// These pods run etcd, and each gives this list, linearizably and locally: term 5, index 50.
    pub(crate) fn led(self, by: &[u32], cluster_id: ClusterId, members: &[Member]) -> Self {
        by.iter().fold(self, |row, n| {
            let list = MemberList {
                cluster_id,
                answered_by: static_id(*n),
                leader: static_id(by[0]),
                term: 5,
                index: 50,
                members: members.to_vec(),
                db_size_bytes: 1,
            };
            let view = EtcdView { cluster_id, members: Some(members.to_vec()), version: None, list: Ok(list) };
            row.answer(*n, PeerView::Etcd(view))
        })
    }

    /// All others in the span have said twice what they say now.
    pub(super) fn heard_twice(mut self) -> Self {
        let listener = super::listener(&self.intent, &self.seen);
        let once = Hearing::default().after(&listener, &self.seen.peers, 100);
        self.seen.hearing = once.after(&listener, &self.seen.peers, 102);
        self
    }

    pub(crate) fn decide(&self) -> Decision {
        decide(&self.intent, &self.seen)
    }

    #[track_caller]
    pub(super) fn waits(&self, rule: Rule) -> String {
        let decision = self.decide();
        assert!(matches!(decision.action, Action::Wait { .. }) && decision.rule == rule, "{decision:#?}");
        decision.why
    }

    #[track_caller]
    pub(super) fn takes(&self, rule: Rule, step: Step) {
        let decision = self.decide();
        assert_eq!((decision.rule, &decision.action), (rule, &Action::Take(step)), "{}", decision.why);
    }

    #[track_caller]
    pub(super) fn journals(&self, rule: Rule, stage: Stage, exclude: &[MemberId]) {
        self.takes(rule, Step::Journal { stage, exclude: exclude.to_vec() });
    }

    #[track_caller]
    pub(super) fn starts(&self, rule: Rule, start: Start) {
        let decision = self.decide();
        assert_eq!((decision.rule, &decision.action), (rule, &Action::Start(start)), "{}", decision.why);
    }

    #[track_caller]
    pub(super) fn refuses(&self, rule: Rule, code: u8) -> String {
        let decision = self.decide();
        let Action::Refuse { exit_code, .. } = decision.action else { panic!("{decision:#?}") };
        assert_eq!((decision.rule, exit_code), (rule, code), "{}", decision.why);
        decision.why
    }
}

/// A restart on the own WAL.
pub(crate) fn restart(member_id: MemberId, cluster_id: ClusterId) -> Start {
    Start {
        state: InitialClusterState::Existing,
        initial_cluster: None,
        member_id,
        cluster_id,
        first: false,
        learner: false,
        confirmed: false,
        force_new_cluster: false,
    }
}

/// The first start of a founder.
pub(super) fn founding(n: u32, size: u32) -> Start {
    let all: Vec<String> = (0..size).map(|n| format!("etcd-{n}=http://etcd-{n}.etcd.test.svc:2380")).collect();
    Start {
        state: InitialClusterState::New,
        initial_cluster: Some(all.join(",")),
        first: true,
        ..restart(static_id(n), planned(size))
    }
}

/// The pods that a wait names, with what each does.
pub(super) fn waited_on(decision: &Decision) -> BTreeMap<PodName, String> {
    let Action::Wait { on } = &decision.action else { panic!("{decision:#?}") };
    on.clone()
}

pub(super) fn claims(ordinals: &[u32]) -> Option<PodsWanted> {
    Some(PodsWanted { replicas: None, claimed: ordinals.iter().copied().collect::<BTreeSet<u32>>() })
}

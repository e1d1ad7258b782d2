//! From the world to what the real decision takes, and back: each pod's every move is decided by `decide()`.
//!
//! The decision is a pure function, so its answers are remembered, by all that it was given.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasherDefault;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use etcd_bootstrap::decide::{decide, listener};
use etcd_bootstrap::hearing::Hearing;
use etcd_bootstrap::identity;
use etcd_bootstrap::intent::Intent;
use etcd_bootstrap::journal::{Archiving, Journal as RealJournal, Leaving, Stage as RealStage};
use etcd_bootstrap::leaving::{self, Leave};
use etcd_bootstrap::names::{ClusterId, DiskId, MemberId, PodName, ProcessId, Url};
use etcd_bootstrap::observation::{
    Answer, Disk as RealDisk, Dns, EtcdView, JournalFile, Kind as RealKind, ListFailure, Member, MemberList,
    Observation, OwnName, Pairing as RealPairing, PeerView, PodsWanted, ServiceRecords, Since, Statement,
    Wal as RealWal, WalFacts,
};
use etcd_bootstrap::plan::{Action as RealAction, InitialClusterState, Rule, Step};
use etcd_bootstrap::settings::{self, Surroundings};
use etcd_bootstrap::{cli, standing};

use super::bugs::Bug;
use super::graph::{Fold, fingerprint};
use super::world::{Config, Disk, GONE, Kind, Mem, Mid, Pairing, Pod, Proc, Stage, View, Wal, World};

/// What a pod does next.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Move {
    Wait,
    Refuse,
    Journal(Stage, Vec<Mid>),
    NoteWal(Option<Mid>),
    Archive(Option<Mid>, bool),
    FinishArchive,
    Remove(Mid),
    RemoveAbandoned(Mid),
    Add(bool),
    Promote(Mid),
    Start {
        new: bool,
        id: Mid,
        learner: bool,
    },
    /// Anything that has to do with the foreign cluster.
    InForeign,
}

/// All that a pod's decision rests on.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) pod: Pod,
    pub(crate) disk: Disk,
    pub(crate) views: Vec<Option<View>>,
    /// What the views' numbers stand for.
    pub(crate) configs: Vec<Option<Config>>,
    pub(crate) rounds: u8,
    pub(crate) again: u16,
    pub(crate) dns: bool,
    /// The pods of learners without a DNS record.
    pub(crate) absent: u16,
}

/// The settings of a world, and the memory of what was decided in it.
pub(crate) struct Project {
    pub(crate) pods: u8,
    pub(crate) founders: u8,
    pub(crate) bug: Option<Bug>,
    intents: Vec<Intent>,
    moves: Vec<Mutex<Memory<Key, (Rule, Move)>>>,
    rounds: Vec<Mutex<Memory<Key, (u8, u16)>>>,
    kinds: Mutex<Memory<(Pod, Disk), Kind>>,
}

type Memory<K, V> = HashMap<K, V, BuildHasherDefault<Fold>>;

const SHARDS: usize = 64;
const TOKEN: &str = "t";
const FOREIGN: ClusterId = ClusterId(0xf0);
const THEIRS: MemberId = MemberId(0xf00d);

fn name(pod: Pod) -> PodName {
    PodName::new(format!("e-{pod}"))
}

fn url(pod: Pod) -> Url {
    Url { scheme: etcd_bootstrap::names::Scheme::Http, host: format!("e-{pod}.e.n.svc"), port: 2380 }
}

fn disk_id(pod: Pod, generation: u8) -> DiskId {
    DiskId(format!("{pod}.{generation}"))
}

/// What a pod's settings come to.
fn intent(pod: Pod, founders: u8, bug: Option<Bug>) -> Intent {
    let variables = [
        ("HOSTNAME", name(pod).to_string()),
        ("SERVICE_NAME", "e".to_owned()),
        ("K8S_NAMESPACE", "n".to_owned()),
        ("BOOTSTRAP_INITIAL_CLUSTER_SIZE", founders.to_string()),
        ("BOOTSTRAP_JOIN_AS", if bug == Some(Bug::VoterFromOneToTwo) { "voter" } else { "learner" }.to_owned()),
        ("ETCD_INITIAL_CLUSTER_TOKEN", TOKEN.to_owned()),
    ];
    let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let surroundings = Surroundings {
        hostname: String::new(),
        working_dir: "/".into(),
        resolv_conf: None,
        service_account: "/account".into(),
        service_account_namespace: None,
        read_file: &|_| Err(io::ErrorKind::NotFound.into()),
        has_ipv4: true,
        has_ipv6: false,
    };
    let settings = cli::parse(&[], &variables).and_then(|given| settings::resolve(&given, &variables, &surroundings));
    settings.unwrap_or_else(|error| panic!("{error}")).intent
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Project {
    pub(crate) fn new(pods: u8, founders: u8, bug: Option<Bug>) -> Self {
        Self {
            pods,
            founders,
            bug,
            intents: (0..pods).map(|pod| intent(pod, founders, bug)).collect(),
            moves: (0..SHARDS).map(|_| Mutex::default()).collect(),
            rounds: (0..SHARDS).map(|_| Mutex::default()).collect(),
            kinds: Mutex::default(),
        }
    }

    pub(crate) fn is_founder(&self, pod: Pod) -> bool {
        pod < self.founders
    }

    fn cluster_id(&self) -> ClusterId {
        self.intents[0].plan.cluster_id
    }

    fn member_id(&self, id: Mid) -> MemberId {
        if id.seq == 0 {
            return identity::member_id(&[url(id.pod)], TOKEN);
        }
        MemberId(u64::from(id.pod) * 0x100 + u64::from(id.seq) + 1)
    }

    fn mid(&self, id: MemberId) -> Mid {
        let fixed = (0..self.pods).map(|pod| Mid { pod, seq: 0 }).find(|fixed| self.member_id(*fixed) == id);
        fixed.unwrap_or(Mid { pod: (id.0 / 0x100) as u8, seq: (id.0 % 0x100) as u8 - 1 })
    }

    fn stage(&self, pod: Pod, stage: &Stage) -> RealStage {
        let cluster_id = self.cluster_id();
        match stage {
            Stage::Fresh => RealStage::Fresh,
            Stage::Prepared(disks) => RealStage::Prepared {
                plan: self.intents[0].plan.clone(),
                static_id: self.member_id(Mid { pod, seq: 0 }),
                disks: self.disks(disks),
            },
            Stage::Intent => RealStage::Intent { cluster_id },
            Stage::Joined(id, learner) => {
                RealStage::Joined { cluster_id, member_id: self.member_id(*id), learner: *learner }
            }
            Stage::Removing(id) => RealStage::Removing { cluster_id, member_id: self.member_id(*id) },
        }
    }

    fn disks(&self, generations: &[u8]) -> BTreeMap<PodName, DiskId> {
        let heard = generations.iter().enumerate().filter(|(_, generation)| **generation != GONE);
        heard.map(|(pod, generation)| (name(pod as u8), disk_id(pod as u8, *generation))).collect()
    }

    /// Only the founders' disks are compared ever again.
    fn generations(&self, disks: &BTreeMap<PodName, DiskId>) -> Vec<u8> {
        let generation = |disk: &DiskId| disk.0.rsplit('.').next().and_then(|text| text.parse().ok()).unwrap_or(GONE);
        (0..self.founders).map(|pod| disks.get(&name(pod)).map_or(GONE, generation)).collect()
    }

    fn disk(&self, pod: Pod, disk: &Disk) -> RealDisk {
        let journal = disk.journal.as_ref().map_or(JournalFile::Absent, |journal| {
            let new =
                RealJournal::of_new_disk(disk_id(pod, disk.generation), name(pod), "n".to_owned(), "e".to_owned());
            let stage = self.stage(pod, &journal.stage);
            let mut wal_seen = journal.wal_seen.map(|id| self.member_id(id));
            if self.bug == Some(Bug::WalSeenWithoutId) && wal_seen.is_some() {
                wal_seen = match &stage {
                    RealStage::Joined { member_id, .. } => Some(*member_id),
                    RealStage::Prepared { static_id, .. } => Some(*static_id),
                    _ => wal_seen,
                };
            }
            JournalFile::Valid(RealJournal {
                stage,
                excluded: journal.excluded.iter().map(|id| self.member_id(*id)).collect(),
                archiving: journal.archiving.map(|(id, never_spoke)| Archiving {
                    member_id: id.map(|id| self.member_id(id)),
                    cluster_id: Some(self.cluster_id()),
                    moves: Vec::new(),
                    never_spoke,
                }),
                cluster_id: journal.was_member.then(|| self.cluster_id()),
                was_member: journal.was_member,
                leaving: journal
                    .leaving
                    .then(|| Leaving { member_id: self.member_id(Mid { pod, seq: 0 }), cluster_id: self.cluster_id() }),
                wal_seen,
                ..new
            })
        });
        let wal = disk.wal.as_ref().map_or(RealWal::Absent, |wal| {
            RealWal::Present(WalFacts {
                member_id: self.member_id(wal.id),
                cluster_id: self.cluster_id(),
                term: 1,
                index: if wal.joining { 0 } else { u64::from(wal.idx) },
                commit: 0,
                spoke: wal.spoke,
                missing: None,
            })
        });
        let pairing = match disk.pairing {
            Pairing::None => RealPairing::NotNeeded,
            Pairing::Paired => RealPairing::Matches,
            Pairing::Broken => RealPairing::Broken,
        };
        RealDisk { wal, db: disk.leftovers, journal, pairing, misplaced_wal: None }
    }

    /// What a waiting pod says: the real statement.
    pub(crate) fn kind(&self, pod: Pod, disk: &Disk) -> Option<Kind> {
        disk.journal.as_ref()?;
        let key = (pod, disk.clone());
        if let Some(kind) = lock(&self.kinds).get(&key) {
            return Some(kind.clone());
        }
        let real = self.disk(pod, disk);
        let said = standing::statement(&self.intents[usize::from(pod)], &real, &ProcessId::from("p"))?;
        let kind = match said.kind {
            RealKind::Blank => Kind::Blank,
            RealKind::Prepared(disks) => Kind::Prepared(self.generations(&disks)),
            RealKind::Data { .. } => Kind::Data,
            RealKind::Lost => Kind::Lost,
            RealKind::WasMember => Kind::WasMember,
        };
        lock(&self.kinds).insert(key, kind.clone());
        Some(kind)
    }

    pub(crate) fn member(&self, member: &Mem, without_urls: bool) -> Member {
        let founder = member.id.seq == 0;
        let published = member.published && !without_urls;
        Member {
            id: self.member_id(member.id),
            name: if published || founder { name(member.id.pod).to_string() } else { String::new() },
            peer_urls: vec![url(member.id.pod).to_string()],
            client_urls: if published { vec![format!("http://e-{}:2379", member.id.pod)] } else { Vec::new() },
            is_learner: member.learner,
        }
    }

    pub(crate) fn key(&self, world: &World, pod: Pod) -> Option<Key> {
        let state = &world.pods[usize::from(pod)];
        let Proc::Run { views, rounds, again, dns } = &state.process else { return None };
        let mut configs: Vec<Option<Config>> = vec![None; world.history.len()];
        for view in views.iter().flatten() {
            if let View::Etcd { local, list } = view {
                for idx in local.iter().map(|(idx, _)| *idx).chain(*list) {
                    configs[usize::from(idx)] = Some(world.config(idx).clone());
                }
            }
        }
        Some(Key {
            pod,
            disk: state.disk.clone(),
            views: views.clone(),
            configs,
            rounds: *rounds,
            again: *again,
            dns: *dns,
            absent: world.absent,
        })
    }

    /// What answers where a stale record leads to: a cluster with a leader, of another service.
    fn foreign(&self, peer: Pod) -> EtcdView {
        // As if a list that lacks the name that was dialled counted, too.
        let host = if self.bug == Some(Bug::ForeignByAnyUrl) { url(peer).host } else { "o-0.o.n.svc".to_owned() };
        let members = vec![Member {
            id: THEIRS,
            name: "o-0".to_owned(),
            peer_urls: vec![Url { host, ..url(peer) }.to_string()],
            client_urls: vec!["http://o-0:2379".to_owned()],
            is_learner: false,
        }];
        let list = MemberList {
            cluster_id: FOREIGN,
            answered_by: THEIRS,
            leader: THEIRS,
            term: 9,
            index: 99,
            members: members.clone(),
            db_size_bytes: 0,
        };
        EtcdView { cluster_id: FOREIGN, members: Some(members), version: None, list: Ok(list) }
    }

    fn view(&self, key: &Key, peer: Pod, view: &View) -> PeerView {
        let list = |idx: u8, without_urls: bool| -> Vec<Member> {
            let config = key.configs[usize::from(idx)].as_deref().unwrap_or_default();
            config.iter().map(|member| self.member(member, without_urls)).collect()
        };
        match view {
            View::Waiting { generation, kind } => PeerView::Waiting(Statement {
                version: Statement::VERSION,
                pod: name(peer),
                service: "e".to_owned(),
                namespace: "n".to_owned(),
                disk_id: disk_id(peer, *generation),
                process_id: ProcessId::from("theirs"),
                plan: self.intents[0].plan.clone(),
                kind: match kind {
                    Kind::Blank => RealKind::Blank,
                    Kind::Prepared(disks) => RealKind::Prepared(self.disks(disks)),
                    Kind::Data => RealKind::Data {
                        member_id: self.member_id(Mid { pod: peer, seq: 0 }),
                        cluster_id: self.cluster_id(),
                        term: 1,
                        index: 0,
                    },
                    Kind::Lost => RealKind::Lost,
                    Kind::WasMember => RealKind::WasMember,
                },
            }),
            View::Foreign => PeerView::Etcd(self.foreign(peer)),
            View::Etcd { local, list: led } => PeerView::Etcd(EtcdView {
                cluster_id: self.cluster_id(),
                members: local.map(|(idx, without_urls)| list(idx, without_urls)),
                version: None,
                list: led.ok_or(ListFailure::NoLeader).map(|idx| MemberList {
                    cluster_id: self.cluster_id(),
                    answered_by: MemberId(1),
                    leader: MemberId(1),
                    term: 1,
                    index: u64::from(idx),
                    members: list(idx, false),
                    db_size_bytes: 0,
                }),
            }),
        }
    }

    /// What the pod has seen, as the program would have it.
    pub(crate) fn observe(&self, key: &Key) -> Observation {
        let intent = &self.intents[usize::from(key.pod)];
        let process_id = ProcessId::from("me");
        let disk = self.disk(key.pod, &key.disk);
        let mut peers: BTreeMap<PodName, Answer> = BTreeMap::new();
        for (peer, view) in key.views.iter().enumerate() {
            let Some(view) = view else { continue };
            // The first round was complete at 10.
            let asked = if key.again & (1 << peer) == 0 { 1 } else { 11 };
            let view = self.view(key, peer as u8, view);
            peers.insert(name(peer as u8), Answer { asked, answered: asked, url: url(peer as u8), view });
        }
        if let Some(said) = standing::statement(intent, &disk, &process_id) {
            let own = Answer { asked: 1, answered: 1, url: url(key.pod), view: PeerView::Waiting(said) };
            peers.insert(name(key.pod), own);
        }
        let shown = (0..self.pods).filter(|pod| key.dns || *pod < self.founders || *pod == key.pod);
        let narrow = self.bug == Some(Bug::SpanOfFounders);
        let shown = shown.filter(|pod| !narrow || *pod < self.founders);
        let claimed = (0..self.pods).map(u32::from).collect();
        let api = self.founders == 1 && !narrow;
        let seen = Observation {
            process_id,
            disk,
            dns: Dns {
                own: OwnName::Ours,
                service: ServiceRecords::Pods(shown.map(name).collect()),
                hosts: BTreeMap::new(),
            },
            peers,
            hearing: Hearing::default(),
            pods_wanted: api.then_some(PodsWanted { replicas: None, claimed }),
            image: Default::default(),
            since: Since {
                start: Duration::from_secs(10),
                step: Duration::from_secs(10),
                foreign: Duration::ZERO,
                learner_without_record: self.without_record(key),
            },
        };
        let hearing = self.hearing(key, &seen);
        Observation { hearing, ..seen }
    }

    fn without_record(&self, key: &Key) -> BTreeMap<MemberId, Duration> {
        let listed = key.configs.iter().flatten().flatten();
        let absent = listed.filter(|member| member.learner && key.absent & 1 << member.id.pod != 0);
        absent.map(|member| (self.member_id(member.id), Duration::from_secs(60))).collect()
    }

    /// The hearing that has come this far, made by the real one.
    fn hearing(&self, key: &Key, seen: &Observation) -> Hearing {
        if key.rounds == 0 {
            return Hearing::default();
        }
        let intent = &self.intents[usize::from(key.pod)];
        let listener = listener(intent, seen);
        let first = Hearing::default().after(&listener, &seen.peers, 10);
        if key.rounds == 1 {
            return first;
        }
        let mut again = seen.peers.clone();
        again.values_mut().for_each(|answer| answer.asked = 11);
        first.after(&listener, &again, 12)
    }

    /// How far the roll call has come once the last answer is there: complete rounds, and who was asked since the first.
    pub(crate) fn heard(&self, before: &Key, after: &Key) -> (u8, u16) {
        let shard = &self.rounds[shard_of(after)];
        let mut key = after.clone();
        key.rounds = before.rounds;
        if let Some(known) = lock(shard).get(&key) {
            // What was complete before depends on the views before; it is told by the rounds and the same disks.
            if before.rounds == 0 || same_hearers(before, after) {
                return *known;
            }
        }
        let intent = &self.intents[usize::from(after.pod)];
        let old = self.observe(before);
        let seen = self.observe(after);
        let hearing = old.hearing.after(&listener(intent, &seen), &seen.peers, 10);
        let came = if hearing == Hearing::default() {
            (0, 0)
        } else if hearing.heard_twice().is_some() {
            (2, 0)
        } else if hearing == old.hearing {
            (1, after.again)
        } else {
            (1, 0)
        };
        if before.rounds == 0 || same_hearers(before, after) {
            lock(shard).insert(key, came);
        }
        came
    }

    /// What the pod does next: the real decision.
    pub(crate) fn decide(&self, key: &Key) -> (Rule, Move) {
        let shard = &self.moves[shard_of(key)];
        if let Some(known) = lock(shard).get(key) {
            return known.clone();
        }
        let seen = self.observe(key);
        let decision = decide(&self.intents[usize::from(key.pod)], &seen);
        let next = match decision.action {
            action if self.is_elsewhere(&action) => Move::InForeign,
            RealAction::Wait { .. } => Move::Wait,
            RealAction::Refuse { .. } => Move::Refuse,
            RealAction::Start(start) => Move::Start {
                new: start.state == InitialClusterState::New,
                id: self.mid(start.member_id),
                learner: start.learner,
            },
            RealAction::Take(step) => match step {
                Step::Journal { stage, exclude } => {
                    Move::Journal(self.abstract_stage(&stage), exclude.into_iter().map(|id| self.mid(id)).collect())
                }
                Step::NoteWal(id) => Move::NoteWal(id.map(|id| self.mid(id))),
                Step::Archive { member_id, never_spoke, .. } => {
                    Move::Archive(member_id.map(|id| self.mid(id)), never_spoke)
                }
                Step::FinishArchive(_) => Move::FinishArchive,
                Step::Remove { member_id } => Move::Remove(self.mid(member_id)),
                Step::RemoveAbandonedLearner { member_id } => Move::RemoveAbandoned(self.mid(member_id)),
                Step::PromoteLearner { member_id } => Move::Promote(self.mid(member_id)),
                Step::Add { learner, .. } => Move::Add(learner),
            },
        };
        let known = match self.bug {
            Some(bug) => (decision.rule, bug.twist(self, key, decision.rule, next)),
            None => (decision.rule, next),
        };
        lock(shard).insert(key.clone(), known.clone());
        known
    }

    /// It names the foreign cluster, or a member of it.
    fn is_elsewhere(&self, action: &RealAction) -> bool {
        match action {
            RealAction::Wait { .. } | RealAction::Refuse { .. } => false,
            RealAction::Start(start) => start.cluster_id == FOREIGN || start.member_id == THEIRS,
            RealAction::Take(step) => match step {
                Step::Journal { stage, .. } => stage.cluster_id() == Some(FOREIGN),
                Step::Archive { cluster_id, .. } => *cluster_id == Some(FOREIGN),
                Step::Add { cluster_id, .. } => *cluster_id == FOREIGN,
                Step::Remove { member_id }
                | Step::RemoveAbandonedLearner { member_id }
                | Step::PromoteLearner { member_id } => *member_id == THEIRS,
                Step::NoteWal(_) | Step::FinishArchive(_) => false,
            },
        }
    }

    /// What `leave` does in a pod that is the first not wanted any more: the real decision. (Here nobody has to move the
    /// leadership first.)
    pub(crate) fn may_leave(&self, world: &World, pod: Pod) -> bool {
        let Some(own) = world.running(pod) else { return false };
        let cluster_id = self.cluster_id();
        let answer = |(peer, wal): (Pod, &Wal)| {
            let list = world.gives_list(wal).then(|| MemberList {
                cluster_id,
                answered_by: self.member_id(wal.id),
                leader: MemberId(1),
                term: 1,
                index: u64::from(world.head()),
                members: world.current().iter().map(|member| self.member(member, false)).collect(),
                db_size_bytes: 0,
            });
            let view = EtcdView { cluster_id, members: None, version: None, list: list.ok_or(ListFailure::NoLeader) };
            (name(peer), Answer { asked: 1, answered: 1, url: url(peer), view: PeerView::Etcd(view) })
        };
        let peers = world.each_running().map(answer).collect();
        let ids = (cluster_id, self.member_id(own.id));
        leaving::decide(&self.intents[usize::from(pod)], ids, u32::from(pod), &peers) == Leave::Remove
    }

    fn abstract_stage(&self, stage: &RealStage) -> Stage {
        match stage {
            RealStage::Fresh => Stage::Fresh,
            RealStage::Prepared { disks, .. } => Stage::Prepared(self.generations(disks)),
            RealStage::Intent { .. } => Stage::Intent,
            RealStage::Joined { member_id, learner, .. } => Stage::Joined(self.mid(*member_id), *learner),
            RealStage::Removing { member_id, .. } => Stage::Removing(self.mid(*member_id)),
        }
    }

    /// How many decisions were really taken.
    pub(crate) fn decisions(&self) -> usize {
        self.moves.iter().map(|shard| lock(shard).len()).sum()
    }

    /// The rules that decided something.
    pub(crate) fn rules(&self) -> BTreeSet<Rule> {
        self.moves.iter().flat_map(|shard| lock(shard).values().map(|(rule, _)| *rule).collect::<Vec<_>>()).collect()
    }
}

fn same_hearers(before: &Key, after: &Key) -> bool {
    if before.dns != after.dns {
        return false;
    }
    let disk = |view: &Option<View>| match view {
        Some(View::Waiting { generation, .. }) => Some(*generation),
        _ => None,
    };
    before.views.iter().map(disk).eq(after.views.iter().map(disk))
}

fn shard_of(key: &Key) -> usize {
    (fingerprint(key) >> 40) as usize % SHARDS
}

//! What was seen: the disk, DNS, and each peer. A failure is a fact like any other.

mod dns;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::intent::Plan;
use crate::journal::Journal;
use crate::names::{ClusterId, DiskId, MemberId, PodName, ProcessId, Url};

pub use dns::{Dns, DnsFailure, OwnName, Resolution, ServiceRecords};

/// All that a decision may rest on.
#[derive(Clone, Debug, Serialize)]
pub struct Observation {
    /// This run of the program.
    pub process_id: ProcessId,
    /// What lies on this pod's volumes.
    pub disk: Disk,
    /// What DNS says.
    pub dns: Dns,
    /// What each pod answered last, this one included (it dials itself, to know who answers at its URL).
    pub peers: BTreeMap<PodName, Answer>,
    /// What the roll call has heard so far.
    pub hearing: crate::hearing::Hearing,
    /// What the Kubernetes API tells, where it can be asked.
    pub pods_wanted: Option<PodsWanted>,
    /// The etcd of this image.
    pub image: Image,
    /// How long things have been as they are.
    pub since: Since,
}

/// Durations that a rule may depend on; the shell measures them, so that the decision needs no clock.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Since {
    /// Since this process started.
    pub start: Duration,
    /// Since the last step (a journal entry, a membership call, an archive), or the start.
    pub step: Duration,
    /// Since peers first ran another cluster than ours, without a break.
    pub foreign: Duration,
    /// Per member that is a listed learner: since its host first had no DNS record, without a break.
    pub learner_without_record: BTreeMap<MemberId, Duration>,
}

/// The etcd of this image, and what another version of it has left on the disk for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Image {
    /// What `etcd --version` says; none before something depends on it, and where it does not say.
    pub version: Option<String>,
    /// What the data says; none where this very etcd was started on it before.
    pub data: Option<DataVersions>,
}

/// What a database and a WAL say of the versions that they suit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DataVersions {
    /// The version that the cluster had agreed on.
    pub cluster: Option<String>,
    /// What an etcd must understand to read the database; from 3.6 on.
    pub storage: Option<String>,
    /// The index of a log entry that this image's etcd cannot replay.
    pub unreplayable: Option<u64>,
}

/// What the Kubernetes API tells of the StatefulSet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodsWanted {
    /// The replicas that are wanted.
    pub replicas: Option<u32>,
    /// The ordinals that have a PersistentVolumeClaim.
    pub claimed: BTreeSet<u32>,
}

/// What lies on the volumes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// The write-ahead log.
    pub wal: Wal,
    /// `member/snap/db` is there, and a member has used it: a first start that failed leaves one without a WAL, too.
    pub db: bool,
    /// This program's own record.
    pub journal: JournalFile,
    /// Whether the data volume and the WAL's volume belong together.
    pub pairing: Pairing,
    /// A WAL that lies where the settings do not point: etcd would found anew beside it.
    pub misplaced_wal: Option<PathBuf>,
}

impl Disk {
    /// A volume on which nothing was found.
    pub fn blank() -> Self {
        Self {
            wal: Wal::Absent,
            db: false,
            journal: JournalFile::Absent,
            pairing: Pairing::NotNeeded,
            misplaced_wal: None,
        }
    }
}

/// The write-ahead log as etcd would find it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wal {
    /// There is no `*.wal` file.
    Absent,
    /// There is one, but who wrote it cannot be read.
    Unreadable {
        /// The segment.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is one, and it names its owner.
    Present(WalFacts),
}

/// What a WAL says of its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WalFacts {
    /// The member that wrote it.
    pub member_id: MemberId,
    /// The cluster that it is of.
    pub cluster_id: ClusterId,
    /// The term of its last entry; terms in which this member only campaigned do not count.
    pub term: u64,
    /// The index of its last entry.
    pub index: u64,
    /// The last index that it knew to be committed.
    pub commit: u64,
    /// It has an entry or a state record: its member may have voted or acknowledged.
    pub spoke: bool,
    /// It was cut after a snapshot whose db or file is gone: etcd cannot start on it, or starts empty.
    pub missing: Option<String>,
}

/// The journal file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
pub enum JournalFile {
    /// There is none yet.
    Absent,
    /// It was read.
    Valid(Journal),
    /// It is torn, or of an unknown version: never counts as blank.
    Torn(String),
}

/// Whether two volumes belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairing {
    /// WAL and data are on one volume, or nothing was paired yet.
    NotNeeded,
    /// Both have the same pairing ID.
    Matches,
    /// One has a pairing ID that the other lacks: one of two volumes was lost or exchanged.
    Broken,
}

/// What a pod answered, and when it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// A number that grows with each question and each answer of this process: when the question was sent.
    pub asked: u64,
    /// The same clock: when the answer was there.
    pub answered: u64,
    /// Where it was asked.
    pub url: Url,
    /// What came.
    pub view: PeerView,
}

/// What a pod's peer port gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerView {
    /// Nothing usable.
    Silent(Silence),
    /// This program, which waits there.
    Waiting(Statement),
    /// A running etcd.
    Etcd(EtcdView),
}

impl PeerView {
    /// TLS or authentication stands between this pod and that peer.
    pub fn is_rejection(&self) -> bool {
        match self {
            Self::Silent(silence) => matches!(silence, Silence::Tls { .. }),
            Self::Etcd(etcd) => matches!(etcd.list, Err(ListFailure::Denied(_) | ListFailure::Tls(_))),
            Self::Waiting(_) => false,
        }
    }
}

/// Why nothing usable came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Silence {
    /// Its name does not resolve.
    #[error("{0}")]
    NoAddress(DnsFailure),
    /// Nobody listens.
    #[error("connection refused at {0}")]
    Refused(String),
    /// Nobody answered in time.
    #[error("no answer from {0} in time")]
    TimedOut(String),
    /// The network said no.
    #[error("{0}")]
    Unreachable(String),
    /// TLS failed, on either side.
    #[error("TLS with {address}: {reason}")]
    Tls {
        /// The address that was dialled.
        address: String,
        /// What the library or the peer said.
        reason: String,
    },
    /// Somebody else answered: a record of an earlier pod, or another cluster's pod.
    #[error("{address} is {found}: a stale DNS record")]
    SomebodyElse {
        /// The address that was dialled.
        address: String,
        /// Who answered.
        found: String,
    },
    /// It speaks neither this program's protocol nor etcd's.
    #[error("{0}")]
    NotEtcd(String),
}

/// What a waiting pod says of itself. This is what goes over the wire, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The version of this form; another one counts as silence.
    pub version: u32,
    /// The pod that speaks.
    pub pod: PodName,
    /// The headless service; empty where there is none.
    pub service: String,
    /// Its namespace.
    pub namespace: String,
    /// Its disk.
    pub disk_id: DiskId,
    /// This run of it.
    pub process_id: ProcessId,
    /// What it would found.
    pub plan: Plan,
    /// What its disk holds.
    pub kind: Kind,
}

impl Statement {
    /// The version that this program speaks.
    pub const VERSION: u32 = 1;
}

/// What a pod's disk holds, as it tells its peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Nothing but a disk ID.
    Blank,
    /// It has heard all say blank twice, and has synced that; with the disks that it heard it of, its own included.
    Prepared(BTreeMap<PodName, DiskId>),
    /// A WAL.
    Data {
        /// Whose.
        member_id: MemberId,
        /// Of which cluster.
        cluster_id: ClusterId,
        /// The term of its last entry.
        term: u64,
        /// The index of its last entry.
        index: u64,
    },
    /// Evidence of a loss.
    Lost,
    /// It was a member once, or its journal is torn.
    WasMember,
}

/// A running etcd, as its peer port and its client port show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EtcdView {
    /// `X-Etcd-Cluster-Id` of `/members`.
    pub cluster_id: ClusterId,
    /// Its local list, which may lag; none where it has none yet (`null`).
    pub members: Option<Vec<Member>>,
    /// `/version`.
    pub version: Option<EtcdVersion>,
    /// The linearizable list, where it gave one.
    pub list: Result<MemberList, ListFailure>,
}

/// What `/version` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcdVersion {
    /// The version of the binary.
    #[serde(rename = "etcdserver")]
    pub server: String,
    /// The cluster's version, or `not_decided`.
    #[serde(rename = "etcdcluster")]
    pub cluster: String,
}

/// A member as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its ID.
    pub id: MemberId,
    /// Its name; empty where it has never started.
    pub name: String,
    /// Its peer URLs, verbatim and in the list's order.
    pub peer_urls: Vec<String>,
    /// Its client URLs, verbatim; empty where it has never published them.
    pub client_urls: Vec<String>,
    /// It has no vote.
    pub is_learner: bool,
}

impl Member {
    /// The pod that it belongs to: the first label of a peer URL's host, else the member's name.
    pub fn pod(&self) -> PodName {
        let named = self.hosts().into_iter().find(|host| host.parse::<IpAddr>().is_err());
        named.map_or_else(|| PodName::new(&self.name), |host| PodName::of_host(&host))
    }

    /// The hosts of its peer URLs, in the list's order.
    pub fn hosts(&self) -> Vec<String> {
        self.peer_urls.iter().filter_map(|url| url.parse::<Url>().ok()).map(|url| url.host).collect()
    }

    /// It has run at least once.
    pub fn has_started(&self) -> bool {
        !self.name.is_empty()
    }
}

/// A member list read after a linearizable read at the same endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberList {
    /// The cluster that answered.
    pub cluster_id: ClusterId,
    /// The member that answered.
    pub answered_by: MemberId,
    /// The leader that it knows.
    pub leader: MemberId,
    /// The term.
    pub term: u64,
    /// The raft index.
    pub index: u64,
    /// Who is in the cluster.
    pub members: Vec<Member>,
    /// The size of the answering member's database in bytes.
    pub db_size_bytes: i64,
}

/// Why an etcd gave no linearizable list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum ListFailure {
    /// It was not asked yet.
    #[error("not asked yet")]
    NotAsked,
    /// It has no leader, or lost its quorum.
    #[error("it has no leader")]
    NoLeader,
    /// Its client port did not answer in time (it hangs until the member has been published).
    #[error("its client port did not answer in time")]
    TimedOut,
    /// It is a learner, which cannot be asked.
    #[error("it is a learner")]
    Learner,
    /// It wants credentials, or better ones.
    #[error("etcd denies it: {0}")]
    Denied(String),
    /// TLS failed at the client port, on either side.
    #[error("its client port: {0}")]
    Tls(String),
    /// The client port could not be reached.
    #[error("its client port: {0}")]
    Unreachable(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

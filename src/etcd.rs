//! etcd's client port: one connection, the reads that need no choice, and what its refusals mean.

use std::error::Error as _;
use std::future::{Future, ready};
use std::io;
use std::net::IpAddr;

use etcd_client::{Channel, Client, ConnectOptions, Error, GetOptions};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};
use tonic::Code;

use crate::connect::{self, ClosedUnheard, DialError, Security, Wire};
use crate::names::{ClusterId, MemberId, Url};
use crate::observation::{ListFailure, Member, MemberList};
use crate::settings::Credentials;

/// The key of the linearizable read. Whether it exists, and whether the user may read it, is all the same.
const READ_KEY: &[u8] = b"\0";

/// How the client ports are entered.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// For https.
    pub security: Security,
    /// etcd's user, where authentication is on.
    pub credentials: Option<Credentials>,
}

/// A member's client port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// As the member advertises it; its host is what a certificate is verified by.
    pub url: Url,
    /// Where the host is, the best address first.
    pub addresses: Vec<IpAddr>,
}

/// Why a call at a client port failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallFailure {
    /// Nothing was sent: the port could not be reached.
    #[error("{0}")]
    Unreachable(String),
    /// Nothing was sent: the port took the connection at best, and then did not answer in time.
    #[error("no answer from {0} in time")]
    Unanswered(String),
    /// Nothing was done: TLS failed, on either side.
    #[error("TLS with {address}: {reason}")]
    Tls {
        /// Where.
        address: String,
        /// What the library or the peer says.
        reason: String,
    },
    /// Nothing was sent: the port belongs to another cluster.
    #[error("the client port belongs to cluster {0}")]
    OtherCluster(ClusterId),
    /// The endpoint is a learner, which takes no such call.
    #[error("the endpoint is a learner")]
    Learner,
    /// The endpoint knows no leader, and has refused.
    #[error("etcd has no leader")]
    NoLeader,
    /// The call has to go to the leader, and the endpoint is not it.
    #[error("the endpoint is not the leader")]
    NotLeader,
    /// Credentials are missing, wrong, or do not suffice.
    #[error("etcd denies it: {0}")]
    Denied(String),
    /// A member with one of these peer URLs is there already.
    #[error("a member with this peer URL exists already")]
    UrlExists,
    /// A member with this ID is there, or was: the same URL in the same second makes the same ID.
    #[error("a member with this ID exists already (same URL, same second)")]
    IdExists,
    /// There is no member with this ID, or not any more.
    #[error("there is no such member")]
    NotFound,
    /// As many learners are there as the cluster allows, one as a rule.
    #[error("the cluster has as many learners as it allows")]
    TooManyLearners,
    /// Fewer voters than a quorum of the new size have been connected for five seconds.
    #[error("etcd calls the cluster unhealthy: too few voters have been connected for five seconds")]
    UnhealthyCluster,
    /// The members that have started would be no quorum of the new size.
    #[error("too few members have started")]
    NotEnoughStarted,
    /// The learner has not caught up.
    #[error("the learner is not in sync with the leader yet")]
    NotInSync,
    /// The member has a vote already.
    #[error("the member is no learner")]
    NotLearner,
    /// The leader changed during the call: what became of it is not known.
    #[error("the leader changed during the call")]
    LeaderChanged,
    /// No answer in time: what became of the call is not known, it may still be applied.
    #[error("etcd did not answer in time")]
    TimedOut,
    /// The connection broke during the call: what became of it is not known.
    #[error("the connection was lost: {0}")]
    ConnectionLost(String),
    /// Anything else; what became of the call is not known.
    #[error("{0}")]
    Other(String),
}

impl CallFailure {
    /// A write that failed so has certainly had no effect, and will have none.
    pub fn is_without_effect(&self) -> bool {
        !matches!(self, Self::LeaderChanged | Self::TimedOut | Self::ConnectionLost(_) | Self::Other(_))
    }

    /// TLS or authentication stands in the way.
    pub fn is_rejection(&self) -> bool {
        matches!(self, Self::Tls { .. } | Self::Denied(_))
    }

    /// Another endpoint of the same cluster may take the call, and this one has certainly had no effect.
    pub fn is_of_the_endpoint(&self) -> bool {
        let is_unsent = matches!(self, Self::Unreachable(_) | Self::Unanswered(_) | Self::Tls { .. });
        is_unsent || matches!(self, Self::OtherCluster(_) | Self::Learner | Self::NoLeader)
    }
}

impl From<DialError> for CallFailure {
    fn from(error: DialError) -> Self {
        match error {
            DialError::Tls { address, reason } => Self::Tls { address, reason },
            DialError::TimedOut { address } => Self::Unanswered(address),
            DialError::Refused { .. } | DialError::Unreachable { .. } => Self::Unreachable(error.to_string()),
        }
    }
}

impl From<CallFailure> for ListFailure {
    fn from(failure: CallFailure) -> Self {
        match failure {
            CallFailure::NoLeader | CallFailure::LeaderChanged => Self::NoLeader,
            CallFailure::TimedOut | CallFailure::Unanswered(_) => Self::TimedOut,
            CallFailure::Learner => Self::Learner,
            CallFailure::Denied(reason) => Self::Denied(reason),
            CallFailure::Tls { .. } => Self::Tls(failure.to_string()),
            CallFailure::Unreachable(_) | CallFailure::ConnectionLost(_) => Self::Unreachable(failure.to_string()),
            other => Self::Other(other.to_string()),
        }
    }
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// The member.
    pub member_id: MemberId,
    /// Its cluster.
    pub cluster_id: ClusterId,
    /// The leader that it knows; 0 where it knows none.
    pub leader: MemberId,
    /// Its raft term.
    pub term: u64,
    /// Its raft index.
    pub index: u64,
    /// It has no vote.
    pub is_learner: bool,
    /// The size of its database, in bytes.
    pub db_size_bytes: i64,
    /// What its database may grow to, in bytes, where it says so (from 3.6 on).
    pub quota_bytes: Option<i64>,
    /// Its version.
    pub version: String,
}

/// A connection to one member's client port. It is never made anew: one that broke stays broken.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    /// Where it goes.
    pub address: IpAddr,
    authority: String,
    wire: Wire,
}

impl Connection {
    /// Dials the endpoint, and logs in where there are credentials. etcd itself is not asked otherwise.
    ///
    /// # Errors
    /// Never one that leaves an effect behind.
    pub async fn open(endpoint: &Endpoint, access: &Access, deadline: Instant) -> Result<Self, CallFailure> {
        let url = &endpoint.url;
        let dialled = connect::dial(url, &endpoint.addresses, &access.security, deadline).await?;
        let mut stream = Some(TokioIo::new(dialled.stream));
        // One connection and no other: a request must never go out again behind the caller's back.
        let connector =
            tower::service_fn(move |_| ready(stream.take().ok_or_else(|| io::Error::other("it was closed"))));
        let transport = tonic::transport::Endpoint::from_shared(url.to_string())
            .map_err(|error| CallFailure::Unreachable(format!("{url}: {error}")))?
            .buffer_size(16);
        let channel = timeout_at(deadline, tonic::transport::Channel::connect(connector, transport))
            .await
            .map_err(|_| CallFailure::Unanswered(url.authority()))?
            .map_err(|error| CallFailure::Unreachable(format!("{url}: {}", chain(&error))))?;
        let (address, wire, authority) = (dialled.address, dialled.wire, url.authority());
        let channel = Channel::Tonic(channel);
        let login = timeout_at(deadline, log_in(channel, access.credentials.as_ref())).await;
        let login = login.map_err(|_| CallFailure::TimedOut)?;
        let client = login.map_err(|error| failure(error, &wire, &authority))?;
        Ok(Self { client, address, authority, wire })
    }

    /// The member list as of now: a linearizable read first, then the list of the same member.
    ///
    /// A refused read counts, for etcd looks at permissions only after it has learnt the leader's index. The list by
    /// itself is a local view. The member's status is read after the linearizable read too: its index is then not
    /// below what the leader had committed when this was called.
    ///
    /// # Errors
    /// None of them leaves an effect behind.
    pub async fn linearizable_list(&self, deadline: Instant) -> Result<MemberList, CallFailure> {
        let (mut kv, mut cluster) = (self.client.kv_client(), self.client.cluster_client());
        let mut maintenance = self.client.maintenance_client();
        let options = GetOptions::new().with_limit(1).with_keys_only();
        match self.call(deadline, kv.get(READ_KEY, Some(options))).await {
            Ok(_) | Err(CallFailure::Denied(_)) => {}
            Err(failure) => return Err(failure),
        }
        let both = async { tokio::try_join!(cluster.member_list(), maintenance.status()) };
        let (list, status) = self.call(deadline, both).await?;
        let header = list.header().ok_or_else(|| CallFailure::Other("etcd's member list has no header".to_owned()))?;
        if status.header().is_none_or(|other| other.member_id() != header.member_id()) {
            return Err(CallFailure::Other(format!("{}: more than one member answers there", self.authority)));
        }
        if status.leader() == 0 {
            return Err(CallFailure::NoLeader);
        }
        Ok(MemberList {
            cluster_id: ClusterId(header.cluster_id()),
            answered_by: MemberId(header.member_id()),
            leader: MemberId(status.leader()),
            term: status.raft_term(),
            index: status.raft_index(),
            members: list.members().iter().map(member).collect(),
            db_size_bytes: status.db_size(),
        })
    }

    /// What this member says of itself. A learner and a member without a leader answer too.
    ///
    /// # Errors
    /// None of them leaves an effect behind.
    pub async fn status(&self, deadline: Instant) -> Result<MemberStatus, CallFailure> {
        let mut maintenance = self.client.maintenance_client();
        let status = self.call(deadline, maintenance.status()).await?;
        let header = status.header().ok_or_else(|| CallFailure::Other("etcd's status has no header".to_owned()))?;
        Ok(MemberStatus {
            member_id: MemberId(header.member_id()),
            cluster_id: ClusterId(header.cluster_id()),
            leader: MemberId(status.leader()),
            term: status.raft_term(),
            index: status.raft_index(),
            is_learner: status.is_learner(),
            db_size_bytes: status.db_size(),
            quota_bytes: Some(status.db_size_quota()).filter(|quota| *quota > 0),
            version: status.version().to_owned(),
        })
    }

    /// The client, for one write.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// One call, bounded.
    pub(crate) async fn call<T>(
        &self,
        deadline: Instant,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, CallFailure> {
        let answer = timeout_at(deadline, call).await.map_err(|_| self.timed_out())?;
        answer.map_err(|error| failure(error, &self.wire, &self.authority))
    }

    fn timed_out(&self) -> CallFailure {
        tls_failure(&self.wire, &self.authority).unwrap_or(CallFailure::TimedOut)
    }
}

/// Logs in, or goes on without where authentication is off.
async fn log_in(channel: Channel, credentials: Option<&Credentials>) -> Result<Client, Error> {
    // A member without a leader refuses at once what it would otherwise leave unanswered, or queue.
    let options = ConnectOptions::new().with_require_leader(true);
    if let Some(Credentials { user, password }) = credentials {
        let named = options.clone().with_user(user, password).with_auto_token_refresh(true);
        match Client::from_channel(channel.clone(), Some(named)).await {
            Err(Error::GRpcStatus(status)) if status.message().ends_with("authentication is not enabled") => {}
            answer => return answer,
        }
    }
    Client::from_channel(channel, Some(options)).await
}

/// A member as etcd's client port lists it.
pub(crate) fn member(member: &etcd_client::Member) -> Member {
    Member {
        id: MemberId(member.id()),
        name: member.name().to_owned(),
        peer_urls: member.peer_urls().to_vec(),
        client_urls: member.client_urls().to_vec(),
        is_learner: member.is_learner(),
    }
}

fn tls_failure(wire: &Wire, authority: &str) -> Option<CallFailure> {
    wire.tls_failure().map(|reason| CallFailure::Tls { address: authority.to_owned(), reason })
}

/// What an error of the client means.
fn failure(error: Error, wire: &Wire, authority: &str) -> CallFailure {
    let transport = match &error {
        // What etcd itself says carries no source: a source means that the transport failed.
        Error::GRpcStatus(status) => match (refusal(status), status.source()) {
            (CallFailure::Other(_), Some(source)) => chain(source),
            (refusal, _) => return tls_failure(wire, authority).unwrap_or(refusal),
        },
        Error::TransportError(error) => chain(error),
        other => return CallFailure::Other(other.to_string()),
    };
    match (tls_failure(wire, authority), wire.closed_unheard()) {
        (Some(failure), _) => failure,
        (None, None) => CallFailure::ConnectionLost(transport),
        (None, Some(ClosedUnheard::Plain)) => CallFailure::ConnectionLost(ClosedUnheard::Plain.to_string()),
        (None, Some(ClosedUnheard::Secure)) => {
            CallFailure::Tls { address: authority.to_owned(), reason: ClosedUnheard::Secure.to_string() }
        }
    }
}

/// What a refusal of etcd's means. Texts come first: etcd gives one code to different things, and several to one.
fn refusal(status: &tonic::Status) -> CallFailure {
    let text = status.message();
    let text = text.strip_prefix("etcdserver: ").unwrap_or(text);
    match text {
        "Peer URLs already exists" => CallFailure::UrlExists,
        "member ID already exist" => CallFailure::IdExists,
        "member not found" => CallFailure::NotFound,
        "too many learner members in cluster" => CallFailure::TooManyLearners,
        "unhealthy cluster" => CallFailure::UnhealthyCluster,
        "re-configuration failed due to not enough started members" => CallFailure::NotEnoughStarted,
        "can only promote a learner member which is in sync with leader" => CallFailure::NotInSync,
        "can only promote a learner member" => CallFailure::NotLearner,
        "rpc not supported for learner" => CallFailure::Learner,
        "no leader" => CallFailure::NoLeader,
        "not leader" => CallFailure::NotLeader,
        "leader changed" => CallFailure::LeaderChanged,
        "user name is empty" => CallFailure::Denied(
            "authentication is on, and this pod names no user: set BOOTSTRAP_USER and BOOTSTRAP_PASSWORD_FILE, or show \
             a certificate whose common name is a user (with --client-cert-auth)"
                .to_owned(),
        ),
        _ if text.starts_with("request timed out") => CallFailure::TimedOut,
        _ if text.starts_with("authentication failed") => CallFailure::Denied(text.to_owned()),
        _ => match status.code() {
            Code::PermissionDenied => CallFailure::Denied(format!(
                "{text}: the user of this pod (BOOTSTRAP_USER, else its certificate's common name) needs the role `root`, \
                 to list and to change members"
            )),
            Code::Unauthenticated => CallFailure::Denied(text.to_owned()),
            Code::DeadlineExceeded | Code::Cancelled => CallFailure::TimedOut,
            code => CallFailure::Other(format!("etcd: {text} ({code:?})")),
        },
    }
}

/// An error with its causes, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(current) = cause {
        let part = current.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        cause = current.source();
    }
    text
}

#[cfg(test)]
pub(crate) mod testing;

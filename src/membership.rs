//! Writes to the member list: add, remove, promote, move the leadership. Idempotent, and without choices or retries.

use std::future::Future;

use etcd_client::{Client, Error, MemberAddOptions};
use tokio::time::Instant;

use crate::etcd::{Access, CallFailure, Connection, Endpoint, member};
use crate::failpoint;
use crate::intent::JoinAs;
use crate::names::{ClusterId, MemberId, Url};
use crate::observation::{Member, MemberList};

#[cfg(test)]
mod tests;

/// What every write needs.
///
/// Each one goes to the first endpoint that is reachable, belongs to the cluster, has a leader and is no learner,
/// which a linearizable list proves. The call is not sent at all where that list shows that it would be refused: 3.7
/// replays a refused change at its next restart. After it was sent nothing is tried again.
#[derive(Clone, Debug)]
pub struct Writer<'a> {
    /// The cluster that is meant; no other is written to.
    pub cluster_id: ClusterId,
    /// The client ports, in the order in which they are tried.
    pub endpoints: &'a [Endpoint],
    /// TLS and credentials.
    pub access: &'a Access,
    /// When to give up; a call that was sent may still be applied after it.
    pub deadline: Instant,
}

/// A member that was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// The ID that etcd gave it.
    pub member_id: MemberId,
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The member that answered.
    pub answered_by: MemberId,
    /// All members, the new one included.
    pub members: Vec<Member>,
}

impl Writer<'_> {
    /// Adds a member; a learner where there are fewer than `learners_max`.
    ///
    /// # Errors
    /// [`CallFailure::UrlExists`] where a member has one of the URLs: whose it is, a list tells. Whether any other
    /// failure may have had an effect, [`CallFailure::is_without_effect`] says.
    pub async fn add(&self, peer_urls: &[Url], role: JoinAs, learners_max: usize) -> Result<Added, CallFailure> {
        let urls: Vec<String> = peer_urls.iter().map(Url::to_string).collect();
        let has_url = |member: &Member| {
            let mut listed = member.peer_urls.iter();
            listed.any(|url| urls.contains(url) || url.parse().is_ok_and(|url| peer_urls.contains(&url)))
        };
        let check = |list: &MemberList| {
            let learners = list.members.iter().filter(|member| member.is_learner).count();
            match role {
                _ if list.members.iter().any(has_url) => Err(CallFailure::UrlExists),
                JoinAs::Learner if learners >= learners_max => Err(CallFailure::TooManyLearners),
                JoinAs::Learner | JoinAs::Voter => Ok(()),
            }
        };
        let options = match role {
            JoinAs::Learner => MemberAddOptions::new().with_is_learner(),
            JoinAs::Voter => MemberAddOptions::new(),
        };
        let call = async |mut client: Client| {
            let add = client.member_add(urls.clone(), Some(options.clone()));
            failpoint::around("add-before", "add-after", add).await
        };
        let answer = self.write(check, call).await?;
        let added = answer.member().map(member);
        let expected = |added: &Member| {
            added.id != MemberId(0) && added.peer_urls == urls && added.is_learner == (role == JoinAs::Learner)
        };
        match added.filter(expected) {
            Some(added) => {
                let answered_by = MemberId(answer.header().map(|header| header.member_id()).unwrap_or_default());
                let members = answer.member_list().iter().map(member).collect();
                Ok(Added { member_id: added.id, cluster_id: self.cluster_id, answered_by, members })
            }
            None => Err(CallFailure::Other(format!("etcd added {:?}, not what was asked for", answer.member()))),
        }
    }

    /// Removes a member; gives those that are left.
    ///
    /// # Errors
    /// [`CallFailure::NotFound`] where it is gone already. Whether any other failure may have had an effect, or may
    /// have one yet, [`CallFailure::is_without_effect`] says: etcd keeps a removal that timed out in its queue.
    pub async fn remove(&self, member_id: MemberId) -> Result<Vec<Member>, CallFailure> {
        self.remove_where(member_id, |_| Ok(())).await
    }

    /// Removes a learner; gives those that are left.
    ///
    /// # Errors
    /// As [`Writer::remove`]; and [`CallFailure::NotLearner`] where it has been given its vote meanwhile.
    pub async fn remove_learner(&self, member_id: MemberId) -> Result<Vec<Member>, CallFailure> {
        self.remove_where(member_id, is_learner).await
    }

    async fn remove_where(
        &self,
        member_id: MemberId,
        may: impl Fn(&Member) -> Result<(), CallFailure>,
    ) -> Result<Vec<Member>, CallFailure> {
        let check = |list: &MemberList| may(find(list, member_id)?);
        let call = async |mut client: Client| {
            failpoint::around("remove-before", "remove-after", client.member_remove(member_id.0)).await
        };
        let answer = self.write(check, call).await?;
        Ok(answer.members().iter().map(member).collect())
    }

    /// Gives a learner its vote; gives all members.
    ///
    /// # Errors
    /// [`CallFailure::NotLearner`] where it has one already, [`CallFailure::NotInSync`] where it is too early.
    pub async fn promote(&self, member_id: MemberId) -> Result<Vec<Member>, CallFailure> {
        let check = |list: &MemberList| is_learner(find(list, member_id)?);
        let call = async |mut client: Client| {
            failpoint::around("promote-before", "promote-after", client.member_promote(member_id.0)).await
        };
        let answer = self.write(check, call).await?;
        Ok(answer.members().iter().map(member).collect())
    }

    /// Moves the leadership to a voter; the endpoint must be the leader's.
    ///
    /// # Errors
    /// [`CallFailure::NotLeader`] where the first endpoint that answers is not the leader's.
    pub async fn move_leader(&self, to: MemberId) -> Result<(), CallFailure> {
        let check = |list: &MemberList| {
            find(list, to)?;
            if list.leader == list.answered_by { Ok(()) } else { Err(CallFailure::NotLeader) }
        };
        let call = async |mut client: Client| {
            failpoint::around("move-leader-before", "move-leader-after", client.move_leader(to.0)).await
        };
        self.write(check, call).await.map(|_| ())
    }

    async fn write<T, F>(
        &self,
        check: impl Fn(&MemberList) -> Result<(), CallFailure>,
        call: impl Fn(Client) -> F,
    ) -> Result<T, CallFailure>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut failure = CallFailure::Unreachable("no client port is known".to_owned());
        for endpoint in self.endpoints {
            let connection = match self.prepare(endpoint, &check).await {
                Ok(connection) => connection,
                Err(other) if other.is_of_the_endpoint() => {
                    failure = other;
                    continue;
                }
                Err(other) => return Err(other),
            };
            match connection.call(self.deadline, call(connection.client())).await {
                Err(other) if other.is_of_the_endpoint() => failure = other,
                answer => return answer,
            }
        }
        Err(failure)
    }

    /// A connection over which the write may go. All its failures are without an effect.
    async fn prepare(
        &self,
        endpoint: &Endpoint,
        check: impl Fn(&MemberList) -> Result<(), CallFailure>,
    ) -> Result<Connection, CallFailure> {
        // What may be left of the time, if this endpoint hangs, has to do for the others.
        let share = (self.deadline - Instant::now()) / 2;
        let deadline = Instant::now() + share;
        let unsent = |failure| unsent(failure, endpoint);
        let connection = Connection::open(endpoint, self.access, deadline).await.map_err(unsent)?;
        let list = connection.linearizable_list(deadline).await.map_err(unsent)?;
        if list.cluster_id != self.cluster_id {
            return Err(CallFailure::OtherCluster(list.cluster_id));
        }
        check(&list)?;
        Ok(connection)
    }
}

/// A failure of a read: no write was sent, so that its outcome is no question.
fn unsent(failure: CallFailure, endpoint: &Endpoint) -> CallFailure {
    match failure {
        CallFailure::TimedOut => CallFailure::Unanswered(endpoint.url.authority()),
        other if other.is_without_effect() => other,
        other => CallFailure::Unreachable(format!("{}: {other}", endpoint.url)),
    }
}

fn is_learner(member: &Member) -> Result<(), CallFailure> {
    if member.is_learner { Ok(()) } else { Err(CallFailure::NotLearner) }
}

fn find(list: &MemberList, member_id: MemberId) -> Result<&Member, CallFailure> {
    list.members.iter().find(|member| member.id == member_id).ok_or(CallFailure::NotFound)
}

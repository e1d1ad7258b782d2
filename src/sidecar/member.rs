//! This member in numbers: its part, how far it is behind, and how many voters more the cluster can do without.

use serde::Serialize;

use crate::etcd::MemberStatus;
use crate::names::{MemberId, PodName};
use crate::observation::{Member, MemberList, Observation, OwnName, PeerView};
use crate::status::Role;

/// etcd's own default of `--quota-backend-bytes`, in bytes.
const QUOTA_DEFAULT: i64 = 2 * 1024 * 1024 * 1024;

/// What `/status` and `/metrics` say of this member.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Its ID.
    pub member_id: MemberId,
    /// Its part.
    pub role: Role,
    /// Its raft term.
    pub term: u64,
    /// Its raft index.
    pub index: u64,
    /// Log entries that the leader has and this member has not; none while no leader answers.
    pub lag_entries: Option<u64>,
    /// Voters that answer and are in touch with the leader, less those that a quorum needs: so many more may fail.
    /// Negative where there is no quorum, as far as this pod can see; none before it has seen a list of members.
    pub quorum_margin: Option<i64>,
    /// The size of its database, in bytes.
    pub db_size_bytes: i64,
    /// What etcd takes at most, in bytes.
    pub db_quota_bytes: i64,
    /// Its version.
    pub version: String,
}

impl Report {
    /// Draws it out of the own etcd's answer and the peers'.
    pub fn of(own: &MemberStatus, seen: &Observation, quota_set: Option<i64>) -> Self {
        let lists: Vec<&MemberList> = seen.peers.values().filter_map(|answer| list_of(&answer.view)).collect();
        let ours = || lists.iter().filter(|list| list.cluster_id == own.cluster_id);
        let leader = ours().find(|list| list.answered_by == own.leader);
        let lag_entries =
            if own.leader == own.member_id { Some(0) } else { leader.map(|list| list.index.saturating_sub(own.index)) };
        let role = match (own.is_learner, own.leader == own.member_id) {
            (true, _) => Role::Learner,
            (false, true) => Role::Leader,
            (false, false) => Role::Voter,
        };
        let known = own.quota_bytes.filter(|quota| *quota > 0).or(quota_set.filter(|quota| *quota > 0));
        Self {
            member_id: own.member_id,
            role,
            term: own.term,
            index: own.index,
            lag_entries,
            quorum_margin: quorum_margin(own, seen, &ours().copied().collect::<Vec<_>>()),
            db_size_bytes: own.db_size_bytes,
            db_quota_bytes: known.unwrap_or(QUOTA_DEFAULT),
            version: own.version.clone(),
        }
    }
}

fn list_of(view: &PeerView) -> Option<&MemberList> {
    match view {
        PeerView::Etcd(etcd) => etcd.list.as_ref().ok(),
        _ => None,
    }
}

/// A voter counts where it gave a linearizable list, for that it needs the leader; the own one where it knows a leader.
fn quorum_margin(own: &MemberStatus, seen: &Observation, lists: &[&MemberList]) -> Option<i64> {
    let local = |answer: &crate::observation::Answer| match &answer.view {
        PeerView::Etcd(etcd) if etcd.cluster_id == own.cluster_id => etcd.members.clone(),
        _ => None,
    };
    let newest = lists.iter().max_by_key(|list| (list.term, list.index)).map(|list| list.members.clone());
    let members: Vec<Member> = newest.or_else(|| seen.peers.values().find_map(local))?;
    let voters: Vec<MemberId> = members.iter().filter(|member| !member.is_learner).map(|member| member.id).collect();
    let is_led = |id: MemberId| id == own.member_id && own.leader != MemberId(0) && !own.is_learner;
    let in_touch = |id: MemberId| is_led(id) || lists.iter().any(|list| list.answered_by == id);
    let count = voters.iter().filter(|id| in_touch(**id)).count();
    Some(count as i64 - (voters.len() / 2 + 1) as i64)
}

/// Whether the own pod's peer port is an etcd's. It is dialled by name: where that does not lead here, another pod answers.
pub fn own_port_is_etcd(seen: &Observation, pod: &PodName) -> bool {
    seen.dns.own == OwnName::Ours && matches!(seen.peers.get(pod).map(|answer| &answer.view), Some(PeerView::Etcd(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::ClusterId;
    use crate::observation::{Answer, DnsFailure, EtcdView, ListFailure};

    fn own(leader: u64, index: u64, is_learner: bool) -> MemberStatus {
        MemberStatus {
            member_id: MemberId(2),
            cluster_id: ClusterId(0xabc),
            leader: MemberId(leader),
            term: 3,
            index,
            is_learner,
            db_size_bytes: 5,
            quota_bytes: None,
            version: "3.6.16".to_owned(),
        }
    }

    /// Voters 1 to `voters`, of which those in `answering` give a list, at index 10 times their number.
    fn seen(voters: u64, answering: &[u64]) -> Observation {
        let member = |id: u64| Member {
            id: MemberId(id),
            name: format!("etcd-{id}"),
            peer_urls: vec![format!("http://etcd-{id}.etcd:2380")],
            client_urls: vec![],
            is_learner: false,
        };
        let members: Vec<Member> = (1..=voters).map(member).collect();
        let mut seen = crate::status::tests::waiting().observation;
        let answer = |id: u64| {
            let list = MemberList {
                cluster_id: ClusterId(0xabc),
                answered_by: MemberId(id),
                leader: MemberId(1),
                term: 3,
                index: id * 10,
                members: members.clone(),
                db_size_bytes: 1,
            };
            let list = if answering.contains(&id) { Ok(list) } else { Err(ListFailure::NoLeader) };
            let view = EtcdView { cluster_id: ClusterId(0xabc), members: Some(members.clone()), version: None, list };
            let url = format!("http://etcd-{id}.etcd:2380").parse().unwrap();
            (PodName::new(format!("etcd-{id}")), Answer { asked: 1, answered: 2, url, view: PeerView::Etcd(view) })
        };
        seen.peers = (1..=voters).map(answer).collect();
        seen
    }

    #[test]
    fn role_lag_and_quorum_follow_from_the_answers() {
        let report = Report::of(&own(1, 4, false), &seen(3, &[1, 2, 3]), None);
        assert_eq!((report.role, report.lag_entries, report.quorum_margin), (Role::Voter, Some(6), Some(1)));
        assert_eq!(report.db_quota_bytes, QUOTA_DEFAULT);
        let report = Report::of(&own(2, 4, false), &seen(5, &[1, 2, 3]), Some(7));
        assert_eq!((report.role, report.lag_entries, report.quorum_margin), (Role::Leader, Some(0), Some(0)));
        assert_eq!(report.db_quota_bytes, 7);
        let report = Report::of(&own(0, 4, false), &seen(3, &[]), None);
        assert_eq!((report.role, report.lag_entries, report.quorum_margin), (Role::Voter, None, Some(-2)));
        let report = Report::of(&own(2, 4, false), &seen(3, &[]), None);
        assert_eq!(report.quorum_margin, Some(-1), "it leads, and nobody else has been heard");
        assert_eq!(Report::of(&own(2, 4, false), &seen(0, &[]), None).quorum_margin, None);
        let report = Report::of(&own(1, 12, true), &seen(3, &[1, 3]), None);
        assert_eq!((report.role, report.lag_entries, report.quorum_margin), (Role::Learner, Some(0), Some(0)));
    }

    #[test]
    fn an_etcd_at_the_own_name_counts_only_where_that_name_leads_here() {
        let pod = PodName::new("etcd-1");
        let mut seen = seen(3, &[1, 2, 3]);
        seen.dns.own = OwnName::Ours;
        assert!(own_port_is_etcd(&seen, &pod));
        let elsewhere = OwnName::Elsewhere(vec!["10.0.0.9".parse().unwrap()]);
        for own in [OwnName::NotAsked, OwnName::No(DnsFailure::NxDomain), elsewhere] {
            seen.dns.own = own;
            assert!(!own_port_is_etcd(&seen, &pod), "{:?}", seen.dns.own);
        }
    }
}

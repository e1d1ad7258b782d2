//! Which cluster the peers run, as far as it is proven: a linearizable member list of a cluster that is ours, given
//! alike by a majority of its voters.

use std::collections::{BTreeMap, BTreeSet};

use crate::intent::Intent;
use crate::names::{ClusterId, MemberId, PodName, Url};
use crate::observation::{Disk, EtcdView, JournalFile, Member, MemberList, Observation, PeerView, Wal};

/// What the answers say about the cluster.
#[derive(Debug)]
pub struct Cluster<'a> {
    /// The newest linearizable list of our cluster, whether or not a majority confirms it.
    pub newest: Option<&'a MemberList>,
    /// The same list, where a majority of its voters gives it: what membership calls may rest on.
    pub confirmed: Option<&'a MemberList>,
    /// The pods that run etcd, and of which cluster.
    pub running: BTreeMap<&'a PodName, ClusterId>,
    /// The ID that a cluster must have to be ours, where the disk says so.
    pub expected: Option<ClusterId>,
}

/// The cluster that this disk belongs to: the WAL's, else the journal's.
pub fn expected_cluster(disk: &Disk) -> Option<ClusterId> {
    match (&disk.wal, &disk.journal) {
        (Wal::Present(facts), _) => Some(facts.cluster_id),
        (_, JournalFile::Valid(journal)) => journal.stage.cluster_id().or(journal.cluster_id),
        _ => None,
    }
}

impl<'a> Cluster<'a> {
    /// Draws it out of the answers.
    pub fn of(intent: &Intent, seen: &'a Observation) -> Self {
        let etcds: Vec<(&PodName, &Url, &EtcdView)> = seen
            .peers
            .iter()
            .filter(|(pod, _)| **pod != intent.pod)
            .filter_map(|(pod, answer)| match &answer.view {
                PeerView::Etcd(etcd) => Some((pod, &answer.url, etcd)),
                _ => None,
            })
            .collect();
        let expected = expected_cluster(&seen.disk);
        let newest = etcds
            .iter()
            .filter_map(|(_, url, etcd)| etcd.list.as_ref().ok().map(|list| (*url, list)))
            .filter(|(url, list)| is_ours(intent, expected, url, list))
            .map(|(_, list)| list)
            .max_by_key(|list| (list.term, list.index));
        let confirmed = newest.filter(|list| majority_gives(intent, list, &etcds));
        let running = etcds.iter().map(|(pod, _, etcd)| (*pod, etcd.cluster_id)).collect();
        Self { newest, confirmed, running, expected }
    }

    /// The clusters that run at peers and cannot be ours: another ID than the disk's, or, where the disk has none,
    /// more than one.
    pub fn foreign(&self) -> BTreeSet<ClusterId> {
        let ids: BTreeSet<ClusterId> = self.running.values().copied().collect();
        match self.expected {
            Some(id) => ids.into_iter().filter(|other| *other != id).collect(),
            None if ids.len() > 1 => ids,
            None => BTreeSet::new(),
        }
    }

    /// Who runs which cluster, for an operator.
    pub fn who_runs_which(&self) -> String {
        let each: Vec<String> = self.running.iter().map(|(pod, id)| format!("{pod} runs {id}")).collect();
        each.join(", ")
    }
}

/// The newest list of this disk's cluster that anybody gives, this pod's own etcd included.
pub fn newest_of_all(seen: &Observation) -> Option<&MemberList> {
    let own = expected_cluster(&seen.disk);
    let lists = seen.peers.values().filter_map(|answer| match &answer.view {
        PeerView::Etcd(etcd) => etcd.list.as_ref().ok(),
        _ => None,
    });
    lists.filter(|list| own.is_none_or(|own| list.cluster_id == own)).max_by_key(|list| (list.term, list.index))
}

/// This pod's members in a list, by pod name: more than one is for an operator.
pub fn own_members<'a>(intent: &Intent, members: &'a [Member]) -> Vec<&'a Member> {
    members.iter().filter(|member| intent.is_mine(member)).collect()
}

/// The member of an ID.
pub fn by_id(members: &[Member], id: MemberId) -> Option<&Member> {
    members.iter().find(|member| member.id == id)
}

/// Whether a list that came from this URL is of the cluster that this disk belongs to. A disk that knows none goes by
/// the URL that was dialled: a list that does not contain it is somebody else's, behind a stale record.
pub fn is_ours(intent: &Intent, expected: Option<ClusterId>, dialled: &Url, list: &MemberList) -> bool {
    match expected {
        Some(id) => list.cluster_id == id,
        None => list.members.iter().any(|member| intent.is_listed_at(member, dialled)),
    }
}

fn majority_gives(intent: &Intent, list: &MemberList, etcds: &[(&PodName, &Url, &EtcdView)]) -> bool {
    let ids = |members: &[Member]| members.iter().map(|member| (member.id, member.is_learner)).collect::<BTreeSet<_>>();
    let wanted = ids(&list.members);
    let voters: Vec<&Member> = list.members.iter().filter(|member| !member.is_learner).collect();
    let agreeing = voters.iter().filter(|voter| {
        etcds.iter().any(|(_, url, etcd)| {
            intent.is_listed_at(voter, url)
                && etcd.cluster_id == list.cluster_id
                && etcd.members.as_deref().is_some_and(|members| ids(members) == wanted)
        })
    });
    agreeing.count() * 2 > voters.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::tests::{OTHER, Row, founder, planned, pod, row, static_id};
    use crate::intent::tests::{intent, member};
    use crate::journal::{Journal, Stage};
    use crate::names::DiskId;
    use crate::observation::{Pairing, WalFacts};

    fn disk(wal: Wal, journal: JournalFile) -> Disk {
        Disk { wal, db: false, journal, pairing: Pairing::NotNeeded, misplaced_wal: None }
    }

    #[test]
    fn the_wal_says_which_cluster_before_the_journal() {
        let facts = WalFacts {
            member_id: MemberId(1),
            cluster_id: ClusterId(1),
            term: 0,
            index: 0,
            commit: 0,
            spoke: true,
            missing: None,
        };
        let mut journal =
            Journal::of_new_disk(DiskId::from("d"), PodName::from("etcd-0"), String::new(), String::new());
        assert_eq!(expected_cluster(&disk(Wal::Absent, JournalFile::Valid(journal.clone()))), None);
        journal.cluster_id = Some(ClusterId(3));
        assert_eq!(expected_cluster(&disk(Wal::Absent, JournalFile::Valid(journal.clone()))), Some(ClusterId(3)));
        journal.stage = Stage::Intent { cluster_id: ClusterId(2) };
        assert_eq!(expected_cluster(&disk(Wal::Absent, JournalFile::Valid(journal.clone()))), Some(ClusterId(2)));
        let both = disk(Wal::Present(facts), JournalFile::Valid(journal));
        assert_eq!(expected_cluster(&both), Some(ClusterId(1)));
        assert_eq!(expected_cluster(&disk(Wal::Absent, JournalFile::Absent)), None);
    }

    #[test]
    fn clusters_are_foreign_that_cannot_be_ours() {
        let pods = [PodName::from("etcd-0"), PodName::from("etcd-1")];
        let cluster = |expected, ids: &[u64]| Cluster {
            newest: None,
            confirmed: None,
            running: pods.iter().zip(ids).map(|(pod, id)| (pod, ClusterId(*id))).collect(),
            expected,
        };
        assert!(cluster(None, &[1, 1]).foreign().is_empty());
        assert_eq!(cluster(None, &[1, 2]).foreign().len(), 2);
        assert_eq!(cluster(Some(ClusterId(1)), &[1, 2]).foreign(), [ClusterId(2)].into());
        assert!(cluster(Some(ClusterId(1)), &[1]).foreign().is_empty());
        assert_eq!(cluster(None, &[1, 2]).who_runs_which(), "etcd-0 runs 1, etcd-1 runs 2");
    }

    #[test]
    fn the_newest_list_of_all_is_of_the_own_cluster_if_there_is_one() {
        let newer = |n: u32| {
            move |seen: &mut Observation| {
                let PeerView::Etcd(etcd) = &mut seen.peers.get_mut(&pod(n)).unwrap().view else { panic!() };
                etcd.list.as_mut().unwrap().index += 1;
            }
        };
        let row = row(2, 3).led(&[0], planned(3), &[founder(0)]).led(&[1], OTHER, &[founder(1)]);
        let newest = |row: &Row| newest_of_all(&row.seen).map(|list| list.cluster_id);
        assert_eq!(newest(&row.clone().seen(newer(0))), Some(planned(3)));
        assert_eq!(newest(&row.clone().seen(newer(1))), Some(OTHER));
        assert_eq!(newest(&row.wal(static_id(2)).seen(newer(1))), Some(planned(3)));
    }

    #[test]
    fn own_members_go_by_the_pod() {
        let list = [
            member(1, "etcd-0", &["http://etcd-0.etcd.ns.svc:2380"]),
            member(2, "", &["http://etcd-1.etcd.ns.svc:2380"]),
            member(3, "etcd-1", &["https://etcd-1.etcd:2380"]),
        ];
        let own: Vec<MemberId> = own_members(&intent(1), &list).iter().map(|member| member.id).collect();
        assert_eq!(own, [MemberId(2), MemberId(3)]);
        assert_eq!(by_id(&list, MemberId(3)).map(|member| member.id), Some(MemberId(3)));
        assert!(by_id(&list, MemberId(4)).is_none());
    }
}

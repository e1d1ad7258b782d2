//! What the roll call has heard: whether all said in two rounds that they have no data, the second begun after the first
//! was complete.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::intent::Plan;
use crate::names::{DiskId, PodName};
use crate::observation::{Answer, Kind, PeerView};

/// What was heard so far. Only answers that this process fetched count, and only while nobody takes them back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Hearing {
    first: Option<Round>,
    second: bool,
}

/// Who listens, and to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener<'a> {
    /// All pods that have to speak, without this one.
    pub others: BTreeSet<PodName>,
    /// What they have to speak of.
    pub plan: &'a Plan,
    /// This disk has lost data: others that have, too, count as those that have none.
    pub lost: bool,
}

impl Listener<'_> {
    fn all_without_data(&self, peers: &BTreeMap<PodName, Answer>) -> Option<BTreeMap<PodName, DiskId>> {
        let disk = |pod: &PodName| match &peers.get(pod)?.view {
            PeerView::Waiting(said) if said.plan == *self.plan => match said.kind {
                Kind::Blank | Kind::Prepared(_) => Some((pod.clone(), said.disk_id.clone())),
                Kind::Lost if self.lost => Some((pod.clone(), said.disk_id.clone())),
                _ => None,
            },
            _ => None,
        };
        self.others.iter().map(disk).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Round {
    complete: u64,
    disks: BTreeMap<PodName, DiskId>,
}

impl Hearing {
    /// The disks that were heard twice, if all were.
    pub fn heard_twice(&self) -> Option<&BTreeMap<PodName, DiskId>> {
        self.first.as_ref().filter(|_| self.second).map(|round| &round.disks)
    }

    /// What is heard once these answers are there; `now` is the number that the next question would get.
    pub fn after(&self, listener: &Listener, peers: &BTreeMap<PodName, Answer>, now: u64) -> Self {
        let Some(disks) = listener.all_without_data(peers) else {
            return Self::default();
        };
        let others = &listener.others;
        match &self.first {
            Some(first) if first.disks == disks => {
                let later =
                    others.iter().all(|pod| peers.get(pod).is_some_and(|answer| answer.asked >= first.complete));
                Self { first: self.first.clone(), second: self.second || later }
            }
            _ => Self { first: Some(Round { complete: now, disks }), second: others.is_empty() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intent::Founder;
    use crate::names::{ClusterId, ProcessId};
    use crate::observation::{EtcdView, ListFailure, Silence, Statement};

    fn pod(n: u32) -> PodName {
        PodName::new(format!("etcd-{n}"))
    }

    fn plan(token: &str) -> Plan {
        let founder = |n| Founder {
            name: format!("etcd-{n}"),
            peer_urls: vec![format!("http://etcd-{n}.etcd:2380").parse().unwrap()],
        };
        Plan::new((0..3).map(founder).collect(), token.to_owned())
    }

    fn said(n: u32, kind: Kind, disk: &str, token: &str) -> PeerView {
        PeerView::Waiting(Statement {
            version: Statement::VERSION,
            pod: pod(n),
            service: "etcd".to_owned(),
            namespace: "ns".to_owned(),
            disk_id: DiskId::from(disk),
            process_id: ProcessId::from("p"),
            plan: plan(token),
            kind,
        })
    }

    fn blank(n: u32) -> PeerView {
        said(n, Kind::Blank, &format!("disk-{n}"), "t")
    }

    struct Ear {
        hearing: Hearing,
        lost: bool,
        peers: BTreeMap<PodName, Answer>,
        clock: u64,
    }

    impl Ear {
        fn new() -> Self {
            Self { hearing: Hearing::default(), lost: false, peers: BTreeMap::new(), clock: 0 }
        }

        /// A question and its answer, one after the other.
        fn hear(&mut self, n: u32, view: PeerView) -> bool {
            let asked = self.ask();
            self.answer(n, asked, view)
        }

        fn ask(&mut self) -> u64 {
            self.clock += 1;
            self.clock - 1
        }

        fn answer(&mut self, n: u32, asked: u64, view: PeerView) -> bool {
            let answered = self.ask();
            let url = format!("http://etcd-{n}.etcd:2380").parse().unwrap();
            self.peers.insert(pod(n), Answer { asked, answered, url, view });
            let plan = plan("t");
            let listener = Listener { others: [pod(1), pod(2)].into(), plan: &plan, lost: self.lost };
            self.hearing = self.hearing.after(&listener, &self.peers, self.clock);
            self.hearing.heard_twice().is_some()
        }
    }

    #[test]
    fn two_rounds_of_all() {
        let mut ear = Ear::new();
        assert!(!ear.hear(1, blank(1)));
        assert!(!ear.hear(2, blank(2)));
        assert!(!ear.hear(1, blank(1)));
        assert!(ear.hear(2, blank(2)));
        let disks = [(pod(1), DiskId::from("disk-1")), (pod(2), DiskId::from("disk-2"))].into();
        assert_eq!(ear.hearing.heard_twice(), Some(&disks));
        // It stays heard while nobody takes it back.
        assert!(ear.hear(1, said(1, Kind::Prepared(BTreeMap::new()), "disk-1", "t")));
    }

    #[test]
    fn a_question_of_the_first_round_is_not_of_the_second() {
        let mut ear = Ear::new();
        ear.hear(1, blank(1));
        let early = ear.ask();
        ear.hear(2, blank(2));
        ear.hear(2, blank(2));
        assert!(!ear.answer(1, early, blank(1)));
        assert!(ear.hear(1, blank(1)));
    }

    #[test]
    fn whoever_says_else_or_nothing_begins_it_anew() {
        let etcd =
            EtcdView { cluster_id: ClusterId(1), members: None, version: None, list: Err(ListFailure::NotAsked) };
        for other in [
            PeerView::Silent(Silence::TimedOut("10.0.0.1:2380".to_owned())),
            PeerView::Etcd(etcd),
            said(1, Kind::Lost, "disk-1", "t"),
            said(1, Kind::WasMember, "disk-1", "t"),
            said(1, Kind::Blank, "disk-1", "another"),
        ] {
            let mut ear = Ear::new();
            ear.hear(1, blank(1));
            ear.hear(2, blank(2));
            assert!(!ear.hear(1, other));
            assert_eq!(ear.hearing, Hearing::default());
            assert!(!ear.hear(1, blank(1)));
            assert!(!ear.hear(2, blank(2)));
            assert!(ear.hear(1, blank(1)));
        }
    }

    #[test]
    fn to_who_has_lost_data_others_that_have_count_as_without() {
        let mut ear = Ear { lost: true, ..Ear::new() };
        let lost = || said(1, Kind::Lost, "disk-1", "t");
        assert!(!ear.hear(1, lost()) && !ear.hear(2, blank(2)));
        assert!(!ear.hear(1, lost()) && ear.hear(2, blank(2)));
        assert!(!ear.hear(1, said(1, Kind::WasMember, "disk-1", "t")));
    }

    #[test]
    fn another_disk_begins_it_anew() {
        let mut ear = Ear::new();
        ear.hear(1, blank(1));
        ear.hear(2, blank(2));
        ear.hear(2, blank(2));
        assert!(!ear.hear(1, said(1, Kind::Blank, "another", "t")));
        assert!(!ear.hear(1, said(1, Kind::Blank, "another", "t")));
        assert!(ear.hear(2, blank(2)));
    }

    #[test]
    fn more_pods_begin_it_anew_and_nobody_needs_no_round() {
        let mut ear = Ear::new();
        ear.hear(1, blank(1));
        ear.hear(2, blank(2));
        ear.hear(1, blank(1));
        ear.hear(2, blank(2));
        let plan = plan("t");
        let wider = Listener { others: [pod(1), pod(2), pod(3)].into(), plan: &plan, lost: false };
        assert_eq!(ear.hearing.after(&wider, &ear.peers, 99), Hearing::default());
        let alone = Listener { others: BTreeSet::new(), ..wider };
        let alone = Hearing::default().after(&alone, &BTreeMap::new(), 0);
        assert_eq!(alone.heard_twice(), Some(&BTreeMap::new()));
    }
}

//! What the sidecar does next, and what etcd's configuration file has to say meanwhile: pure functions of what is so.
//!
//! | an etcd | the file | what `run` would do now | next |
//! |---|---|---|---|
//! | runs | any | any | accompany it; touch nothing of its disk |
//! | none; the member is leaving, and the pod with it | any | any | await: nothing brings it back in |
//! | none | any, of an earlier run of this program | any | prepare: decide afresh |
//! | none | missing | any | prepare |
//! | none | there | start etcd; or give the peers a moment | await: the kubelet starts it with that file |
//! | none | there | wait, while the first start that was decided has not happened | await |
//! | none | there | archive, join, refuse, wait for a leader | prepare |
//!
//! To prepare is to take the file away first, and to hold the peer port from then on: no etcd starts beside it.

use crate::names::MemberId;
use crate::observation::{Disk, JournalFile, Wal};
use crate::plan::{Action, Decision, Rule};
use crate::standing::Standing;

/// What the sidecar does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// etcd runs: promote it, show it, leave its disk alone.
    Accompany,
    /// etcd may start at any moment.
    Await,
    /// Decide, as the entrypoint does, with etcd kept off.
    Prepare,
}

/// What is so.
#[derive(Debug)]
pub struct Facts<'a> {
    /// An etcd has the disk, or answers on the peer port.
    pub runs: bool,
    /// This process has handed the file over, or has seen etcd run: what the file says is no older than that.
    pub decided: bool,
    /// etcd's configuration file is there.
    pub file: bool,
    /// What is on the disk.
    pub disk: &'a Disk,
    /// The member whose first start was allowed and has not happened.
    pub unstarted: Option<MemberId>,
    /// What `run` would do.
    pub decision: &'a Decision,
}

/// What comes next.
pub fn next(facts: &Facts<'_>) -> Next {
    if facts.runs {
        return Next::Accompany;
    }
    if facts.decided && is_leaving(facts.disk) {
        return Next::Await;
    }
    if !facts.decided || !facts.file {
        return Next::Prepare;
    }
    match &facts.decision.action {
        Action::Start(_) => Next::Await,
        Action::Wait { .. } if facts.decision.rule == Rule::DataGrace => Next::Await,
        Action::Wait { .. } if start_is_due(facts.disk, facts.unstarted) => Next::Await,
        Action::Wait { .. } | Action::Take(_) | Action::Refuse { .. } => Next::Prepare,
    }
}

/// `leave` has taken this member out, or is about to.
fn is_leaving(disk: &Disk) -> bool {
    matches!(&disk.journal, JournalFile::Valid(journal) if journal.leaving.is_some())
}

/// The journal allows the start that the mark says has not happened.
fn start_is_due(disk: &Disk, unstarted: Option<MemberId>) -> bool {
    match Standing::of(disk) {
        Standing::Prepared(_, id) | Standing::Joined(_, id) => unstarted == Some(id),
        _ => false,
    }
}

/// What becomes of the file while etcd runs, or may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// The first start has not happened yet, or is under way.
    Keep,
    /// There is a WAL: from now on the file may only restart.
    RestartOnly,
    /// A volume, the WAL or the database is gone from under an etcd: nothing may start here before that is decided.
    TakeAway,
}

/// What lies at etcd's places, as the file system shows it: a running etcd keeps open what was removed.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// Where data and WAL have a volume each, that of the data is there.
    pub has_data_volume: bool,
    /// A first start was allowed, and its mark still lies in the place of the WAL.
    pub is_marked: bool,
    /// There is a WAL.
    pub has_wal: bool,
    /// There is a database. etcd makes it before its WAL, and only ever replaces it by a rename.
    pub has_db: bool,
}

/// What the file has to be. Without its database etcd does not start, or (3.5 and 3.6) starts on a new, empty one.
pub fn file(places: Places) -> File {
    match (places.has_wal, places.is_marked) {
        _ if !places.has_data_volume => File::TakeAway,
        (true, false) if !places.has_db => File::TakeAway,
        (true, _) => File::RestartOnly,
        (false, true) => File::Keep,
        (false, false) => File::TakeAway,
    }
}

/// Whether the disk has a WAL, whatever is in it.
pub fn has_wal(disk: &Disk) -> bool {
    disk.wal != Wal::Absent
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::decide::tests::restart;
    use crate::intent::tests::intent;
    use crate::journal::{Journal, Leaving, Stage};
    use crate::names::{ClusterId, DiskId, PodName};
    use crate::observation::{Pairing, WalFacts};
    use crate::plan::{Start, Step};

    const OWN: MemberId = MemberId(7);

    fn disk(wal: Wal, stage: Stage) -> Disk {
        let journal =
            Journal::of_new_disk(DiskId::from("d"), PodName::from("etcd-0"), "ns".to_owned(), "etcd".to_owned());
        let journal = JournalFile::Valid(Journal { stage, ..journal });
        Disk { wal, db: false, journal, pairing: Pairing::NotNeeded, misplaced_wal: None }
    }

    fn joined() -> Disk {
        disk(Wal::Absent, Stage::Joined { cluster_id: ClusterId(1), member_id: OWN, learner: true })
    }

    fn with_wal() -> Disk {
        let (member_id, cluster_id) = (OWN, ClusterId(1));
        disk(
            Wal::Present(WalFacts { member_id, cluster_id, term: 1, index: 1, commit: 1, spoke: true, missing: None }),
            Stage::Fresh,
        )
    }

    fn decision(rule: Rule, action: Action) -> Decision {
        Decision { rule, action, why: String::new(), warnings: vec![] }
    }

    fn start() -> Decision {
        let start = Start { confirmed: true, ..restart(OWN, ClusterId(1)) };
        decision(Rule::DataListed, Action::Start(start))
    }

    fn wait(rule: Rule) -> Decision {
        decision(rule, Action::Wait { on: BTreeMap::new() })
    }

    fn archive() -> Decision {
        let step = Step::Archive { member_id: None, cluster_id: None, never_spoke: false };
        decision(Rule::DataRemoved, Action::Take(step))
    }

    /// A file of this process, and no etcd.
    fn between(disk: &Disk, unstarted: Option<MemberId>, decision: &Decision) -> Next {
        next(&Facts { runs: false, decided: true, file: true, disk, unstarted, decision })
    }

    #[test]
    fn beside_a_running_etcd_nothing_else_is_done() {
        for (decided, file) in [(false, false), (false, true), (true, false), (true, true)] {
            let facts = Facts { runs: true, decided, file, disk: &joined(), unstarted: None, decision: &archive() };
            assert_eq!(next(&facts), Next::Accompany);
        }
    }

    #[test]
    fn a_file_of_an_earlier_run_is_not_trusted_and_a_missing_one_is_decided_anew() {
        for (decided, file) in [(false, true), (true, false), (false, false)] {
            let facts = Facts { runs: false, decided, file, disk: &with_wal(), unstarted: None, decision: &start() };
            assert_eq!(next(&facts), Next::Prepare);
        }
    }

    #[test]
    fn etcd_restarts_by_itself_on_data_that_may_start() {
        assert_eq!(between(&with_wal(), None, &start()), Next::Await);
        assert_eq!(between(&with_wal(), None, &wait(Rule::DataGrace)), Next::Await);
    }

    #[test]
    fn removed_lost_and_foreign_data_is_decided_on_between_two_starts() {
        assert_eq!(between(&with_wal(), None, &archive()), Next::Prepare);
        assert_eq!(between(&with_wal(), None, &wait(Rule::DataForeign)), Next::Prepare);
        assert_eq!(between(&disk(Wal::Absent, Stage::Fresh), None, &wait(Rule::LossWaits)), Next::Prepare);
        let refusal = decision(Rule::DataRemoved, Action::Refuse { exit_code: 69, hint: String::new() });
        assert_eq!(between(&with_wal(), None, &refusal), Next::Prepare);
    }

    #[test]
    fn who_leaves_is_not_brought_back_in_by_the_process_that_saw_it_run() {
        let mut leaver = with_wal();
        let JournalFile::Valid(journal) = &mut leaver.journal else { panic!() };
        journal.leaving = Some(Leaving { member_id: OWN, cluster_id: ClusterId(1) });
        assert_eq!(between(&leaver, None, &archive()), Next::Await);
        let later =
            Facts { runs: false, decided: false, file: true, disk: &leaver, unstarted: None, decision: &archive() };
        assert_eq!(next(&later), Next::Prepare, "another life of the pod is wanted");
    }

    #[test]
    fn a_first_start_that_is_due_is_waited_for_unless_the_cluster_has_changed_its_mind() {
        assert_eq!(between(&joined(), Some(OWN), &wait(Rule::NoLeader)), Next::Await);
        assert_eq!(between(&joined(), None, &wait(Rule::NoLeader)), Next::Prepare);
        assert_eq!(between(&joined(), Some(MemberId(8)), &wait(Rule::NoLeader)), Next::Prepare);
        assert_eq!(between(&joined(), Some(OWN), &archive()), Next::Prepare);
        let prepared = Stage::Prepared { plan: intent(0).plan.clone(), static_id: OWN, disks: BTreeMap::new() };
        assert_eq!(between(&disk(Wal::Absent, prepared), Some(OWN), &wait(Rule::RollCall)), Next::Await);
    }

    #[test]
    fn the_file_can_only_restart_once_there_is_a_wal_and_goes_when_that_is_lost() {
        let places = |is_marked, has_wal, has_db| Places { has_data_volume: true, is_marked, has_wal, has_db };
        for has_db in [false, true] {
            assert_eq!(file(places(true, false, has_db)), File::Keep, "before and while etcd makes its database");
            assert_eq!(file(places(true, true, has_db)), File::RestartOnly);
            assert_eq!(file(places(false, false, has_db)), File::TakeAway);
            for (is_marked, has_wal) in [(true, false), (false, true), (true, true)] {
                let lost = Places { has_data_volume: false, ..places(is_marked, has_wal, has_db) };
                assert_eq!(file(lost), File::TakeAway);
            }
        }
        assert_eq!(file(places(false, true, true)), File::RestartOnly);
        assert_eq!(file(places(false, true, false)), File::TakeAway, "the database is lost");
        assert!(has_wal(&with_wal()) && !has_wal(&joined()));
    }
}

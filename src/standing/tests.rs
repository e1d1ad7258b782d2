//! What a disk stands for, and what its pod says of it.

use std::collections::BTreeMap;

use super::*;
use crate::intent::tests::intent;

const ID: MemberId = MemberId(7);
const CLUSTER: ClusterId = ClusterId(9);

fn journal(change: impl FnOnce(&mut Journal)) -> Journal {
    let pod = PodName::from("etcd-1");
    let mut journal = Journal::of_new_disk(DiskId::from("d"), pod, "ns".to_owned(), "etcd".to_owned());
    change(&mut journal);
    journal
}

fn disk(change: impl FnOnce(&mut Journal)) -> Disk {
    let journal = JournalFile::Valid(journal(change));
    Disk { wal: Wal::Absent, db: false, journal, pairing: Pairing::NotNeeded, misplaced_wal: None }
}

fn wal(spoke: bool) -> Wal {
    Wal::Present(WalFacts { member_id: ID, cluster_id: CLUSTER, term: 2, index: 4, commit: 4, spoke, missing: None })
}

fn prepared(plan: Plan) -> Stage {
    Stage::Prepared { plan, static_id: ID, disks: BTreeMap::from([(PodName::from("etcd-1"), DiskId::from("d"))]) }
}

fn joined() -> Stage {
    Stage::Joined { cluster_id: CLUSTER, member_id: ID, learner: true }
}

fn kind(disk: &Disk) -> Kind {
    statement(&intent(1), disk, &ProcessId::from("p")).unwrap().kind
}

#[test]
fn without_a_wal_the_journal_says_where_it_stands() {
    assert_eq!(Standing::of(&disk(|_| ())), Standing::Blank);
    assert_eq!(Standing::of(&disk(|journal| journal.was_member = true)), Standing::WasMember);
    assert_eq!(Standing::of(&disk(|journal| journal.stage = joined())), Standing::Joined(CLUSTER, ID));
    let removing = Stage::Removing { cluster_id: CLUSTER, member_id: ID };
    assert_eq!(Standing::of(&disk(|journal| journal.stage = removing)), Standing::Removing(CLUSTER, ID));
    let began = Stage::Intent { cluster_id: CLUSTER };
    assert_eq!(Standing::of(&disk(|journal| journal.stage = began)), Standing::Intent(CLUSTER));
    let plan = intent(1).plan;
    let founds = disk(|journal| journal.stage = prepared(plan.clone()));
    assert_eq!(Standing::of(&founds), Standing::Prepared(&plan, ID));
}

#[test]
fn a_disk_without_a_journal_is_blank_only_without_data() {
    let bare = Disk { journal: JournalFile::Absent, ..disk(|_| ()) };
    assert_eq!(Standing::of(&bare), Standing::Blank);
    assert!(matches!(Standing::of(&Disk { db: true, ..bare.clone() }), Standing::Lost(loss) if loss.leftovers));
    let torn = Disk { journal: JournalFile::Torn("crc".to_owned()), ..bare };
    assert_eq!(Standing::of(&torn), Standing::WasMember);
}

#[test]
fn a_seen_wal_uses_up_its_own_id_alone() {
    for stage in [prepared(intent(1).plan), joined()] {
        let seen = |id| disk(|journal| (journal.stage, journal.wal_seen) = (stage.clone(), Some(id)));
        assert!(matches!(Standing::of(&seen(ID)), Standing::Lost(loss) if !loss.leftovers));
        assert!(!matches!(Standing::of(&seen(MemberId(8))), Standing::Lost(_)));
    }
    // What etcd left in snap before it failed is not evidence where the journal knows better.
    let failed_start = Disk { db: true, ..disk(|journal| journal.stage = joined()) };
    assert_eq!(Standing::of(&failed_start), Standing::Joined(CLUSTER, ID));
    assert!(matches!(Standing::of(&disk(|journal| journal.wal_seen = Some(ID))), Standing::Lost(_)));
}

#[test]
fn a_wal_stands_for_itself_unless_something_is_missing() {
    let with = |wal: Wal| Disk { wal, ..disk(|_| ()) };
    assert!(matches!(Standing::of(&with(wal(true))), Standing::Wal(_)));
    assert!(matches!(Standing::of(&with(wal(false))), Standing::Wal(_)));
    assert!(matches!(Standing::of(&Disk { pairing: Pairing::Matches, ..with(wal(true)) }), Standing::Wal(_)));
    let broken = Disk { pairing: Pairing::Broken, ..with(wal(true)) };
    assert!(matches!(Standing::of(&broken), Standing::Lost(loss) if loss.leftovers && !loss.unreadable));
    let unreadable = with(Wal::Unreadable { path: "/w".into(), reason: "zeros".to_owned() });
    assert!(matches!(Standing::of(&unreadable), Standing::Lost(loss) if loss.leftovers && loss.unreadable));
    let Wal::Present(facts) = wal(true) else { panic!() };
    let gone = with(Wal::Present(WalFacts { missing: Some("no db".to_owned()), ..facts }));
    assert!(matches!(Standing::of(&gone), Standing::Lost(loss) if loss.what == "no db"));
}

#[test]
fn a_wal_that_never_spoke_needs_a_journal_that_allows_it() {
    let with = |stage: Stage| Disk { wal: wal(false), ..disk(|journal| journal.stage = stage) };
    assert!(matches!(Standing::of(&with(joined())), Standing::Unspoken(_)));
    assert!(matches!(Standing::of(&with(prepared(intent(1).plan))), Standing::Unspoken(_)));
    let other = Stage::Joined { cluster_id: CLUSTER, member_id: MemberId(8), learner: false };
    assert!(matches!(Standing::of(&with(other)), Standing::Wal(_)));
    let removing = Stage::Removing { cluster_id: CLUSTER, member_id: ID };
    assert!(matches!(Standing::of(&with(removing)), Standing::Wal(_)));
}

#[test]
fn a_statement_says_what_the_disk_holds() {
    assert_eq!(kind(&disk(|_| ())), Kind::Blank);
    assert_eq!(kind(&disk(|journal| journal.was_member = true)), Kind::WasMember);
    assert_eq!(kind(&disk(|journal| journal.stage = joined())), Kind::WasMember);
    assert_eq!(kind(&disk(|journal| journal.stage = Stage::Intent { cluster_id: CLUSTER })), Kind::WasMember);
    assert_eq!(kind(&disk(|journal| journal.wal_seen = Some(ID))), Kind::Lost);
    let data = Kind::Data { member_id: ID, cluster_id: CLUSTER, term: 2, index: 4 };
    assert_eq!(kind(&Disk { wal: wal(true), ..disk(|_| ()) }), data);
    let Stage::Prepared { disks, .. } = prepared(intent(1).plan) else { panic!() };
    assert_eq!(kind(&disk(|journal| journal.stage = prepared(intent(1).plan))), Kind::Prepared(disks.clone()));
    let mute = Disk { wal: wal(false), ..disk(|journal| journal.stage = prepared(intent(1).plan)) };
    assert_eq!(kind(&mute), Kind::Prepared(disks));
    assert_eq!(kind(&Disk { wal: wal(false), ..disk(|journal| journal.stage = joined()) }), Kind::WasMember);
    // Another plan needs all to be blank again.
    let other = Plan::new(intent(1).plan.founders, "other".to_owned());
    assert_eq!(kind(&disk(|journal| journal.stage = prepared(other))), Kind::Blank);
}

#[test]
fn nobody_speaks_for_a_disk_without_an_id_or_of_another_pod() {
    let speaks = |disk: &Disk| statement(&intent(1), disk, &ProcessId::from("p")).is_some();
    assert!(speaks(&disk(|_| ())));
    assert!(!speaks(&Disk { journal: JournalFile::Absent, ..disk(|_| ()) }));
    assert!(!speaks(&disk(|journal| journal.pod = PodName::from("etcd-2"))));
    assert_eq!(belongs_to(&disk(|_| ()), &intent(1)), None);
    assert!(belongs_to(&disk(|journal| journal.namespace = "other".to_owned()), &intent(1)).is_some());
}

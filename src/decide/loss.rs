//! The rules for a disk that has lost something.

use std::collections::BTreeMap;

use super::{Table, and_list, refuse, take};
use crate::intent::OnLostData;
use crate::journal::Stage;
use crate::names::{ClusterId, DiskId, MemberId, PodName};
use crate::observation::{JournalFile, Kind, Wal};
use crate::plan::{Decision, Rule, Step};
use crate::standing::Loss;

impl Table<'_> {
    pub(super) fn after_a_loss(&self, loss: &Loss) -> Decision {
        if self.intent.on_lost_data == OnLostData::Fail {
            return refuse(
                Rule::LossRefused,
                if loss.unreadable { 65 } else { 69 },
                format!("this disk has lost data ({}), and BOOTSTRAP_ON_LOST_DATA=fail", loss.what),
                "restore the volume, or set BOOTSTRAP_ON_LOST_DATA=replace to put the rest aside and replace the member",
            );
        }
        if self.cluster.confirmed.is_some() {
            if !loss.leftovers {
                return self.without_data();
            }
            let why =
                format!("this disk has lost data ({}): what is left is put aside, and the member replaced", loss.what);
            return take(Rule::LossArchive, self.archive_of_loss(false), why);
        }
        if let Some(wait) = self.unconfirmed().or_else(|| self.foreign()) {
            return wait;
        }
        if self.no_quorum_ever_ran() {
            let why = format!(
                "this disk has lost data ({}), but no cluster ever ran: so many initial members are prepared that the \
                 rest is no quorum, and none of the rest has data",
                loss.what
            );
            let step = if loss.leftovers { self.archive_of_loss(true) } else { Step::NoteWal(None) };
            return take(Rule::LossBeforeFounding, step, why);
        }
        let what = &loss.what;
        if self.others.is_empty() {
            let way_out = "restore the volume, or empty it to found a new cluster without what was in it";
            return self.wait(
                Rule::LossWaits,
                format!("this disk has lost data ({what}), and no other pod is known: {way_out}"),
            );
        }
        let why = format!(
            "this disk has lost data ({what}), and no peer has a leader: a founding could override acknowledged writes \
             ({}){}",
            and_list(&self.others.iter().map(|pod| (pod.clone(), self.describe(pod))).collect()),
            self.lost_quorum().unwrap_or_default()
        );
        self.wait(Rule::LossWaits, why)
    }

    /// So many initial members are prepared that the rest is no quorum; each of the rest is blank or has lost data, too;
    /// and every higher pod is blank.
    ///
    /// Who is prepared has heard all of them blank or prepared, and was part of no quorum since: there was no leader, and
    /// nothing was acknowledged. Nor is anybody left who knows what this disk said: the rest has ended, and in the second
    /// round a prepared one has not begun since the first, when all others had. What is left of a lost disk cannot start,
    /// and knows no votes but its own. A cluster of one has nobody to ask.
    fn no_quorum_ever_ran(&self) -> bool {
        // Its own journal may know better: who joined had a cluster to join, and who was forced was a quorum alone.
        let began = match &self.seen.disk.journal {
            JournalFile::Valid(journal) => {
                matches!(journal.stage, Stage::Fresh | Stage::Prepared { .. })
                    && !journal.was_member
                    && !journal.forced_new_cluster
            }
            JournalFile::Torn(_) => false,
            JournalFile::Absent => true,
        };
        let founders = self.intent.plan.pods();
        let said =
            |pod: &PodName| self.statement_of(pod).filter(|said| said.plan == self.intent.plan).map(|said| &said.kind);
        // Under BOOTSTRAP_STATE=new it may have prepared without all.
        let heard_all = |disks: &BTreeMap<PodName, DiskId>| founders.iter().all(|pod| disks.contains_key(pod));
        let never_ran = |pod: &&PodName| matches!(said(pod), Some(Kind::Prepared(disks)) if heard_all(disks));
        let has_no_data = |pod: &PodName| match said(pod) {
            Some(Kind::Blank) => true,
            Some(Kind::Prepared(_) | Kind::Lost) => founders.contains(pod),
            _ => false,
        };
        began
            && founders.contains(&self.intent.pod)
            && self.seen.hearing.heard_twice().is_some()
            && founders.iter().filter(never_ran).count() * 2 >= founders.len()
            && self.others.iter().all(has_no_data)
    }

    fn archive_of_loss(&self, never_spoke: bool) -> Step {
        let (member_id, cluster_id): (Option<MemberId>, Option<ClusterId>) = match &self.seen.disk.wal {
            Wal::Present(facts) => (Some(facts.member_id), Some(facts.cluster_id)),
            _ => (None, self.cluster.expected),
        };
        Step::Archive { member_id, cluster_id, never_spoke }
    }
}

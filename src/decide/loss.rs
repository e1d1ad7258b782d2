//! The rules for a disk that has lost something.

use super::{Table, and_list, refuse, take};
use crate::intent::OnLostData;
use crate::journal::{Journal, Stage};
use crate::names::{ClusterId, MemberId, PodName};
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
        if self.nobody_ever_ran() {
            let why = format!(
                "this disk has lost data ({}), but every other initial member is prepared and has never run",
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

    /// Every other initial member says "prepared", and every higher pod "blank": nobody ever ran to whom this disk
    /// could have spoken. A cluster of one has nobody to ask.
    fn nobody_ever_ran(&self) -> bool {
        let founders = self.intent.plan.pods();
        // Its own journal may know better: who joined had a cluster to join.
        let began = match &self.seen.disk.journal {
            JournalFile::Valid(Journal { stage: Stage::Fresh | Stage::Prepared { .. }, was_member, .. }) => !was_member,
            JournalFile::Valid(_) | JournalFile::Torn(_) => false,
            JournalFile::Absent => true,
        };
        // Silence is no consent here, whatever BOOTSTRAP_STATE says.
        let prepared = |pod: &PodName| {
            self.statement_of(pod)
                .is_some_and(|said| matches!(said.kind, Kind::Prepared(_)) && said.plan == self.intent.plan)
        };
        let blank = |pod: &PodName| self.statement_of(pod).is_some_and(|said| said.kind == Kind::Blank);
        began
            && founders.len() > 1
            && founders.contains(&self.intent.pod)
            && founders.iter().all(|pod| *pod == self.intent.pod || prepared(pod))
            && self.others.iter().all(|pod| founders.contains(pod) || blank(pod))
    }

    fn archive_of_loss(&self, never_spoke: bool) -> Step {
        let (member_id, cluster_id): (Option<MemberId>, Option<ClusterId>) = match &self.seen.disk.wal {
            Wal::Present(facts) => (Some(facts.member_id), Some(facts.cluster_id)),
            _ => (None, self.cluster.expected),
        };
        Step::Archive { member_id, cluster_id, never_spoke }
    }
}

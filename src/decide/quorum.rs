//! Whether the disks that are left can be a quorum at all.

use super::Table;
use crate::observation::{Kind, Member, PeerView};

impl Table<'_> {
    /// Where so many voters have no data any more that the others are no quorum: what only an operator can do. A pod that
    /// says nothing may have data.
    pub(super) fn lost_quorum(&self) -> Option<String> {
        let members = self.answers().find_map(|(_, answer)| match &answer.view {
            PeerView::Etcd(etcd) => etcd.members.as_deref(),
            _ => None,
        })?;
        let voters: Vec<&Member> = members.iter().filter(|member| !member.is_learner).collect();
        let may_have_data: Vec<String> = voters.iter().filter_map(|voter| self.data_of(voter)).collect();
        if may_have_data.len() * 2 > voters.len() {
            return None;
        }
        Some(format!(
            ". Of {} voters only {} can have data, which is no quorum: nothing brings it back by itself. Name the one with \
             the newest data in BOOTSTRAP_FORCE_NEW_CLUSTER and restart its pod; what only the lost disks had is gone",
            voters.len(),
            may_have_data.join(" and ")
        ))
    }

    /// The pod of a voter, with what is known of its data; none where it has said that it has none.
    fn data_of(&self, voter: &Member) -> Option<String> {
        let pod = voter.pod();
        match self.view(&pod) {
            _ if pod == self.intent.pod => None,
            Some(PeerView::Waiting(said)) => match &said.kind {
                Kind::Data { term, index, .. } => Some(format!("{pod} (term {term}, index {index})")),
                Kind::Blank | Kind::Prepared(_) | Kind::Lost | Kind::WasMember => None,
            },
            Some(PeerView::Etcd(_) | PeerView::Silent(_)) | None => Some(pod.to_string()),
        }
    }
}

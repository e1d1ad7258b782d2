//! What an operator should know, whatever is decided: nothing mends these by itself.

use super::Table;
use crate::cluster::by_id;
use crate::intent::State;
use crate::names::Url;
use crate::observation::{PeerView, Silence, Wal};
use crate::standing::Standing;

impl Table<'_> {
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.intent.state == State::New {
            warnings.push(
                "BOOTSTRAP_STATE=new: silent pods are not waited for, so that a cluster may be founded beside the data of \
                 a pod that cannot be heard; take it out of the template once the cluster is there"
                    .to_owned(),
            );
        }
        let alone = self.intent.plan.founders.len() == 1 && self.intent.is_founder() && self.seen.pods_wanted.is_none();
        if alone && matches!(self.standing, Standing::Blank | Standing::Prepared(..)) {
            warnings.push(
                "the initial size is 1 and the Kubernetes API was not asked: if this cluster was grown and all its pods are \
                 down, this empty disk cannot tell that from a first boot"
                    .to_owned(),
            );
        }
        warnings.extend(self.voters_without_a_pod());
        warnings.extend(self.own_url_differs());
        warnings
    }

    fn voters_without_a_pod(&self) -> Vec<String> {
        let Some(list) = self.cluster.newest else { return Vec::new() };
        let gone =
            list.members.iter().filter(|member| !member.is_learner && !self.intent.is_mine(member)).filter(|member| {
                let view = self.view(&member.pod());
                matches!(view, Some(PeerView::Silent(Silence::NoAddress(failure))) if failure.is_absent())
            });
        gone.map(|member| {
            format!(
                "the voter {} ({}) has no pod: if it is gone for good, run `etcdctl member remove {}`",
                member.id,
                member.pod(),
                member.id
            )
        })
        .collect()
    }

    fn own_url_differs(&self) -> Option<String> {
        let Wal::Present(facts) = &self.seen.disk.wal else { return None };
        let own = by_id(&self.cluster.newest?.members, facts.member_id)?;
        let advertised: Vec<String> = self.intent.peer_urls.iter().map(Url::to_string).collect();
        let same = own.peer_urls.iter().all(|url| advertised.contains(url)) && own.peer_urls.len() == advertised.len();
        (!same).then(|| {
            format!(
                "this member is listed at {}, but advertises {}: run `etcdctl member update {} --peer-urls={}`",
                own.peer_urls.join(","),
                advertised.join(","),
                own.id,
                advertised.join(",")
            )
        })
    }
}

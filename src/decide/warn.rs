//! What an operator should know, whatever is decided: nothing mends these by itself.

use super::Table;
use crate::cluster::by_id;
use crate::intent::State;
use crate::names::Url;
use crate::observation::Wal;
use crate::plan::Warning;
use crate::standing::Standing;

impl Table<'_> {
    pub(super) fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if self.intent.state == State::New {
            warnings.push(Warning {
                what:
                    "BOOTSTRAP_STATE=new: silent pods are not waited for, so that a cluster may be founded beside the \
                       data of a pod that cannot be heard"
                        .to_owned(),
                fix: "take it out of the template once the cluster is there".to_owned(),
            });
        }
        if self.intent.force_new_cluster {
            let used_up = self.journal().is_some_and(|journal| journal.forced_new_cluster);
            let what = if used_up { "is used up by an earlier start" } else { "is used up by this start" };
            warnings.push(Warning {
                what: format!("BOOTSTRAP_FORCE_NEW_CLUSTER names this pod, and {what}"),
                fix: "take it out of the template; to use it again, let the pod start without it first".to_owned(),
            });
        }
        let alone = self.intent.plan.founders.len() == 1 && self.intent.is_founder() && self.seen.pods_wanted.is_none();
        if alone && matches!(self.standing, Standing::Blank | Standing::Prepared(..)) {
            warnings.push(Warning {
                what:
                    "the initial size is 1 and the Kubernetes API has not told which pods there may be: if this cluster was \
                       grown and all its pods are down, this empty disk cannot tell that from a first boot"
                        .to_owned(),
                fix: "if it was grown, start its other pods first".to_owned(),
            });
        }
        warnings.extend(self.old_log_warning());
        warnings.extend(self.voters_without_a_pod());
        warnings.extend(self.own_url_differs());
        warnings
    }

    fn voters_without_a_pod(&self) -> Vec<Warning> {
        let Some(list) = self.cluster.newest else { return Vec::new() };
        let gone = list
            .members
            .iter()
            .filter(|member| !member.is_learner && !self.intent.is_mine(member) && self.seen.dns.has_no_record(member));
        gone.map(|member| Warning {
            what: format!("the voter {} ({}) has no pod", member.id, member.pod()),
            fix: format!("if it is gone for good, run `etcdctl member remove {}`", member.id),
        })
        .collect()
    }

    fn own_url_differs(&self) -> Option<Warning> {
        let Wal::Present(facts) = &self.seen.disk.wal else { return None };
        let own = by_id(&self.cluster.newest?.members, facts.member_id)?;
        let advertised: Vec<String> = self.intent.peer_urls.iter().map(Url::to_string).collect();
        let same = own.peer_urls.iter().all(|url| advertised.contains(url)) && own.peer_urls.len() == advertised.len();
        let (listed, advertised) = (own.peer_urls.join(","), advertised.join(","));
        (!same).then(|| Warning {
            what: format!("this member is listed at {listed}, but advertises {advertised}"),
            fix: format!("run `etcdctl member update {} --peer-urls={advertised}`", own.id),
        })
    }
}

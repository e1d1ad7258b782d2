//! What this image's etcd would refuse or die of, seen before anything is added, put aside or started for it. Only what is
//! certain is refused; whatever is not known is for etcd to judge.

use super::{Table, refuse};
use crate::names::ClusterId;
use crate::observation::{EtcdView, PeerView, Wal};
use crate::plan::{Action, Decision, InitialClusterState, Rule, Start, Step, Warning};
use crate::version::Minor;

impl Table<'_> {
    /// The decision, or what the versions make of it.
    pub(super) fn by_version(&self, decision: Decision) -> Decision {
        let Some(own) = self.own_version() else { return decision };
        let instead = match &decision.action {
            Action::Start(Start { first: false, .. }) => self.with_data_of(own).or_else(|| self.behind(own)),
            Action::Start(Start { state: InitialClusterState::New, .. }) => None,
            Action::Start(start) => {
                self.behind(own).or_else(|| self.ahead(own)).or_else(|| self.undecided(start.cluster_id))
            }
            Action::Take(Step::Add { cluster_id, .. }) => {
                self.behind(own).or_else(|| self.ahead(own)).or_else(|| self.undecided(*cluster_id))
            }
            action if action.leads_to_a_join() => self.behind(own).or_else(|| self.ahead(own)),
            _ => None,
        };
        instead.unwrap_or(decision)
    }

    fn own_version(&self) -> Option<Minor> {
        self.seen.image.version.as_ref()?.parse().ok()
    }

    /// The name of this image's etcd.
    fn own_etcd(&self) -> String {
        format!("etcd {}", self.seen.image.version.as_deref().unwrap_or("of this image"))
    }

    fn with_data_of(&self, own: Minor) -> Option<Decision> {
        let data = self.seen.image.data.as_ref()?;
        let cluster = data.cluster.as_ref().and_then(|version| version.parse::<Minor>().ok());
        // Before 3.6 nobody looks at it.
        let storage = data.storage.as_ref().and_then(|version| version.parse::<Minor>().ok());
        let newest = cluster.max(storage.filter(|_| own >= Minor::V3_6));
        if let Some(newest) = newest.filter(|newest| *newest > own) {
            let why = format!("the data on this disk is of etcd {newest}, and {} cannot start on it", self.own_etcd());
            let back = format!("set the image back to etcd {newest}; nothing was changed");
            let hint = if own.after() == newest && own >= Minor::V3_5 {
                format!(
                    "{back}. The way to {own} is `etcdctl downgrade enable {own}` while all members run {newest}; when \
                     `/version` of each shows \"etcdcluster\":\"{own}.0\", change the image"
                )
            } else {
                back
            };
            return Some(refuse(Rule::DataVersion, 78, why, hint));
        }
        let index = data.unreplayable?;
        let (from, last, hint) = if own >= Minor::V3_7 {
            (
                "3.5 wrote",
                Minor::V3_6,
                "when `/version` of each member shows \"etcdcluster\":\"3.6.0\", restart every member once more on 3.6, which \
                 makes it take a snapshot, and then change the image. A learner's volume may be emptied instead",
            )
        } else {
            (
                "3.4 wrote, or the v2 API",
                Minor::V3_5,
                "start every member there with --snapshot-count=1 until a write has made it take a snapshot; then take the \
                 flag out and change the image",
            )
        };
        let why = format!(
            "the log on this disk has an entry that {from} (index {index}), and {} panics on it",
            self.own_etcd()
        );
        Some(refuse(
            Rule::LogVersion,
            78,
            why,
            format!("set the image back to etcd {last}; nothing was changed. {hint}"),
        ))
    }

    /// All members that have a leader say that their cluster is newer than this etcd: it would be refused, or end as soon
    /// as it learns so.
    fn behind(&self, own: Minor) -> Option<Decision> {
        let (id, version) = self.cluster_version()?;
        (version > own).then(|| {
            let why =
                format!("the cluster {id} runs at version {version}, and {} cannot be its member", self.own_etcd());
            let hint = format!("use an image with etcd {version}, or one minor version newer; nothing was changed");
            refuse(Rule::ClusterVersion, 78, why, hint)
        })
    }

    /// A joiner may be one minor version newer than the cluster.
    fn ahead(&self, own: Minor) -> Option<Decision> {
        let (id, version) = self.cluster_version()?;
        (own > version.after()).then(|| {
            let why = format!(
                "the cluster {id} runs at version {version}, and {} is more than one minor version newer: it would panic",
                self.own_etcd()
            );
            let hint = format!(
                "upgrade the cluster one minor version at a time; until then this pod's image has to have etcd {version} or \
                 {}; nothing was changed",
                version.after()
            );
            refuse(Rule::ClusterVersion, 78, why, hint)
        })
    }

    /// etcd does not join while a member says `not_decided`: a joiner of its own does for a moment.
    fn undecided(&self, id: ClusterId) -> Option<Decision> {
        let undecided = |view: &EtcdView| {
            let version = view.version.as_ref().filter(|_| view.cluster_id == id);
            version.is_some_and(|version| version.cluster.parse::<Minor>().is_err())
        };
        let (pod, _) =
            self.answers().find(|(_, answer)| matches!(&answer.view, PeerView::Etcd(view) if undecided(view)))?;
        let why = format!("{pod} does not know the version of the cluster {id} yet: etcd would not join");
        Some(self.wait(Rule::JoinWaits, why))
    }

    /// The lowest version of our cluster that a member with a leader says, for one that lags knows an older one.
    ///
    /// For up to five seconds after its founding a cluster says 3.0 (etcd's `monitorVersions`): then it is about to have
    /// its members' version.
    fn cluster_version(&self) -> Option<(ClusterId, Minor)> {
        let id = self.cluster.newest?.cluster_id;
        let versions = self.answers().filter_map(|(_, answer)| match &answer.view {
            PeerView::Etcd(view) if view.cluster_id == id && view.list.is_ok() => {
                let version = view.version.as_ref()?;
                let cluster = version.cluster.parse().ok()?;
                if cluster == Minor::FOUNDING { version.server.parse().ok() } else { Some(cluster) }
            }
            _ => None,
        });
        versions.min().map(|version| (id, version))
    }

    /// 3.7 panics on what 3.5 wrote, and a joiner does not see the log that it will get: a learner costs no vote then.
    pub(super) fn log_may_be_too_old(&self) -> bool {
        let cluster = self.cluster_version().map(|(_, version)| version);
        self.own_version().is_some_and(|own| own >= Minor::V3_7) && cluster.is_some_and(|version| version < Minor::V3_7)
    }

    /// Said before it joins.
    pub(super) fn old_log_warning(&self) -> Option<Warning> {
        (self.log_may_be_too_old() && !matches!(self.seen.disk.wal, Wal::Present(_))).then(|| {
            let what = format!(
                "{} joins a cluster of version 3.6, whose log may still have entries that 3.5 wrote: it would panic \
                 (`execute job failed`); until it is in sync it is a learner, which has no vote",
                self.own_etcd()
            );
            let fix =
                "if it panics, restart every other member once more on 3.6, which makes it take a snapshot, and empty \
                       this pod's volume"
                    .to_owned();
            Warning { what, fix }
        })
    }
}

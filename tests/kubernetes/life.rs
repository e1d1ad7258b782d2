//! A cluster's life: growth, lost volumes, roll-outs, and the end of all pods at once.

use crate::harness::*;

/// Everything that happens to a cluster, one thing after the other, with a writer all along.
fn life(space: &Space, overlay: &Overlay) {
    space.apply(overlay);
    space.wait_for_voters(3);
    let writer = Writer::start(space, 3);
    let template = space.json(&["get", "statefulset/etcd"]).unwrap()["spec"]["template"].clone();

    let pods = space.uids(3);
    space.scale(5);
    space.wait_for_voters(5);
    space.scale(3);
    space.wait_for_voters(3);
    assert_eq!(space.uids(3), pods, "a running pod was replaced");
    assert_eq!(space.restarts(3), [0; 3]);
    assert_eq!(space.json(&["get", "statefulset/etcd"]).unwrap()["spec"]["template"], template);
    writer.nothing_is_lost(3);

    let before = space.members().unwrap();
    space.pod(1).lose_volume();
    let after = space.wait_for_voters(3);
    assert_ne!(after, before, "a lost member comes back under an ID of its own");
    writer.nothing_is_lost(3);

    space.kubectl(&["rollout", "restart", "statefulset/etcd"]).unwrap();
    space.wait_for_rollout();
    assert_eq!(space.wait_for_voters(3), after);
    writer.nothing_is_lost(3);

    space.pods(3).iter().for_each(Pod::kill);
    writer.wait_for(20);
    assert_eq!(space.wait_for_voters(3), after);
    writer.nothing_is_lost(3);

    // The volume of a scaled-away member was kept: its data is archived, and it joins as new.
    space.scale(4);
    space.wait_for_voters(4);
    writer.nothing_is_lost(4);
}

#[test]
fn the_base_lives_through_everything() {
    let Some(_cluster) = cluster() else { return };
    life(&Space::new("life"), &Overlay::base());
}

#[test]
fn the_base_lives_through_everything_on_the_next_etcd() {
    let Some(_cluster) = cluster() else { return };
    life(&Space::new("life-next"), &Overlay::base().etcd(1));
}

#[test]
fn all_pods_and_one_volume_lost_at_once() {
    let Some(_cluster) = cluster() else { return };
    let zones = Zones::ensure();
    let space = Space::new("all-lost");
    space.apply(&Overlay::base().component("wal-volume").component("zones").component("metrics"));
    space.wait_for_voters(3);
    assert_eq!(Zones::of(&space.pods(3)).len(), zones.count.min(3), "the pods are spread over the zones");
    let writer = Writer::start(&space, 3);
    space.pods(3).iter().skip(1).for_each(Pod::kill);
    // Its data volume goes, its log stays.
    space.pod(0).lose_volume();
    space.wait_for_voters(3);
    writer.nothing_is_lost(3);
}

//! Clusters of one and of two: what they survive, and what they say about the rest.

use crate::harness::*;
use crate::templates::*;

#[test]
fn one_member_survives_restarts_and_founds_an_empty_cluster_after_the_loss_of_its_disk() {
    for etcd in etcds_for(3) {
        let world = World::v4();
        let pods = founded_on(&world, 1, &etcd);
        put(&pods[0], "kept", "yes").unwrap();
        pods[0].restart();
        wait_for_voters(&all(&pods), 1, SOON);
        assert_eq!(get(&pods[0], "kept").unwrap().as_deref(), Some("yes"));
        lose(&pods[0]);
        pods[0].start();
        wait_for_voters(&all(&pods), 1, SOON);
        assert_eq!(get(&pods[0], "kept").unwrap(), None);
        assert!(pods[0].logs().contains("cannot tell that from a first boot"), "{}", pods[0].logs());
    }
}

#[test]
fn two_members_survive_restarts_and_say_what_to_do_after_the_loss_of_a_disk() {
    for etcd in etcds_for(4) {
        let world = World::v4();
        let pods = founded_on(&world, 2, &etcd);
        let writer = Writer::start(&world, &all(&pods));
        writer.wait_for(20, SOON);
        for pod in &pods {
            pod.restart();
            wait_for_voters(&all(&pods), 2, SOON);
        }
        pods.iter().for_each(Pod::kill);
        pods.iter().for_each(Pod::start);
        wait_for_voters(&all(&pods), 2, SOON);
        writer.wait_for(20, SOON);
        let written = writer.stop();
        check(&all(&pods), &[&written], SOON).assert_clean();

        lose(&pods[1]);
        pods[1].start();
        says(&pods[1], "Of 2 voters only etcd-0 can have data, which is no quorum");
        says(&pods[1], "BOOTSTRAP_FORCE_NEW_CLUSTER");
        assert!(!pods[1].runs_etcd());
        pods[0].edit(|spec| spec.set_env("BOOTSTRAP_FORCE_NEW_CLUSTER", "etcd-0"));
        pods[0].stop(SOON);
        pods[0].start();
        wait_for_voters(&all(&pods), 2, SOON);
        check(&all(&pods), &[&written], SOON).assert_clean();
    }
}

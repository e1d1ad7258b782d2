//! Founding, joining and replacing on every etcd that is there.

use std::time::Duration;

use crate::harness::*;
use crate::templates::*;

/// A test for each etcd, so that its name tells the version, and they run side by side.
macro_rules! on_each_etcd {
    ($life:ident) => {
        #[test]
        fn etcd_3_4() {
            $life("3.4.");
        }

        #[test]
        fn etcd_3_5_early() {
            $life("3.5.16");
        }

        #[test]
        fn etcd_3_5() {
            $life("3.5.35");
        }

        #[test]
        fn etcd_3_6() {
            $life("3.6.");
        }

        #[test]
        fn etcd_3_7() {
            $life("3.7.");
        }
    };
}
pub(crate) use on_each_etcd;

fn life(version: &str) {
    life_of(version, |spec| entrypoint(spec, 3), |_| {}, |_| {});
}

/// Founding, growth, and the loss of the leader's disk, under a writer. `founded` sees the three founders,
/// `ended` all four.
pub(crate) fn life_of(
    version: &str,
    template: impl Fn(PodSpec) -> PodSpec,
    founded: impl FnOnce(&[Pod]),
    ended: impl FnOnce(&[Pod]),
) {
    let Some(etcd) = etcds().into_iter().find(|etcd| etcd.version.starts_with(version)) else {
        skipped(&format!("no etcd {version} here; TEST_ETCDS names a directory with more"));
        return;
    };
    let world = World::v4();
    let mut pods = world.pods("etcd", 0..3, |spec| template(spec).etcd(etcd.clone()));
    pods.iter().for_each(Pod::start);
    wait_for_voters(&all(&pods), 3, SOON);
    founded(&pods);
    let writer = Writer::start(&world, &all(&pods));
    writer.wait_for(20, SOON);

    let joiner = world.pod(template(PodSpec::new("etcd-3")).etcd(etcd));
    let user = pods[0].spec().user;
    joiner.edit(|spec| spec.user = user);
    joiner.start();
    pods.push(joiner);
    wait_for_voters(&all(&pods), 4, SOON);

    let before = members(&pods[0]).unwrap();
    let lost = leader_of(&all(&pods)).unwrap();
    let others = members_beside(&lost, &pods);
    lost.kill();
    lost.wipe();
    lost.start();
    wait_for_voters(&all(&pods), 4, SOON);
    let old = before.iter().find(|member| member.name == lost.name()).unwrap().id;
    assert!(
        members(&pods[0]).unwrap().iter().all(|member| member.id != old),
        "the ID of the lost disk is not used again"
    );
    assert_eq!(members_beside(&lost, &pods), others, "no healthy member is removed");

    writer.wait_for(20, SOON);
    let written = writer.stop();
    assert!(written.longest_gap < Duration::from_secs(10), "{:?}", written.longest_gap);
    check(&all(&pods), &[&written], SOON).assert_clean();
    ended(&pods);
}

on_each_etcd!(life);

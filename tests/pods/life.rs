//! The whole life of a cluster, under a writer.

use std::time::Duration;

use crate::harness::*;
use crate::leaving::terminate_all;
use crate::templates::*;

/// The longest that a write may have to be tried again: an election, whose time-out is 0.5 s, with its second round.
const ELECTION: Duration = Duration::from_secs(3);

/// Scales in: the kubelet runs the hook in all that go, at the same time, and then ends them.
fn scale_in(api: &KubeApi, pods: &mut Vec<Pod>, to: usize) {
    api.scale(to as u32);
    terminate_all(&pods.split_off(to));
    wait_for_voters(&all(pods), to, SOON);
}

fn lose_a_disk(pods: &[Pod], lost: &Pod) {
    lose(lost);
    lost.start();
    wait_for_voters(&all(pods), pods.len(), SOON);
}

#[test]
fn one_to_five_at_once_two_disks_lost_down_to_three_and_a_roll_lose_nothing() {
    let world = World::v4();
    let api = KubeApi::start(&world, 5);
    let mut pods = world.pods("etcd", 0..5, |spec| api.mount(entrypoint(spec, 1)));
    pods[0].start();
    wait_for_voters(&[&pods[0]], 1, SOON);
    let writer = Writer::start(&world, &[&pods[0]]);
    writer.wait_for(20, SOON);

    pods[1..].iter().for_each(Pod::start);
    wait_for_voters(&all(&pods), 5, Duration::from_secs(120));
    writer.targets(&all(&pods));
    writer.wait_for(20, SOON);

    lose_a_disk(&pods, &leader_of(&all(&pods)).unwrap());
    writer.wait_for(20, SOON);
    lose_a_disk(&pods, &pods[4]);
    writer.wait_for(20, SOON);

    writer.targets(&all(&pods[..3]));
    scale_in(&api, &mut pods, 3);
    writer.wait_for(20, SOON);

    for pod in pods.iter().rev() {
        pod.stop(Duration::from_secs(30));
        pod.start();
        wait_for_voters(&all(&pods), 3, SOON);
        writer.wait_for(20, SOON);
    }
    let written = writer.stop();
    check(&all(&pods), &[&written], SOON).assert_clean();
    assert!(written.longest_gap < ELECTION, "{:?} after {}", written.longest_gap, written.longest_gap_after);
}

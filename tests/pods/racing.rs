//! Membership calls that race with each other, with a change of the leader, and with the loss of their answers.

use std::time::Duration;

use crate::harness::*;
use crate::held::{HELD, hold, let_go, wait_until_held};
use crate::templates::*;

/// A pod that stays at this failpoint until it is let go.
fn held(world: &World, ordinal: u32, size: u32, point: &str) -> Pod {
    let pod = world.pod(entrypoint(PodSpec::new(&format!("etcd-{ordinal}")), size).volume(HELD));
    hold(&pod, point);
    pod
}

/// How often a member has been added, promoted or removed, as this member's log has it.
fn changes(pod: &Pod, what: &str) -> usize {
    pod.all_logs().lines().filter(|line| line.contains(&format!("\"msg\":\"{what}\""))).count()
}

const ADDED: &str = "added member";
const PROMOTED: &str = "promote member";
const REMOVED: &str = "removed member";

fn assert_changes(pods: &[Pod], before: [usize; 2], added: usize, removed: usize) {
    let now = [ADDED, REMOVED].map(|what| changes(&pods[0], what));
    assert_eq!(now, [before[0] + added, before[1] + removed], "added and removed, before {before:?}");
}

/// Three that etcd calls healthy: it refuses any add before its voters have been connected for five seconds, and
/// nothing shows when that is over.
fn settled(world: &World) -> Vec<Pod> {
    let pods = founded(world, 3);
    stays(Duration::from_secs(6), "the voters are connected", || put(&pods[0], "settled", "soon"));
    pods
}

/// A learner that is about to be promoted, while the next pod waits for its turn; and then both at once.
#[test]
fn a_learner_is_promoted_while_the_next_pod_joins() {
    let world = World::v4();
    let mut pods = founded(&world, 3);
    let writer = Writer::start(&world, &all(&pods));
    let promoted = "child/promote-before";
    let learner = held(&world, 3, 3, promoted);
    learner.start();
    wait_until_held(&learner, promoted);
    let next = world.pod(entrypoint(PodSpec::new("etcd-4"), 3));
    next.start();
    eventually(SOON, "the next one waits for its turn", || {
        let answer = next.http_get(2381, "/readyz")?;
        if answer.body.contains("one learner at a time") { Ok(()) } else { Err(answer.body) }
    });
    let_go(&learner);
    pods.extend([learner, next]);
    wait_for_voters(&all(&pods), 5, SOON);
    assert_eq!(changes(&pods[0], PROMOTED), 2);
    nothing_is_lost(&pods, writer);
}

/// A learner whose pod is down must get no vote from anybody: one voter and a dead one would have no quorum.
#[test]
fn a_dead_learner_gets_no_vote_from_the_next_pod_that_joins() {
    let world = World::v4();
    let mut pods = founded(&world, 1);
    // It is as good as in sync: nothing is written after it has ended.
    let writer = Writer::start(&world, &all(&pods));
    writer.wait_for(200, SOON);
    let written = writer.stop();
    let promoted = "child/promote-before";
    let learner = held(&world, 1, 1, promoted);
    learner.start();
    wait_until_held(&learner, promoted);
    learner.crash_container();
    let next = world.pod(entrypoint(PodSpec::new("etcd-2"), 1));
    next.start();
    next.wait_for_log(SOON, "one learner at a time");
    stays(Duration::from_secs(8), "it stays a learner", || {
        let list = members(&pods[0])?;
        let still = list.len() == 2 && list.iter().any(|member| member.learner);
        if still { Ok(()) } else { Err(format!("{list:#?}")) }
    });
    put(&pods[0], "writable", "yes").unwrap();
    learner.edit(|spec| spec.unset_env("ETCD_BOOTSTRAP_FAILPOINT_HOLD"));
    learner.restart_container();
    pods.extend([learner, next]);
    wait_for_voters(&all(&pods), 3, SOON);
    check(&all(&pods), &[&written], SOON).assert_clean();
}

#[test]
fn a_learner_that_runs_without_its_promoter_is_promoted_by_the_next_pod_that_joins() {
    let world = World::v4();
    let mut pods = founded(&world, 1);
    let learner = world.pod(entrypoint(PodSpec::new("etcd-1"), 1));
    learner.edit(|spec| spec.set_env("ETCD_BOOTSTRAP_FAILPOINT", "child/promote-before"));
    learner.start();
    eventually(SOON, "the learner runs", || {
        let list = members(&pods[0])?;
        let runs = list.iter().any(|member| member.learner && member.started());
        if runs { Ok(()) } else { Err(format!("{list:?}")) }
    });
    let next = world.pod(entrypoint(PodSpec::new("etcd-2"), 1));
    next.start();
    pods.extend([learner, next]);
    wait_for_voters(&all(&pods), 3, SOON);
    assert!(pods[2].all_logs().contains("promote-learner"), "{}", pods[2].log_tail(20));
}

#[test]
fn five_pods_join_a_cluster_of_one_at_the_same_time() {
    let world = World::v4();
    let mut pods = founded(&world, 1);
    let writer = Writer::start(&world, &all(&pods));
    writer.wait_for(20, SOON);
    let before = [ADDED, REMOVED].map(|what| changes(&pods[0], what));
    let new = world.pods("etcd", 1..6, |spec| entrypoint(spec, 1));
    new.iter().for_each(Pod::start);
    pods.extend(new);
    wait_for_voters(&all(&pods), 6, Duration::from_secs(120));
    assert_changes(&pods, before, 5, 0);
    assert_eq!(changes(&pods[0], PROMOTED), 5);
    writer.wait_for(20, SOON);
    let written = writer.stop();
    check(&all(&pods), &[&written], SOON).assert_clean();
    assert!(written.longest_gap < Duration::from_secs(5), "{:?}", written.longest_gap);
}

/// Killed, or frozen so that the call stays in its socket until a later leader's time.
fn the_leader_goes_during_an_add(goes: impl Fn(&Pod), comes_back: impl Fn(&Pod)) {
    let world = World::v4();
    let mut pods = settled(&world);
    let joiner = held(&world, 3, 3, "add-before");
    joiner.start();
    wait_until_held(&joiner, "add-before");
    let leader = leader_of(&all(&pods)).unwrap();
    let others: Vec<&Pod> = pods.iter().filter(|pod| pod.name() != leader.name()).collect();
    let writer = Writer::start(&world, &others);
    goes(&leader);
    let_go(&joiner);
    wait_healthy(&others, SOON);
    writer.wait_for(20, SOON);
    comes_back(&leader);
    pods.push(joiner);
    wait_for_voters(&all(&pods), 4, SOON);
    nothing_is_lost(&pods, writer);
    // What the old leader may still have had in its queue has been refused, or was the one that counts.
    let one = pods.iter().find(|pod| pod.name() != leader.name()).unwrap();
    assert_eq!((changes(one, ADDED), changes(one, REMOVED)), (3 + 1, 0), "the founders and one more");
}

#[test]
fn the_leader_dies_during_an_add() {
    the_leader_goes_during_an_add(Pod::crash_container, Pod::restart_container);
}

#[test]
fn the_leader_is_frozen_during_an_add_and_comes_back_with_it_in_its_queue() {
    the_leader_goes_during_an_add(Pod::freeze, Pod::thaw);
}

#[test]
fn an_add_whose_answer_was_lost_is_not_done_twice() {
    let world = World::v4();
    let mut pods = settled(&world);
    let before = [ADDED, REMOVED].map(|what| changes(&pods[0], what));
    let joiner = held(&world, 3, 3, "add-before");
    joiner.start();
    wait_until_held(&joiner, "add-before");
    joiner.deafen_to(&all(&pods));
    let_go(&joiner);
    eventually(SOON, "the add is applied", || {
        let list = members(&pods[0])?;
        if list.len() == 4 { Ok(()) } else { Err(format!("{list:?}")) }
    });
    joiner.wait_for_log(SOON, "the step is not done");
    joiner.heal();
    pods.push(joiner);
    wait_for_voters(&all(&pods), 4, SOON);
    assert_changes(&pods, before, 1, 0);
    check(&all(&pods), &[], SOON).assert_clean();
}

#[test]
fn a_removal_whose_answer_was_lost_is_not_done_twice() {
    let world = World::v4();
    let pods = world.pods("etcd", 0..3, |spec| entrypoint(spec, 3).volume(HELD));
    pods.iter().for_each(Pod::start);
    wait_for_voters(&all(&pods), 3, SOON);
    let before = [ADDED, REMOVED].map(|what| changes(&pods[0], what));
    let lost = &pods[2];
    lost.kill();
    lost.wipe();
    hold(lost, "remove-before");
    lost.start();
    wait_until_held(lost, "remove-before");
    lost.deafen_to(&[&pods[0], &pods[1]]);
    let_go(lost);
    eventually(SOON, "the removal is applied", || {
        let list = members(&pods[0])?;
        if list.len() == 2 { Ok(()) } else { Err(format!("{list:?}")) }
    });
    lost.wait_for_log(SOON, "the step is not done");
    lost.heal();
    wait_for_voters(&all(&pods), 3, SOON);
    assert_changes(&pods, before, 1, 1);
    check(&all(&pods), &[], SOON).assert_clean();
}

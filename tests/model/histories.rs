//! Runs many histories, and says what was in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use etcd_bootstrap::plan::Rule;

use super::bugs::Bug;
use super::simulate::{History, Told};

#[derive(Default)]
struct Sum {
    events: usize,
    hopeless: usize,
    faults: BTreeMap<&'static str, usize>,
    rules: BTreeSet<Rule>,
    wrong: Option<(u64, String, String)>,
}

impl Sum {
    fn add(&mut self, seed: u64, told: Told) {
        self.events += told.events;
        self.hopeless += usize::from(told.hopeless);
        self.rules.extend(told.rules);
        for (fault, count) in told.faults {
            *self.faults.entry(fault).or_default() += count;
        }
        if let Some((what, trace)) = told.wrong {
            let first = self.wrong.as_ref().is_none_or(|(known, ..)| seed < *known);
            if first {
                self.wrong = Some((seed, what, trace));
            }
        }
    }
}

struct Histories {
    begin: fn(u64, Option<Bug>) -> History,
    /// The test that runs a single one again.
    again: &'static str,
}

const LIVES: Histories = Histories { begin: History::new, again: "one_history" };
/// Four to seven founders that lose disks and volumes from when the first etcd runs.
const FOUNDINGS: Histories = Histories { begin: History::of_a_founding, again: "one_founding" };

/// The histories of these seeds, on all cores; ends at the first that is wrong.
fn run(of: &Histories, first: u64, count: u64, bug: Option<Bug>) -> Sum {
    let begin = Instant::now();
    let next = AtomicU64::new(first);
    let sum = Mutex::new(Sum::default());
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return;
            }
            let told = (of.begin)(seed, bug).run();
            if told.wrong.is_some() {
                next.store(first + count, Ordering::Relaxed);
            }
            sum.lock().unwrap_or_else(PoisonError::into_inner).add(seed, told);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| _ = scope.spawn(worker)));
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "histories {first} to {}: {} events, {:?}, {} where a quorum of disks is lost, decided by {} rules, in {:.1?}",
        first + count - 1,
        sum.events,
        sum.faults,
        sum.hopeless,
        sum.rules.len(),
        begin.elapsed(),
    );
    sum
}

#[track_caller]
fn clean(of: &Histories, first: u64, count: u64) {
    if let Some((seed, what, trace)) = run(of, first, count, None).wrong {
        let again = of.again;
        panic!("history {seed}: {what}\n{trace}\nagain: SEED={seed} cargo test --test model -- --ignored {again}");
    }
}

#[track_caller]
fn caught(of: &Histories, bug: Bug, first: u64, property: &str) {
    let Some((seed, what, trace)) = run(of, first, 1000, Some(bug)).wrong else { panic!("{bug:?} was not caught") };
    println!("history {seed}: {bug:?} is caught: {what}\n{trace}");
    assert_eq!(what, property, "{bug:?}\n{trace}");
}

#[test]
fn histories_of_up_to_nine_pods() {
    clean(&LIVES, 1, 60);
}

#[test]
fn histories_of_a_founding() {
    clean(&FOUNDINGS, 1, 60);
}

#[test]
#[ignore = "minutes: make test-long"]
fn long_histories_of_up_to_nine_pods() {
    clean(&LIVES, variable("FIRST", 1), variable("HISTORIES", 100_000));
}

#[test]
#[ignore = "minutes: make test-long"]
fn long_histories_of_a_founding() {
    clean(&FOUNDINGS, variable("FIRST", 1), variable("HISTORIES", 100_000));
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
#[ignore = "SEED tells which"]
fn one_history() {
    clean(&LIVES, variable("SEED", 1), 1);
}

#[test]
#[ignore = "SEED tells which"]
fn one_founding() {
    clean(&FOUNDINGS, variable("SEED", 1), 1);
}

#[test]
fn histories_catch_a_span_of_the_founders() {
    caught(&LIVES, Bug::SpanOfFounders, 237, "Identity");
}

#[test]
fn histories_catch_a_lost_promoter() {
    caught(&LIVES, Bug::PromoterOnlyAtFirst, 64, "the good end does not come");
}

#[test]
fn histories_catch_a_learner_removed_by_an_unconfirmed_list() {
    caught(&LIVES, Bug::AbandonedUnconfirmed, 550, "Quorum");
}

#[test]
fn histories_catch_calls_by_an_unconfirmed_list() {
    caught(&LIVES, Bug::AddUnconfirmed, 1, "Quorum");
    caught(&LIVES, Bug::RemoveUnconfirmed, 2, "Quorum");
}

#[test]
fn histories_catch_a_promotion_of_the_dead() {
    caught(&LIVES, Bug::PromotesTheDead, 407, "Quorum");
}

#[test]
fn histories_catch_a_loss_that_a_quorum_may_have_run_on() {
    caught(&FOUNDINGS, Bug::LossWithoutMajority, 1800, "Identity");
}

#[test]
fn histories_catch_a_loss_beside_a_founder_that_is_not_heard() {
    caught(&FOUNDINGS, Bug::LossBesideSilence, 2100, "Identity");
}

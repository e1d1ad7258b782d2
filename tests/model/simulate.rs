//! Long random histories of the same world with up to nine pods: each is told by one number, and can be run again by it.
//!
//! In the first part of a history faults happen; then they end, and every pod must come to run etcd as a voter. What must
//! never be is looked for throughout.

use std::collections::{BTreeMap, BTreeSet};

use etcd_bootstrap::plan::Rule;

use super::bugs::Bug;
use super::dice::Dice;
use super::project::Project;
use super::step::{Event, Limits, Outcome, Rules};
use super::trace;
use super::world::{Pod, World};

/// So many turns after the last fault are enough for nine pods, many times over.
const CALM_MAX: usize = 100_000;

/// How a history goes, but for the single events.
struct Course {
    /// Turns before the faults end; in many nothing changes.
    turbulent: usize,
    /// How many of a hundred events are faults.
    faults: usize,
    /// No disk is lost that would cost the quorum of disks.
    careful: bool,
    /// No disk is lost before some etcd runs; and then so many of a hundred events are such losses.
    losses: Option<usize>,
    /// Some pods are slower than others.
    speeds: Vec<usize>,
}

/// A history that has begun.
pub(crate) struct History {
    dice: Dice,
    rules: Rules,
    course: Course,
    world: World,
    /// What can happen now: faults, and the rest.
    possible: (Vec<Event>, Vec<Event>),
    events: Vec<Event>,
}

/// What came of a history.
pub(crate) struct Told {
    pub(crate) events: usize,
    pub(crate) faults: BTreeMap<&'static str, usize>,
    pub(crate) rules: BTreeSet<Rule>,
    /// A quorum of disks was lost on the way: there is no promise but safety.
    pub(crate) hopeless: bool,
    /// What was wrong, and the history for a reader.
    pub(crate) wrong: Option<(String, String)>,
}

impl History {
    pub(crate) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut dice = Dice::of(seed);
        let pods = dice.within(1..=9);
        let founders = if dice.chance(25) { 1 } else { dice.within(1..=pods) };
        let (pods, founders) = (pods as u8, founders as u8);
        let limits = Limits {
            crashes: dice.within(0..=40) as u8,
            losses: dice.within(0..=8) as u8,
            lost_answers: dice.within(0..=8) as u8,
            mute: dice.chance(50),
            partial: dice.chance(50),
            window: dice.chance(50),
            lag: dice.chance(50),
            leaves: 0,
            astray: dice.within(0..=8) as u8,
            absences: dice.within(0..=4) as u8,
        };
        let course = Course {
            turbulent: dice.within(50..=2500),
            faults: dice.within(1..=15),
            careful: dice.chance(80),
            losses: None,
            speeds: (0..pods).map(|_| if dice.chance(30) { dice.within(1..=9) } else { 10 }).collect(),
        };
        Self::of(dice, Rules { project: Project::new(pods, founders, bug), limits, symmetric: false }, course)
    }

    /// A founding of so many that some may lose their disks before a quorum runs.
    pub(crate) fn of_a_founding(seed: u64, bug: Option<Bug>) -> Self {
        let mut dice = Dice::of(seed);
        let pods = dice.within(4..=7) as u8;
        let limits = Limits {
            crashes: dice.within(0..=6) as u8,
            losses: dice.within(2..=4) as u8,
            mute: dice.chance(50),
            partial: true,
            window: dice.chance(50),
            lag: dice.chance(50),
            astray: dice.within(0..=2) as u8,
            ..Limits::default()
        };
        let course = Course {
            turbulent: dice.within(100..=1500),
            faults: dice.within(2..=10),
            careful: dice.chance(60),
            losses: Some(dice.within(2..=20)),
            speeds: (0..pods).map(|_| if dice.chance(50) { dice.within(1..=4) } else { 10 }).collect(),
        };
        Self::of(dice, Rules { project: Project::new(pods, pods, bug), limits, symmetric: false }, course)
    }

    fn of(dice: Dice, rules: Rules, course: Course) -> Self {
        let world = World::new(rules.project.pods, rules.project.founders);
        let possible = possible(&rules, &world);
        Self { dice, rules, course, world, possible, events: Vec::new() }
    }

    /// Up to its end.
    pub(crate) fn run(mut self) -> Told {
        let mut well = false;
        for turn in 0..self.course.turbulent + CALM_MAX {
            let calm = turn >= self.course.turbulent;
            well = calm && self.world.is_well();
            let given_up = self.world.hopeless && turn >= 2 * self.course.turbulent;
            if self.world.broken.is_some() || well || given_up {
                break;
            }
            self.step(calm);
        }
        let what = match self.world.broken {
            Some(broken) => Some(format!("{broken:?}")),
            None if well || self.world.hopeless => None,
            None => Some("the good end does not come".to_owned()),
        };
        let wrong = what.map(|what| {
            let trace = self.trace();
            (what, trace)
        });
        let mut faults = BTreeMap::new();
        for event in &self.events {
            if let Some(name) = fault_name(*event) {
                *faults.entry(name).or_default() += 1;
            }
        }
        Told {
            events: self.events.len(),
            faults,
            rules: self.rules.project.rules(),
            hopeless: self.world.hopeless,
            wrong,
        }
    }

    /// One event, if the one that was picked changes anything.
    fn step(&mut self, calm: bool) {
        let event = self.loss(calm).or_else(|| self.fault(calm)).or_else(|| self.plain());
        let Some(event) = event else { return };
        let Some(next) = self.rules.after(&self.world, event) else { return };
        if event.is_loss() && self.course.careful && next.hopeless && !self.world.hopeless {
            return;
        }
        self.possible = possible(&self.rules, &next);
        self.world = next;
        self.events.push(event);
    }

    fn loss(&mut self, calm: bool) -> Option<Event> {
        let chance = self.course.losses.filter(|_| !calm && self.world.each_running().next().is_some())?;
        let losses: Vec<Event> = self.possible.0.iter().copied().filter(|event| event.is_loss()).collect();
        if self.dice.chance(chance) { self.dice.pick(&losses) } else { None }
    }

    fn fault(&mut self, calm: bool) -> Option<Event> {
        let event = if !calm && self.dice.chance(self.course.faults) { self.dice.pick(&self.possible.0) } else { None };
        event.filter(|event| self.course.losses.is_none() || !event.is_loss())
    }

    /// First who, by speed, then what: a pod that can act does so half of the time.
    fn plain(&mut self) -> Option<Event> {
        let events = &self.possible.1;
        let pod: Option<Pod> = self.dice.pick(events)?.pod();
        let speed = pod.map_or(5, |pod| self.course.speeds[usize::from(pod)]);
        if !self.dice.chance(speed * 10) {
            return None;
        }
        let own: Vec<Event> = events.iter().copied().filter(|event| event.pod() == pod).collect();
        let acts: Vec<Event> = own.iter().copied().filter(|event| matches!(event, Event::Act(..))).collect();
        if self.dice.chance(50) { self.dice.pick(&acts).or_else(|| self.dice.pick(&own)) } else { self.dice.pick(&own) }
    }

    /// The history, as short as it shows the same: where something is broken, without the events that it does not need.
    fn trace(&self) -> String {
        let events = match self.world.broken {
            Some(_) => self.shortened(),
            None => self.events.clone(),
        };
        let mut steps = Vec::new();
        let mut world = self.first_world();
        for event in events {
            let Some(next) = self.happens(&world, event) else { continue };
            steps.push((std::mem::replace(&mut world, next), Some(event)));
        }
        steps.push((world, None));
        trace::show(&self.rules, &steps)
    }

    fn first_world(&self) -> World {
        World::new(self.rules.project.pods, self.rules.project.founders)
    }

    fn happens(&self, world: &World, event: Event) -> Option<World> {
        let mut events = Vec::new();
        self.rules.events(world, &mut events);
        if events.contains(&event) { self.rules.after(world, event) } else { None }
    }

    fn shortened(&self) -> Vec<Event> {
        let breaks = |events: &[Event]| {
            let mut world = self.first_world();
            for event in events {
                world = self.happens(&world, *event).unwrap_or(world);
            }
            world.broken == self.world.broken
        };
        let mut events = self.events.clone();
        let mut chunk = events.len().div_ceil(2);
        while chunk > 0 {
            let mut at = 0;
            while at < events.len() {
                let end = (at + chunk).min(events.len());
                let rest = [&events[..at], &events[end..]].concat();
                if breaks(&rest) { events = rest } else { at = end }
            }
            chunk /= 2;
        }
        events
    }
}

fn possible(rules: &Rules, world: &World) -> (Vec<Event>, Vec<Event>) {
    let mut events = Vec::new();
    rules.events(world, &mut events);
    events.into_iter().partition(|event| event.is_fault())
}

fn fault_name(event: Event) -> Option<&'static str> {
    Some(match event {
        Event::Crash(_) => "crashes",
        Event::AskAstray(_, _, None) => "answers of a foreign cluster",
        Event::AskAstray(..) => "answers under another name",
        Event::LosesRecord(_) => "learners without a record",
        Event::LosesDisk(_) => "lost disks",
        Event::LosesWalVolume(_) | Event::LosesDataVolume(_) => "lost volumes",
        Event::LosesWal(_) => "lost WALs",
        Event::Ask(_, _, true) => "lists without client URLs",
        Event::Act(_, Outcome::AnswerLost(_)) => "lost answers",
        Event::Act(_, Outcome::Queued) => "queued calls",
        _ => return None,
    })
}

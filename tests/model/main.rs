//! The exhaustive check: every order of starts, crashes, lost disks, late and lost answers, for a few pods whose every
//! move is decided by the real `decide()`.
//!
//! stateright explores, and checks what must always hold. What must come to be in the end is checked on the explored
//! graph itself, for stateright's `eventually` is blind to cycles: from every state the good end must be reachable
//! without another fault, unless a quorum of disks is lost.

#![expect(clippy::unwrap_used, reason = "a test")]

mod bugs;
mod graph;
mod project;
mod raft;
mod step;
mod symmetry;
mod trace;
mod world;

use std::sync::Arc;
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Path, Property};

use bugs::Bug;
use graph::{Graph, Mark, fingerprint};
use project::Project;
use step::{Event, Limits, Rules};
use world::{Broken, World};

/// What stateright explores.
#[derive(Clone)]
struct Pods {
    rules: Arc<Rules>,
    graph: Option<Arc<Graph>>,
    /// A state that the trace is wanted of.
    target: Option<u64>,
}

impl Model for Pods {
    type State = World;
    type Action = Event;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.rules.project.pods, self.rules.project.founders)]
    }

    fn actions(&self, world: &World, events: &mut Vec<Event>) {
        if let Some(graph) = &self.graph {
            let mark = match world {
                _ if world.broken.is_some() || world.hopeless => Mark::Exempt,
                _ if world.is_well() => Mark::Well,
                _ => Mark::Other,
            };
            graph.node(fingerprint(world), mark);
        }
        self.rules.events(world, events);
    }

    fn next_state(&self, world: &World, event: Event) -> Option<World> {
        let next = self.rules.after(world, event)?;
        if let Some(graph) = self.graph.as_ref().filter(|_| !event.is_fault()) {
            graph.edge(fingerprint(world), fingerprint(&next));
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn holds(world: &World, what: Broken) -> bool {
            world.broken != Some(what)
        }
        vec![
            Property::always("1: there is one cluster, and it keeps what it acknowledged", |_, world| {
                holds(world, Broken::TwoClusters)
            }),
            Property::always("2: no disk takes an identity whose log it does not hold", |_, world| {
                holds(world, Broken::Identity)
            }),
            Property::always("3: no founding begins while somebody is not prepared", |_, world| {
                holds(world, Broken::Founding)
            }),
            Property::always("4: no membership call costs a quorum", |_, world| holds(world, Broken::Quorum)),
            Property::always("6: the good end stays in reach", |model: &Self, world| {
                model.target.is_none_or(|target| target != fingerprint(world))
            }),
        ]
    }
}

/// One run: what was explored, and the first thing that is wrong, if any, with its trace.
struct Found {
    states: usize,
    wrong: Option<(String, String)>,
}

struct Setting {
    pods: u8,
    founders: u8,
    limits: Limits,
    bug: Option<Bug>,
}

impl Setting {
    fn model(&self) -> Pods {
        let project = Project::new(self.pods, self.founders, self.bug);
        let rules = Rules { project, limits: self.limits, symmetric: self.symmetric() };
        Pods { rules: Arc::new(rules), graph: None, target: None }
    }

    /// A trace reads better with each pod under its own name, where there is the time for it.
    fn symmetric(&self) -> bool {
        self.bug.is_none_or(|bug| bug == Bug::OneRoundNoDisks)
    }

    fn run(&self) -> Found {
        let begin = Instant::now();
        let graph = Arc::new(Graph::new());
        let model = Pods { graph: Some(graph.clone()), ..self.model() };
        let rules = model.rules.clone();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let checker = model.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let states = checker.unique_state_count();
        let head = format!(
            "{} founders of {} pods, {:?}{}: {states} states, {} decisions by {} rules",
            self.founders,
            self.pods,
            self.limits,
            self.bug.map_or(String::new(), |bug| format!(", {bug:?}")),
            rules.project.decisions(),
            rules.project.rules().len(),
        );
        if let Some((name, path)) = checker.discoveries().into_iter().next() {
            println!("{head}, in {:.1?}: {name}", begin.elapsed());
            return Found { states, wrong: Some((name.to_owned(), trace::show(&rules, path))) };
        }
        drop(checker);
        let Some(graph) = Arc::into_inner(graph) else { panic!("the graph is still in use") };
        let verdict = graph.judge();
        println!(
            "{head}, {} edges; {} good ends, {} where a quorum of disks is lost, {} stuck; in {:.1?}",
            verdict.edges,
            verdict.well,
            verdict.exempt,
            verdict.stuck.len(),
            begin.elapsed(),
        );
        let wrong = verdict.stuck.iter().min().map(|_| {
            let (count, path) = self.shortest(&verdict.stuck);
            (format!("6: {count} states from which the good end cannot be reached"), trace::show(&rules, path))
        });
        Found { states, wrong }
    }

    /// The trace of one of these states.
    fn shortest(&self, stuck: &[u64]) -> (usize, Path<World, Event>) {
        let model = Pods { target: stuck.first().copied(), ..self.model() };
        let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        (stuck.len(), checker.discoveries().into_values().next().unwrap())
    }

    #[track_caller]
    fn is_clean(&self) {
        let found = self.run();
        if let Some((name, trace)) = found.wrong {
            panic!("{name}\n{trace}");
        }
        assert!(found.states > 10);
    }

    /// The seeded bug is caught as this.
    #[track_caller]
    fn is_caught(&self, property: &str) {
        let found = self.run();
        let Some((name, trace)) = found.wrong else { panic!("{:?} was not caught", self.bug) };
        println!("{trace}");
        assert!(name.starts_with(property), "{:?} was caught as {name}\n{trace}", self.bug);
    }
}

fn some(crashes: u8, losses: u8) -> Limits {
    Limits { crashes, losses, ..Limits::default() }
}

/// Everything that can go wrong beside crashes and losses.
fn all(crashes: u8, losses: u8) -> Limits {
    Limits { lost_answers: 1, mute: true, partial: true, window: true, lag: true, ..some(crashes, losses) }
}

fn clean(pods: u8, founders: u8, limits: Limits) {
    Setting { pods, founders, limits, bug: None }.is_clean();
}

fn caught(bug: Bug, pods: u8, founders: u8, limits: Limits, property: &str) {
    Setting { pods, founders, limits, bug: Some(bug) }.is_caught(property);
}

#[test]
fn one_founder() {
    clean(1, 1, all(2, 1));
}

#[test]
fn two_founders() {
    clean(2, 2, all(1, 1));
}

#[test]
fn three_founders() {
    clean(3, 3, some(0, 0));
}

#[test]
fn one_founder_and_a_joiner() {
    clean(2, 1, some(2, 1));
}

#[test]
fn bug_new_on_silence() {
    caught(Bug::NewOnSilence, 2, 2, some(0, 0), "3");
}

#[test]
fn bug_a_listed_identity_is_adopted() {
    caught(Bug::AdoptListed, 2, 1, some(0, 1), "2");
}

#[test]
fn bug_one_phase() {
    caught(Bug::OnePhase, 3, 3, some(0, 0), "6");
}

#[test]
fn bug_an_id_from_a_local_list() {
    caught(Bug::AdoptLocal, 2, 1, some(0, 1), "2");
}

#[test]
fn bug_exec_before_all_are_prepared() {
    caught(Bug::FoundEarly, 2, 2, some(0, 0), "3");
}

#[test]
fn bug_a_remove_without_a_quorum() {
    caught(Bug::RemoveWithoutQuorum, 2, 1, some(0, 1), "4");
}

#[test]
fn bug_a_span_of_the_founders_only() {
    caught(Bug::SpanOfFounders, 2, 1, some(0, 1), "2");
}

#[test]
fn bug_a_wal_with_entries_is_archived_as_if_without() {
    caught(Bug::ArchiveSpoken, 2, 2, some(1, 0), "2");
}

#[test]
fn bug_the_note_after_the_rename() {
    caught(Bug::NoteAfterRename, 2, 2, Limits { mute: true, partial: true, ..some(2, 0) }, "6");
}

#[test]
fn bug_wal_seen_without_an_id() {
    caught(Bug::WalSeenWithoutId, 2, 1, Limits { partial: true, ..some(0, 1) }, "6");
}

#[test]
fn bug_a_promoter_only_at_the_first_exec() {
    caught(Bug::PromoterOnlyAtFirst, 2, 1, some(1, 0), "6");
}

#[test]
fn bug_a_voter_from_one_to_two() {
    caught(Bug::VoterFromOneToTwo, 2, 1, some(0, 0), "4");
}

#[test]
fn bug_a_livelock() {
    caught(Bug::Livelock, 2, 1, some(0, 0), "6");
}

#[test]
#[ignore = "minutes: make model"]
fn full_bug_one_round_and_no_disks() {
    caught(Bug::OneRoundNoDisks, 3, 3, some(0, 2), "2");
}

/// With all else that can go wrong where it fits, and once with two lost disks.
#[test]
#[ignore = "minutes: make model"]
fn full_three_founders() {
    clean(3, 3, some(2, 1));
    clean(3, 3, all(1, 0));
    clean(3, 3, Limits { mute: true, partial: true, ..some(1, 1) });
    clean(3, 3, Limits { lag: true, window: true, lost_answers: 1, ..some(1, 1) });
}

#[test]
#[ignore = "minutes: make model"]
fn full_three_founders_that_lose_two_disks() {
    clean(3, 3, some(0, 2));
}

#[test]
#[ignore = "minutes: make model"]
fn full_two_founders() {
    clean(2, 2, all(3, 2));
    clean(3, 2, some(2, 1));
}

#[test]
#[ignore = "minutes: make model"]
fn full_one_founder() {
    clean(2, 1, all(2, 1));
    clean(3, 1, some(2, 1));
}

#[test]
#[ignore = "one setting, from the environment"]
fn probe() {
    let arg = |name: &str, default: u8| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let limits = Limits {
        crashes: arg("CRASHES", 1),
        losses: arg("LOSSES", 0),
        lost_answers: arg("ANSWERS", 0),
        mute: arg("MUTE", 0) > 0,
        partial: arg("PARTIAL", 0) > 0,
        window: arg("WINDOW", 0) > 0,
        lag: arg("LAG", 0) > 0,
    };
    clean(arg("PODS", 2), arg("FOUNDERS", 2), limits);
}

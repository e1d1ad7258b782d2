//! The exhaustive check: every order of starts, crashes, lost disks, late and lost answers, for a few pods whose every
//! move is decided by the real `decide()`.
//!
//! stateright explores, and checks what must always hold. What must come to be in the end is checked on the explored
//! graph itself, for stateright's `eventually` is blind to cycles: from every state the good end must be reachable
//! without another fault, unless a quorum of disks is lost (`graph`), and no fair run may go round in circles without it
//! (`fair`). Longer histories of more pods are random (`simulate`, `histories`). README.md says which invariant is
//! checked where, and what is assumed.

#![expect(clippy::unwrap_used, reason = "a test")]

mod bugs;
mod checks;
#[path = "../dice.rs"]
mod dice;
mod fair;
mod graph;
mod histories;
mod project;
mod raft;
mod simulate;
mod step;
mod symmetry;
mod trace;
mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

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
            Property::always("1: nobody can lead who lacks what was acknowledged", |_, world| {
                holds(world, Broken::TwoClusters)
            }),
            Property::always("2: no WAL is begun for an ID that was used", |_, world| holds(world, Broken::Identity)),
            Property::always(
                "3: a founding begins only where all founders have just said that they are prepared",
                |_, world| holds(world, Broken::Founding),
            ),
            Property::always(
                "4: each membership call rests on a list that a majority gave alike, and none can cost the quorum",
                |_, world| holds(world, Broken::Quorum),
            ),
            Property::always("4: nobody acts in a foreign cluster", |_, world| holds(world, Broken::Foreign)),
            Property::always(
                "5: data goes by journalled archives alone, and whole data only of a removed member",
                |_, world| holds(world, Broken::Data),
            ),
            Property::always("6: the good end stays in reach", |model: &Self, world| {
                model.target.is_none_or(|target| target != fingerprint(world))
            }),
        ]
    }
}

/// One run: what was explored, and the first thing that is wrong, if any, with its trace.
struct Found {
    states: usize,
    wrong: Option<Wrong>,
}

struct Wrong {
    property: String,
    events: usize,
    trace: String,
}

impl Wrong {
    fn new(property: String, rules: &Rules, path: Path<World, Event>) -> Self {
        let steps = path.into_vec();
        Self { property, events: steps.len() - 1, trace: trace::show(rules, &steps) }
    }
}

struct Setting {
    pods: u8,
    founders: u8,
    limits: Limits,
    bug: Option<Bug>,
    /// When the exploration is cut off.
    end: Option<Instant>,
}

impl Setting {
    fn model(&self) -> Pods {
        let project = Project::new(self.pods, self.founders, self.bug);
        let rules = Rules { project, limits: self.limits, symmetric: self.symmetric() };
        Pods { rules: Arc::new(rules), graph: None, target: None }
    }

    /// A trace reads better with each pod under its own name, where there is the time for it.
    fn symmetric(&self) -> bool {
        // The highest pod leaves first: then they are not alike.
        self.limits.leaves == 0 && self.bug.is_none_or(|bug| bug == Bug::OneRoundNoDisks)
    }

    fn run(&self) -> Found {
        let begin = Instant::now();
        let graph = Arc::new(Graph::new());
        let model = Pods { graph: Some(graph.clone()), ..self.model() };
        let rules = model.rules.clone();
        let properties: Vec<&str> = model.properties().iter().map(|property| property.name).collect();
        // Only where there is more than one does stateright look at the time.
        let threads = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        let left = self.end.map(|end| end.saturating_duration_since(begin));
        let checker = model.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures);
        let checker = left.into_iter().fold(checker, |checker, left| checker.timeout(left)).spawn_bfs().join();
        let cut_off = left.is_some_and(|left| begin.elapsed() >= left);
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
            return Found { states, wrong: Some(Wrong::new(name.to_owned(), &rules, path)) };
        }
        if cut_off {
            let held = properties.iter().filter(|name| !name.starts_with('6')).copied().collect::<Vec<_>>().join("; ");
            let (depth, time) = (checker.max_depth(), begin.elapsed());
            println!("{head}; CUT OFF BY TIME after {time:.1?}, {depth} events deep; up to there hold: {held}");
            return Found { states, wrong: None };
        }
        drop(checker);
        let Some(graph) = Arc::into_inner(graph) else { panic!("the graph is still in use") };
        let verdict = graph.judge();
        println!(
            "{head}, {} edges; {} good ends, {} where a quorum of disks is lost, {} stuck; in {:.1?}; checked: {}",
            verdict.edges,
            verdict.well,
            verdict.exempt,
            verdict.stuck.len(),
            begin.elapsed(),
            properties.join("; "),
        );
        let wrong = verdict.stuck.iter().min().map(|_| {
            let (count, path) = self.shortest(&verdict.stuck);
            Wrong::new(format!("6: {count} states from which the good end cannot be reached"), &rules, path)
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
        if let Some(Wrong { property, trace, .. }) = found.wrong {
            panic!("{property}\n{trace}");
        }
        assert!(found.states > 10);
    }

    /// The seeded bug is caught as this.
    #[track_caller]
    fn is_caught(&self, property: &str) {
        let found = self.run();
        let Some(bug) = self.bug else { panic!("no bug is seeded") };
        let Some(Wrong { property: caught, events, trace }) = found.wrong else { panic!("{bug:?} was not caught") };
        println!("the seeded bug {bug:?} is caught after {events} events: {caught}\n{trace}");
        assert!(caught.starts_with(property), "{bug:?} was caught as {caught}\n{trace}");
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
    Setting { pods, founders, limits, bug: None, end: None }.is_clean();
}

fn caught(bug: Bug, pods: u8, founders: u8, limits: Limits, property: &str) {
    Setting { pods, founders, limits, bug: Some(bug), end: None }.is_caught(property);
}

/// Each has its share of ten minutes (or `MODEL_SECONDS`), and of what the ones before it have left.
fn as_far_as_time_carries(settings: &[(u8, u8, Limits)]) {
    let seconds = std::env::var("MODEL_SECONDS").map_or(600, |text| text.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    for (n, (pods, founders, limits)) in settings.iter().enumerate() {
        let share = end.saturating_duration_since(Instant::now()) / (settings.len() - n) as u32;
        let end = Some(Instant::now() + share);
        Setting { pods: *pods, founders: *founders, limits: *limits, bug: None, end }.is_clean();
    }
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
fn two_founders_of_whom_one_leaves() {
    clean(2, 2, Limits { leaves: 1, ..some(1, 0) });
}

#[test]
fn one_founder_and_a_joiner() {
    clean(2, 1, some(2, 1));
}

/// Stale records, among them such that lead to a foreign cluster.
#[test]
fn two_pods_led_astray() {
    clean(2, 2, Limits { astray: 1, ..some(1, 0) });
    clean(2, 1, Limits { astray: 1, ..some(1, 1) });
}

/// A learner that is down for long leaves its place to another.
#[test]
#[ignore = "minutes: make model"]
fn full_a_learner_that_is_abandoned() {
    clean(3, 1, Limits { absences: 1, ..some(1, 0) });
}

#[test]
fn bug_new_on_silence() {
    caught(Bug::NewOnSilence, 2, 2, some(0, 0), "3");
}

/// Also where time may cut it off.
#[test]
fn bug_new_on_silence_of_four() {
    let end = Some(Instant::now() + Duration::from_secs(600));
    Setting { pods: 4, founders: 4, limits: some(0, 0), bug: Some(Bug::NewOnSilence), end }.is_caught("3");
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
    caught(Bug::ArchiveSpoken, 2, 2, some(1, 0), "5");
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
#[ignore = "minutes: make model"]
fn full_bug_an_add_by_an_unconfirmed_list() {
    caught(Bug::AddUnconfirmed, 3, 2, some(0, 0), "4");
}

#[test]
#[ignore = "minutes: make model"]
fn full_bug_a_remove_by_an_unconfirmed_list() {
    caught(Bug::RemoveUnconfirmed, 3, 3, some(0, 1), "4");
}

#[test]
#[ignore = "minutes: make model"]
fn full_bug_a_learner_removed_at_once() {
    caught(Bug::AbandonedAtOnce, 3, 1, some(0, 0), "4");
}

#[test]
#[ignore = "minutes: make model"]
fn full_bug_a_dead_learner_is_promoted() {
    caught(Bug::PromotesTheDead, 3, 1, some(1, 0), "4");
}

#[test]
fn bug_a_founding_beside_a_loss() {
    caught(Bug::FoundsBesideALoss, 2, 2, Limits { partial: true, ..some(0, 1) }, "3");
}

#[test]
fn bug_one_prepared_is_enough() {
    caught(Bug::OnePreparedIsEnough, 3, 3, some(0, 0), "3");
}

#[test]
fn bug_a_foreign_list_counts() {
    caught(Bug::ForeignByAnyUrl, 2, 2, Limits { astray: 1, ..some(0, 0) }, "4: nobody acts in a foreign");
}

#[test]
fn bug_a_leaver_that_waits() {
    caught(Bug::LeavingWaits, 2, 2, Limits { leaves: 1, ..some(1, 0) }, "6");
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

/// Logs without an entry, at two crashes and a lost disk.
#[test]
#[ignore = "minutes: make model"]
fn full_three_founders_whose_logs_are_mute() {
    clean(3, 3, Limits { mute: true, ..some(2, 1) });
}

#[test]
#[ignore = "minutes: make model"]
fn full_three_pods_led_astray() {
    clean(3, 3, Limits { astray: 1, ..some(0, 1) });
    clean(3, 1, Limits { astray: 1, ..some(1, 0) });
}

#[test]
#[ignore = "minutes: make model"]
fn full_two_founders() {
    clean(2, 2, all(3, 2));
    clean(2, 2, Limits { astray: 2, ..all(2, 1) });
    clean(3, 2, some(2, 1));
}

#[test]
#[ignore = "minutes: make model"]
fn full_leaving() {
    clean(2, 2, Limits { leaves: 2, ..all(2, 1) });
    clean(3, 3, Limits { leaves: 1, ..some(1, 0) });
}

#[test]
#[ignore = "ten minutes: make model"]
fn full_four() {
    as_far_as_time_carries(&[(4, 1, some(0, 0)), (4, 4, some(0, 0)), (4, 3, some(0, 0)), (4, 4, some(2, 1))]);
}

#[test]
#[ignore = "ten minutes: make model"]
fn full_five() {
    as_far_as_time_carries(&[(5, 1, some(0, 0)), (5, 5, some(0, 0)), (5, 3, some(2, 1))]);
}

#[test]
#[ignore = "minutes: make model"]
fn full_one_founder() {
    clean(2, 1, all(2, 1));
    clean(2, 1, Limits { astray: 2, ..all(1, 1) });
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
        leaves: arg("LEAVES", 0),
        astray: arg("ASTRAY", 0),
        absences: arg("ABSENCES", 0),
    };
    clean(arg("PODS", 2), arg("FOUNDERS", 2), limits);
}

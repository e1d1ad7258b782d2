//! Which question DNS is asked next, and when: a pure schedule, without IO and without a clock.
//!
//! What is missing is asked for as often as the budget allows, and what is known is seldom refreshed. While the bucket
//! is full, after the start or after quiet times, questions follow each other within a tenth of a second; later the
//! pace falls to the rate at which tokens come back. A kick brings a question forward, but kicks have a small bucket of
//! their own: a peer that dials ten times a second must not use up what the polls live on.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::dns::SrvName;
use crate::dns_budget::{Bucket, REFILL_PER_SECOND, Urgency};

/// What is spare above the polls' reserve is spent within about this time.
const SPEND_SPARE: Duration = Duration::from_millis(1500);
/// A kicked question is not asked sooner than this after it was asked last.
const KICK_GAP: Duration = Duration::from_millis(250);
/// Kicks that are answered at once, before they wait for their own bucket to refill.
const KICK_BURST: f64 = 8.0;
/// How many kicks a second are answered in the long run.
const KICKS_PER_SECOND: f64 = 0.2;
/// Questions that are under way at one time.
const IN_FLIGHT_MAX: usize = 8;

/// A question that is asked again and again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// The addresses of a host.
    Host(String),
    /// The pods that the service names.
    Service(SrvName),
}

/// Why a host is asked for, the most urgent reason first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It is this pod's own.
    Own,
    /// It belongs to an initial member.
    Founder,
    /// Somebody wants to know it, or it has dialled this pod.
    Wanted,
    /// It tells whether there is a pod of the next higher ordinal.
    Probe,
}

/// What the last answer was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is a record, and it is of use.
    Known,
    /// There is none, or it is somebody else's.
    Absent,
    /// Nothing was learnt.
    Unclear,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask this; its first packet has been paid for.
    Ask(Question, Urgency),
    /// Nothing until then; none is until an answer comes or something is wanted.
    Wait(Option<Duration>),
}

#[derive(Clone, Debug)]
struct Entry {
    /// None for a question to the service.
    role: Option<Role>,
    /// An SRV answer can tell its addresses.
    in_service: bool,
    asked: Option<Duration>,
    outcome: Option<Outcome>,
    in_flight: bool,
    kicked: bool,
    /// From 0 to 1, drawn anew with each question.
    jitter: f64,
}

impl Entry {
    fn new(role: Option<Role>, in_service: bool) -> Self {
        Self { role, in_service, asked: None, outcome: None, in_flight: false, kicked: false, jitter: 0.5 }
    }

    fn is_known(&self) -> bool {
        self.outcome == Some(Outcome::Known)
    }

    fn is_missing(&self) -> bool {
        self.outcome.is_some_and(|outcome| outcome != Outcome::Known)
    }

    /// The order in which what was never asked gets its turn.
    fn rank(&self) -> u8 {
        match self.role {
            Some(Role::Own) => 0,
            None => 1,
            Some(Role::Founder) => 2,
            Some(Role::Wanted) => 3,
            Some(Role::Probe) => 4,
        }
    }
}

/// The questions, and when each was asked. All times are on one clock, the bucket's.
#[derive(Clone, Debug)]
pub struct Schedule {
    entries: BTreeMap<Question, Entry>,
    kicks: Bucket,
    paced_until: Duration,
    /// The last poll was one of those that can wait: what is missing has the next turn.
    refreshed: bool,
    /// The service's answers carry addresses.
    has_glue: bool,
}

impl Schedule {
    /// One that asks for the service's SRV names, or for hosts alone.
    pub fn new(asks_service: bool) -> Self {
        let names = SrvName::ALL.into_iter().filter(|_| asks_service);
        let entries = names.map(|name| (Question::Service(name), Entry::new(None, false))).collect();
        let kicks = Bucket::new(KICK_BURST, KICKS_PER_SECOND);
        Self { entries, kicks, paced_until: Duration::ZERO, refreshed: false, has_glue: false }
    }

    /// The hosts that are to be known, each with its role and whether it lies in the service's domain.
    pub fn set_hosts(&mut self, hosts: &BTreeMap<String, (Role, bool)>) {
        self.entries.retain(|question, entry| match question {
            Question::Host(host) => hosts.contains_key(host) || entry.in_flight,
            Question::Service(_) => true,
        });
        for (host, (role, in_service)) in hosts {
            let question = Question::Host(host.clone());
            let entry = self.entries.entry(question).or_insert_with(|| Entry::new(Some(*role), *in_service));
            entry.role = Some(*role);
        }
    }

    /// Something has happened: this is to be asked as soon as may be.
    pub fn kick(&mut self, question: &Question) {
        if let Some(entry) = self.entries.get_mut(question) {
            entry.kicked = true;
        }
    }

    /// The service's pods may have changed: the name that has records, or both where none has, is to be asked.
    pub fn kick_service(&mut self) {
        let any_known = self.service_is_known();
        let services = self.entries.values_mut().filter(|entry| entry.role.is_none());
        services.filter(|entry| entry.is_known() || !any_known).for_each(|entry| entry.kicked = true);
    }

    /// Whatever was asked for in vain is to be asked as soon as may be.
    pub fn kick_missing(&mut self) {
        let hosts = self.entries.values_mut().filter(|entry| entry.role.is_some_and(|role| role != Role::Probe));
        hosts.filter(|entry| entry.is_missing()).for_each(|entry| entry.kicked = true);
        if !self.service_is_known() {
            let services = self.entries.values_mut().filter(|entry| entry.role.is_none());
            services.filter(|entry| entry.is_missing()).for_each(|entry| entry.kicked = true);
        }
    }

    /// This pod's own name has a record, and it is this pod's.
    pub fn own_is_known(&self) -> bool {
        self.entries.values().any(|entry| entry.role == Some(Role::Own) && entry.is_known())
    }

    /// The answer to a question that [`Self::next`] gave; `glue` says that it carried addresses.
    ///
    /// Once the own name is published, the peers may well be: whatever is missing is then kicked.
    pub fn answered(&mut self, question: &Question, outcome: Outcome, glue: bool) {
        let own_was_known = self.own_is_known();
        if matches!(question, Question::Service(_)) && outcome == Outcome::Known {
            self.has_glue = glue;
        }
        if let Some(entry) = self.entries.get_mut(question) {
            entry.in_flight = false;
            entry.outcome = Some(outcome);
        }
        if self.own_is_known() && !own_was_known {
            self.kick_missing();
        }
    }

    /// A host's answer that came by another way than by asking for it.
    pub fn learnt(&mut self, host: &str, outcome: Outcome, now: Duration) {
        let own_was_known = self.own_is_known();
        if let Some(entry) = self.entries.get_mut(&Question::Host(host.to_owned())) {
            entry.outcome = Some(outcome);
            entry.asked = Some(now);
            entry.kicked = false;
        }
        if self.own_is_known() && !own_was_known {
            self.kick_missing();
        }
    }

    /// What is to be done now. Takes the token for the first packet; `jitter` is drawn evenly from 0 to 1.
    pub fn next(&mut self, now: Duration, bucket: &mut Bucket, jitter: f64) -> Next {
        if self.entries.values().filter(|entry| entry.in_flight).count() >= IN_FLIGHT_MAX {
            return Next::Wait(None);
        }
        let due = [self.next_kicked(now), self.next_unasked(), self.next_poll()];
        let mut wake: Option<Duration> = None;
        for (question, at, urgency) in due.into_iter().flatten() {
            let ready = at.max(now + bucket.wait(now, urgency.reserve()));
            if ready > now {
                wake = Some(wake.map_or(ready, |earlier| earlier.min(ready)));
                continue;
            }
            if bucket.take(now, urgency.reserve()).is_err() {
                continue;
            }
            match urgency {
                // `next_kicked` has seen that there is one.
                Urgency::Kick => drop(self.kicks.take(now, 0.0)),
                _ => self.paced_until = now + pause(bucket.level(now), jitter),
            }
            let eager = |entry: &Entry| self.is_eager(&question, entry);
            self.refreshed = urgency == Urgency::Poll && !self.entries.get(&question).is_some_and(eager);
            if let Some(entry) = self.entries.get_mut(&question) {
                entry.asked = Some(now);
                entry.in_flight = true;
                entry.kicked = false;
                entry.jitter = jitter;
            }
            return Next::Ask(question, urgency);
        }
        Next::Wait(wake)
    }

    /// The kicked question that may be asked first.
    fn next_kicked(&self, now: Duration) -> Option<(Question, Duration, Urgency)> {
        let allowed = now + self.kicks.wait(now, 0.0);
        let kicked = self.entries.iter().filter(|(_, entry)| entry.kicked && !entry.in_flight);
        let at = kicked.map(|(question, entry)| {
            let at = entry.asked.map_or(Duration::ZERO, |asked| asked + KICK_GAP).max(allowed);
            (at, entry.rank(), question)
        });
        let (at, _, question) = at.min()?;
        Some((question.clone(), at, Urgency::Kick))
    }

    /// What has never been asked; nothing holds it up but the budget.
    fn next_unasked(&self) -> Option<(Question, Duration, Urgency)> {
        let unasked = self.entries.iter().filter(|(_, entry)| entry.asked.is_none() && !entry.in_flight);
        let (question, _) = unasked.min_by_key(|(_, entry)| entry.rank())?;
        Some((question.clone(), Duration::ZERO, Urgency::Poll))
    }

    /// What has waited longest for its turn. What is missing gets at least every second one.
    fn next_poll(&self) -> Option<(Question, Duration, Urgency)> {
        let waiting = || self.entries.iter().filter(|(_, entry)| !entry.in_flight);
        let only_eager = self.refreshed && waiting().any(|(question, entry)| self.is_eager(question, entry));
        let turns = waiting().filter(|(question, entry)| !only_eager || self.is_eager(question, entry));
        let due = turns.filter_map(|(question, entry)| {
            let interval = self.interval(question, entry).mul_f64(0.8 + 0.4 * entry.jitter);
            Some((entry.asked? + interval, entry.rank(), question))
        });
        let (at, _, question) = due.min()?;
        Some((question.clone(), at.max(self.paced_until), Urgency::Poll))
    }

    /// It is asked for as often as the budget allows.
    fn is_eager(&self, question: &Question, entry: &Entry) -> bool {
        self.interval(question, entry) == Duration::ZERO
    }

    /// How long an answer is left alone before the question may be polled for again.
    fn interval(&self, question: &Question, entry: &Entry) -> Duration {
        let covered = self.service_covers_hosts();
        let seconds = match (question, entry.role, entry.outcome) {
            (Question::Service(_), _, Some(Outcome::Known)) if covered => 0,
            (Question::Service(_), _, Some(Outcome::Known)) => 10,
            (Question::Service(_), _, Some(Outcome::Unclear)) => 1,
            (Question::Service(_), ..) if self.service_is_known() => 30,
            (Question::Service(_), ..) => 3,
            (_, _, Some(Outcome::Known)) => 20,
            (_, Some(Role::Own), _) => 0,
            (_, Some(Role::Founder), _) if covered && entry.in_service => 5,
            (_, Some(Role::Founder), _) if self.own_is_known() => 0,
            (_, Some(Role::Founder | Role::Wanted), _) => 2,
            (_, Some(Role::Probe) | None, _) => 5,
        };
        Duration::from_secs(seconds)
    }

    fn service_is_known(&self) -> bool {
        let mut services = self.entries.values().filter(|entry| entry.role.is_none());
        services.any(Entry::is_known)
    }

    /// Several hosts are missing, and one SRV answer would bring them all.
    fn service_covers_hosts(&self) -> bool {
        let awaited = |entry: &&Entry| {
            entry.in_service && !entry.is_known() && matches!(entry.role, Some(Role::Own | Role::Founder))
        };
        self.has_glue && self.service_is_known() && self.entries.values().filter(awaited).count() > 1
    }
}

/// How long to pause after a question, so that the spare tokens last a while and then each new one is used.
fn pause(level: f64, jitter: f64) -> Duration {
    let spare = (level - Urgency::Poll.reserve()).max(0.0);
    let per_second = REFILL_PER_SECOND + spare / SPEND_SPARE.as_secs_f64();
    Duration::from_secs_f64((0.75 + 0.5 * jitter) / per_second)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: &str = "etcd-0.etcd.ns.svc";

    fn host(name: &str) -> Question {
        Question::Host(name.to_owned())
    }

    /// A pod of a cluster of three that asks for the service's names.
    fn three_pods() -> Schedule {
        let mut schedule = Schedule::new(true);
        let role = |ordinal| if ordinal == 0 { Role::Own } else { Role::Founder };
        let hosts = (0..3).map(|ordinal| (format!("etcd-{ordinal}.etcd.ns.svc"), (role(ordinal), true)));
        schedule.set_hosts(&hosts.collect());
        schedule
    }

    /// What a simulated DNS gives: the outcome, whether it has glue, and the packets that it took.
    type Answer = (Outcome, bool, u32);

    /// A schedule and its bucket, moved through time; each answer takes 5 ms.
    struct Simulation {
        schedule: Schedule,
        bucket: Bucket,
        now: Duration,
        sent: Vec<Duration>,
        asked: Vec<(Duration, Question, Urgency)>,
    }

    impl Simulation {
        fn new(schedule: Schedule) -> Self {
            let (bucket, now) = (Bucket::default(), Duration::ZERO);
            Self { schedule, bucket, now, sent: Vec::new(), asked: Vec::new() }
        }

        /// Runs until then. `jitter` is walked through; `kick` says which question is kicked every 100 ms.
        fn run(
            &mut self,
            until: Duration,
            jitter: &[f64],
            kick: Option<&Question>,
            mut dns: impl FnMut(&Question, Duration) -> Answer,
        ) {
            let mut open: Vec<(Duration, Question, Answer, f64)> = Vec::new();
            let mut kicked_at = Duration::ZERO;
            while self.now < until {
                if let Some(question) = kick.filter(|_| self.now >= kicked_at) {
                    self.schedule.kick(question);
                    kicked_at = self.now + Duration::from_millis(100);
                }
                let turn = self.asked.len() % jitter.len();
                let mut wake = match self.schedule.next(self.now, &mut self.bucket, jitter[turn]) {
                    Next::Ask(question, urgency) => {
                        self.sent.push(self.now);
                        self.asked.push((self.now, question.clone(), urgency));
                        let answer = dns(&question, self.now);
                        open.push((self.now + Duration::from_millis(5), question, answer, urgency.reserve()));
                        continue;
                    }
                    Next::Wait(wake) => wake.unwrap_or(until),
                };
                assert!(wake > self.now, "it would spin");
                wake = open.iter().map(|(at, ..)| *at).chain([wake, until]).min().unwrap();
                self.now = if kick.is_some() { wake.min(kicked_at.max(self.now)) } else { wake };
                self.answer(&mut open);
            }
        }

        /// Gives the answers that are there. What one needs beyond its first packet is paid for first come, first
        /// served, as the resolver does.
        fn answer(&mut self, open: &mut Vec<(Duration, Question, Answer, f64)>) {
            let mut index = 0;
            while index < open.len() {
                while open[index].0 <= self.now && open[index].2.2 > 1 {
                    match self.bucket.take(self.now, open[index].3) {
                        Ok(()) => {
                            self.sent.push(self.now);
                            open[index].2.2 -= 1;
                        }
                        Err(wait) => open[index].0 = self.now + wait,
                    }
                }
                if open[index].0 > self.now {
                    index += 1;
                    continue;
                }
                let (_, question, (outcome, glue, _), _) = open.remove(index);
                self.schedule.answered(&question, outcome, glue);
            }
        }

        /// When a question was asked.
        fn times(&self, question: &Question) -> Vec<Duration> {
            self.asked.iter().filter(|(_, asked, _)| asked == question).map(|(at, ..)| *at).collect()
        }

        /// The longest time between two of the same question, the end included.
        fn longest_gap(&self, question: &Question, from: Duration) -> Duration {
            let times = self.times(question).into_iter().filter(|at| *at >= from).chain([self.now]);
            let times: Vec<Duration> = [from].into_iter().chain(times).collect();
            times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
        }
    }

    fn most_in_a_minute(sent: &[Duration]) -> usize {
        let in_minute = |first: &Duration| sent.iter().filter(|at| **at >= *first && **at - *first <= MINUTE).count();
        sent.iter().map(in_minute).max().unwrap_or(0)
    }

    const MINUTE: Duration = Duration::from_secs(60);
    const JITTER: [f64; 5] = [0.1, 0.9, 0.4, 0.7, 0.2];

    #[test]
    fn everything_is_asked_at_once_at_the_start_the_own_name_first() {
        let mut simulation = Simulation::new(three_pods());
        simulation.run(Duration::from_millis(1), &JITTER, None, |_, _| (Outcome::Known, true, 1));
        let asked: Vec<Question> = simulation.asked.into_iter().map(|(_, question, _)| question).collect();
        let service = [Question::Service(SrvName::Plain), Question::Service(SrvName::Ssl)];
        assert_eq!(asked[0], host(OWN));
        assert_eq!(asked[1..3], service);
        assert_eq!(asked.len(), 5);
    }

    #[test]
    fn a_pod_without_a_record_asks_fast_at_first_and_then_steadily() {
        let mut simulation = Simulation::new(three_pods());
        let own = host(OWN);
        let dns = |question: &Question, _| match question {
            Question::Host(name) if name == OWN => (Outcome::Absent, false, 1),
            _ => (Outcome::Known, true, 1),
        };
        simulation.run(MINUTE, &JITTER, None, dns);
        let early = simulation.times(&own).iter().filter(|at| **at < Duration::from_secs(2)).count();
        assert!(early >= 9, "{early}");
        assert!(simulation.longest_gap(&own, Duration::ZERO) < Duration::from_millis(1600));
        let late = simulation.times(&own).iter().filter(|at| **at > Duration::from_secs(30)).count();
        assert!(late >= 38, "{late} in the last half minute");
    }

    #[test]
    fn one_peer_without_a_record_gets_almost_all_questions() {
        let mut simulation = Simulation::new(three_pods());
        let missing = host("etcd-2.etcd.ns.svc");
        let dns = |question: &Question, _| match *question == host("etcd-2.etcd.ns.svc") {
            true => (Outcome::Absent, false, 1),
            false => (Outcome::Known, true, 1),
        };
        simulation.run(MINUTE, &JITTER, None, dns);
        let late = simulation.times(&missing).iter().filter(|at| **at > Duration::from_secs(30)).count();
        assert!(late >= 35, "{late} in the last half minute");
    }

    #[test]
    fn several_missing_hosts_are_asked_for_through_the_service() {
        let mut simulation = Simulation::new(three_pods());
        let dns = |question: &Question, _| match question {
            Question::Host(name) if name != OWN => (Outcome::Absent, false, 1),
            Question::Service(SrvName::Ssl) => (Outcome::Absent, false, 1),
            _ => (Outcome::Known, true, 1),
        };
        simulation.run(MINUTE, &JITTER, None, dns);
        let service = simulation.times(&Question::Service(SrvName::Plain)).len();
        let direct = simulation.times(&host("etcd-1.etcd.ns.svc")).len();
        assert!(service > 50 && direct < 20, "{service} {direct}");
    }

    #[test]
    fn what_is_known_is_seldom_asked_again() {
        let mut simulation = Simulation::new(three_pods());
        simulation.run(MINUTE, &JITTER, None, |_, _| (Outcome::Known, true, 1));
        assert!(simulation.asked.len() < 30, "{}", simulation.asked.len());
        for question in [host(OWN), host("etcd-1.etcd.ns.svc"), Question::Service(SrvName::Plain)] {
            assert!(simulation.longest_gap(&question, Duration::ZERO) < Duration::from_secs(26));
        }
    }

    #[test]
    fn once_the_own_name_is_published_the_peers_are_asked_for_at_once() {
        let mut simulation = Simulation::new(three_pods());
        let published = Duration::from_secs(40);
        let dns = |question: &Question, now| match question {
            Question::Host(name) if name == OWN && now >= published => (Outcome::Known, false, 1),
            _ => (Outcome::Absent, false, 1),
        };
        simulation.run(MINUTE, &JITTER, None, dns);
        let known = *simulation.times(&host(OWN)).iter().find(|at| **at >= published).unwrap();
        let peer = *simulation.times(&host("etcd-1.etcd.ns.svc")).iter().find(|at| **at >= known).unwrap();
        assert!(peer - known <= KICK_GAP + Duration::from_millis(10), "{:?}", peer - known);
    }

    #[test]
    fn a_kick_is_answered_at_once_and_a_storm_does_not_starve_the_rest() {
        let mut simulation = Simulation::new(three_pods());
        let dialler = host("etcd-1.etcd.ns.svc");
        let dns = |question: &Question, _| match question {
            Question::Host(name) if name == OWN => (Outcome::Absent, false, 1),
            _ => (Outcome::Known, true, 1),
        };
        simulation.run(MINUTE, &JITTER, None, dns);
        simulation.schedule.kick(&dialler);
        let quiet = simulation.now;
        simulation.run(quiet + Duration::from_millis(1), &JITTER, None, dns);
        assert_eq!(simulation.asked.last().unwrap(), &(quiet, dialler.clone(), Urgency::Kick));
        simulation.run(quiet + 2 * MINUTE, &JITTER, Some(&dialler), dns);
        assert!(simulation.longest_gap(&host(OWN), quiet) < Duration::from_millis(2500));
        assert!(most_in_a_minute(&simulation.sent) <= 120);
    }

    fn outcome() -> impl Strategy<Value = Answer> {
        let outcome = prop_oneof![Just(Outcome::Known), Just(Outcome::Absent), Just(Outcome::Unclear)];
        (outcome, any::<bool>(), 1u32..5)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever DNS answers, however many packets each answer takes, and with peers that dial all the time:
        /// at most two packets a second over any minute, the first one included; and the own name gets its turns.
        #[test]
        fn the_budget_holds_and_nothing_starves(
            answers in prop::collection::vec(outcome(), 1..40),
            jitter in prop::collection::vec(0.0..1.0f64, 1..20),
            storm in any::<bool>(),
        ) {
            let mut simulation = Simulation::new(three_pods());
            let kicked = host("etcd-2.etcd.ns.svc");
            let mut turn = 0;
            simulation.run(4 * MINUTE, &jitter, storm.then_some(&kicked), |_, _| {
                turn += 1;
                answers[turn % answers.len()]
            });
            prop_assert!(most_in_a_minute(&simulation.sent) <= 120, "{}", most_in_a_minute(&simulation.sent));
            let gap = simulation.longest_gap(&host(OWN), Duration::ZERO);
            // A known name is left alone for up to 24 s, and then five questions of up to four packets each take turns.
            prop_assert!(gap < MINUTE, "{gap:?}");
        }
    }
}

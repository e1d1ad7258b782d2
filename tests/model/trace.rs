//! A path through the worlds, for a reader.

use std::fmt::Write as _;

use super::project::Move;
use super::step::{Event, Outcome, Rules, show_id, show_kind};
use super::world::{Proc, View, World};

/// Each event, and the world at the end.
pub(crate) fn show(rules: &Rules, steps: &[(World, Option<Event>)]) -> String {
    let mut text = String::new();
    for (n, (world, event)) in steps.iter().enumerate() {
        if let Some(event) = event {
            let next = steps.get(n + 1).map(|(next, _)| next);
            _ = writeln!(text, "{:3}. {}", n + 1, tell(rules, world, next, *event));
        }
    }
    if let Some((world, _)) = steps.last() {
        _ = writeln!(text, "then:");
        for pod in world.all() {
            _ = writeln!(text, "     {}", world.show(pod, &rules.project));
        }
        let members = world.current().iter().map(|member| {
            let learner = if member.learner { ", a learner" } else { "" };
            let published = if member.published { "" } else { ", unpublished" };
            format!("{}{learner}{published}", show_id(member.id))
        });
        _ = writeln!(text, "     the members: {}; broken: {:?}", members.collect::<Vec<_>>().join("; "), world.broken);
    }
    text
}

fn tell(rules: &Rules, world: &World, next: Option<&World>, event: Event) -> String {
    match event {
        Event::Boot(pod) => format!("pod {pod} starts"),
        Event::Ask(pod, peer, _) => {
            let heard = next.and_then(|next| match &next.pods[usize::from(pod)].process {
                Proc::Run { views, rounds, .. } => views[usize::from(peer)].clone().map(|view| (view, *rounds)),
                _ => None,
            });
            match heard {
                Some((View::Waiting { kind, .. }, rounds)) => {
                    format!("pod {pod} hears from pod {peer}: {} ({rounds} rounds)", show_kind(&kind))
                }
                Some((View::Etcd { local, list }, _)) => {
                    format!("pod {pod} hears from the etcd of pod {peer}: its list {local:?}, the leader's {list:?}")
                }
                _ => format!("pod {pod} hears nothing from pod {peer}"),
            }
        }
        Event::AskAstray(pod, peer, to) => {
            let who = to.map_or("a foreign cluster".to_owned(), |to| format!("pod {to}"));
            format!("pod {pod} dials pod {peer}, and A STALE RECORD leads it to {who}")
        }
        Event::DnsShows(pod) => format!("DNS shows pod {pod} the higher pods"),
        Event::Act(pod, outcome) => {
            let decided = rules.project.key(world, pod).map(|key| rules.project.decide(&key));
            let what = decided.map_or(String::new(), |(rule, next)| format!("{rule}: {}", tell_move(&next)));
            let outcome = match outcome {
                Outcome::Done(0) => "",
                Outcome::Done(_) => " (one member does not get the entry)",
                Outcome::AnswerLost(_) => " (its answer is lost)",
                Outcome::Queued => " (etcd queues it)",
                Outcome::Interrupted => ", AND CRASHES before it notes that",
            };
            format!("pod {pod} acts, {what}{outcome}")
        }
        Event::WalAppears(pod) => format!("the etcd of pod {pod} has made its WAL"),
        Event::ExecFails(pod) => format!("the etcd of pod {pod} fails to start"),
        Event::Speaks(pod) => format!("the WAL of pod {pod} has its first entry"),
        Event::Notes(pod) => format!("the child in pod {pod} notes the WAL"),
        Event::Publishes(pod, set) => format!("the member of pod {pod} is published{}", lag(set)),
        Event::CatchesUp(pod) => format!("the member of pod {pod} catches up"),
        Event::Promotes(pod, set) => format!("the learner of pod {pod} is promoted{}", lag(set)),
        Event::Leaves(pod) => format!("pod {pod} is told to leave, and notes that"),
        Event::Left(pod, set) => format!("the member of pod {pod} is removed by its pod{}", lag(set)),
        Event::LearnsOfItsEnd(pod) => format!("the etcd of pod {pod} learns that it was removed, and ends"),
        Event::Applies(queued, set) => format!("etcd applies the queued {queued:?}{}", lag(set)),
        Event::Crash(pod) => format!("pod {pod} CRASHES"),
        Event::LosesRecord(pod) => format!("pod {pod} has had NO DNS RECORD for a minute"),
        Event::LosesDisk(pod) => format!("pod {pod} LOSES ITS DISK"),
        Event::LosesWalVolume(pod) => format!("pod {pod} LOSES ITS WAL VOLUME"),
        Event::LosesDataVolume(pod) => format!("pod {pod} LOSES ITS DATA VOLUME"),
        Event::LosesWal(pod) => format!("pod {pod} LOSES ITS WAL"),
    }
}

fn lag(set: u8) -> &'static str {
    if set == 0 { "" } else { " (one member does not get the entry)" }
}

fn tell_move(next: &Move) -> String {
    match next {
        Move::Start { new, id, .. } => {
            format!("starts etcd ({}) as {}", if *new { "new" } else { "existing" }, show_id(*id))
        }
        Move::Remove(id) => format!("removes {}", show_id(*id)),
        Move::RemoveAbandoned(id) => format!("removes the abandoned learner {}", show_id(*id)),
        Move::Add(learner) => format!("adds a {}", if *learner { "learner" } else { "voter" }),
        other => format!("{other:?}"),
    }
}

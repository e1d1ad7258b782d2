//! What can happen next, and what comes of it.

use etcd_bootstrap::plan::Rule;

use super::bugs::Bug;
use super::checks::{check_call, check_founding, check_promotion, vanished};
use super::project::{Key, Move, Project};
use super::world::{Broken, Disk, Journal, Kind, Mid, Pairing, Pod, PodState, Proc, Queued, Stage, View, Wal, World};

/// One thing that happens.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Event {
    /// The kubelet starts the pod.
    Boot(Pod),
    /// A pod asks another, and hears what it says; or its etcd while that replays its WAL, without client URLs.
    Ask(Pod, Pod, bool),
    /// A stale record: under another pod's name answers this one, or, where there is none, a foreign cluster.
    AskAstray(Pod, Pod, Option<Pod>),
    /// DNS shows the higher pods.
    DnsShows(Pod),
    /// A pod does what was decided, and, where etcd has a part in it, this comes of it.
    Act(Pod, Outcome),
    /// etcd's WAL is there.
    WalAppears(Pod),
    /// etcd fails to start, and the pod ends.
    ExecFails(Pod),
    /// The founder's WAL has its first entry.
    Speaks(Pod),
    /// The child notes that it has seen the WAL.
    Notes(Pod),
    /// A member publishes its name and URLs; all or all but one acknowledge.
    Publishes(Pod, u8),
    /// A member gets what it lacks from the leader.
    CatchesUp(Pod),
    /// The promoter beside etcd makes the learner a voter.
    Promotes(Pod, u8),
    /// The pod is told to leave, may do so now, and notes it.
    Leaves(Pod),
    /// It removes its member.
    Left(Pod, u8),
    /// A member that was removed learns it, and ends.
    LearnsOfItsEnd(Pod),
    /// What was queued is applied after all.
    Applies(Queued, u8),
    Crash(Pod),
    /// A pod that is down has had no DNS record for a minute.
    LosesRecord(Pod),
    LosesDisk(Pod),
    /// The WAL and the journal are gone, the db is left.
    LosesWalVolume(Pod),
    /// The db is gone, the WAL and the journal are left.
    LosesDataVolume(Pod),
    /// The WAL is gone, the journal is left.
    LosesWal(Pod),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Outcome {
    /// These (an index into `World::acknowledging`) hold the new entry, and the answer arrives.
    Done(u8),
    /// The same, and the answer is lost.
    AnswerLost(u8),
    /// The deadline passes, and etcd applies it later.
    Queued,
    /// A crash between the effect and its note, which only a seeded bug leaves room for.
    Interrupted,
}

impl Event {
    /// Whose it is; etcd itself applies what is queued.
    pub(crate) fn pod(self) -> Option<Pod> {
        match self {
            Self::Boot(pod)
            | Self::Ask(pod, ..)
            | Self::AskAstray(pod, ..)
            | Self::DnsShows(pod)
            | Self::Act(pod, _)
            | Self::WalAppears(pod)
            | Self::ExecFails(pod)
            | Self::Speaks(pod)
            | Self::Notes(pod)
            | Self::Publishes(pod, _)
            | Self::CatchesUp(pod)
            | Self::Promotes(pod, _)
            | Self::Leaves(pod)
            | Self::Left(pod, _)
            | Self::LearnsOfItsEnd(pod)
            | Self::Crash(pod)
            | Self::LosesRecord(pod)
            | Self::LosesDisk(pod)
            | Self::LosesWalVolume(pod)
            | Self::LosesDataVolume(pod)
            | Self::LosesWal(pod) => Some(pod),
            Self::Applies(..) => None,
        }
    }

    pub(crate) fn is_loss(self) -> bool {
        matches!(self, Self::LosesDisk(_) | Self::LosesWalVolume(_) | Self::LosesDataVolume(_) | Self::LosesWal(_))
    }

    /// It is nobody's promise that this does not happen.
    pub(crate) fn is_fault(self) -> bool {
        matches!(
            self,
            Self::Crash(_)
                | Self::LosesRecord(_)
                | Self::LosesDisk(_)
                | Self::LosesWalVolume(_)
                | Self::LosesDataVolume(_)
                | Self::LosesWal(_)
                | Self::Leaves(_)
                | Self::Left(..)
                | Self::Ask(_, _, true)
                | Self::AskAstray(..)
                | Self::Act(_, Outcome::AnswerLost(_) | Outcome::Queued | Outcome::Interrupted)
        )
    }
}

/// How much goes wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) crashes: u8,
    pub(crate) losses: u8,
    /// Answers lost, and calls queued.
    pub(crate) lost_answers: u8,
    /// Members told to leave; their pods come back later.
    pub(crate) leaves: u8,
    /// Questions that a stale record leads astray.
    pub(crate) astray: u8,
    /// Learners whose pod is down so long that DNS has no record of it.
    pub(crate) absences: u8,
    /// A WAL may be without an entry when its process is killed.
    pub(crate) mute: bool,
    /// A disk may lose one of its volumes, or the WAL alone; and the pod may crash between a WAL and its note.
    pub(crate) partial: bool,
    /// `/members` may lack the client URLs while a WAL is replayed.
    pub(crate) window: bool,
    /// Members may lag behind what others have acknowledged.
    pub(crate) lag: bool,
}

pub(crate) struct Rules {
    pub(crate) project: Project,
    pub(crate) limits: Limits,
    /// Worlds that differ only in which founder is which count as one.
    pub(crate) symmetric: bool,
}

impl Rules {
    pub(crate) fn events(&self, world: &World, into: &mut Vec<Event>) {
        if world.broken.is_some() {
            return;
        }
        let limits = &self.limits;
        let sets = if limits.lag { world.acknowledging().len() } else { 1 } as u8;
        let led = world.leader().is_some();
        for pod in world.all() {
            let state = &world.pods[usize::from(pod)];
            match &state.process {
                Proc::Down => {
                    into.push(Event::Boot(pod));
                    let has_record = world.absent & 1 << pod == 0;
                    if has_record && world.absences < limits.absences && world.learner().is_some_and(|id| id.pod == pod)
                    {
                        into.push(Event::LosesRecord(pod));
                    }
                }
                Proc::Run { dns, .. } => {
                    into.extend(world.all().filter(|peer| *peer != pod).map(|peer| Event::Ask(pod, peer, false)));
                    if limits.window {
                        let up = world.each_running().map(|(peer, _)| Event::Ask(pod, peer, true));
                        into.extend(up);
                    }
                    if world.astray < limits.astray {
                        self.astray(world, pod, into);
                    }
                    if !dns {
                        into.push(Event::DnsShows(pod));
                    }
                    self.acts(world, pod, sets, led, into);
                }
                Proc::Execed { .. } => into.extend([Event::WalAppears(pod), Event::ExecFails(pod)]),
                Proc::Up { .. } => self.etcds(world, pod, sets, led, into),
            }
            if world.crashes < limits.crashes && state.process != Proc::Down {
                into.push(Event::Crash(pod));
            }
            if world.losses < limits.losses {
                self.losses(state, pod, into);
            }
        }
        if led {
            for queued in &world.queue {
                into.extend((0..sets).map(|set| Event::Applies(*queued, set)));
            }
        }
    }

    /// The foreign cluster leads, and has our service's name nowhere.
    fn astray(&self, world: &World, pod: Pod, into: &mut Vec<Event>) {
        for peer in world.all().filter(|peer| *peer != pod) {
            into.push(Event::AskAstray(pod, peer, None));
            let others = world.all().filter(|other| *other != pod && *other != peer);
            into.extend(others.map(|other| Event::AskAstray(pod, peer, Some(other))));
        }
    }

    fn acts(&self, world: &World, pod: Pod, sets: u8, led: bool, into: &mut Vec<Event>) {
        let Some(key) = self.project.key(world, pod) else { return };
        match self.project.decide(&key).1 {
            Move::Wait | Move::Refuse => {}
            Move::Remove(_) | Move::RemoveAbandoned(_) | Move::Add(_) => {
                if led {
                    into.extend((0..sets).map(|set| Event::Act(pod, Outcome::Done(set))));
                    if world.lost_answers < self.limits.lost_answers {
                        into.extend((0..sets).map(|set| Event::Act(pod, Outcome::AnswerLost(set))));
                        into.push(Event::Act(pod, Outcome::Queued));
                    }
                } else if self.project.bug == Some(Bug::RemoveWithoutQuorum) {
                    into.push(Event::Act(pod, Outcome::Queued));
                }
            }
            Move::Promote(_) => {
                if led {
                    into.extend((0..sets).map(|set| Event::Act(pod, Outcome::Done(set))));
                }
            }
            Move::Archive(..) if self.project.bug == Some(Bug::NoteAfterRename) => {
                into.push(Event::Act(pod, Outcome::Done(0)));
                if world.crashes < self.limits.crashes {
                    into.push(Event::Act(pod, Outcome::Interrupted));
                }
            }
            _ => into.push(Event::Act(pod, Outcome::Done(0))),
        }
    }

    fn etcds(&self, world: &World, pod: Pod, sets: u8, led: bool, into: &mut Vec<Event>) {
        let state = &world.pods[usize::from(pod)];
        let (Proc::Up { first, promoter, .. }, Some(wal)) = (&state.process, &state.disk.wal) else { return };
        if *first && !wal.spoke && !wal.joining {
            into.push(Event::Speaks(pod));
        }
        let noted = state.disk.journal.as_ref().is_some_and(|journal| journal.wal_seen == Some(wal.id));
        if *first && !noted {
            into.push(Event::Notes(pod));
        }
        if !led {
            return;
        }
        let Some(member) = world.member(wal.id) else {
            into.push(Event::LearnsOfItsEnd(pod));
            return;
        };
        if wal.idx < world.head() || wal.joining || !wal.spoke {
            into.push(Event::CatchesUp(pod));
            return;
        }
        let leaving = state.disk.journal.as_ref().is_some_and(|journal| journal.leaving);
        if (leaving || world.leaves < self.limits.leaves) && self.project.may_leave(world, pod) {
            if leaving {
                into.extend((0..sets).map(|set| Event::Left(pod, set)));
            } else {
                into.push(Event::Leaves(pod));
            }
        }
        if !member.published {
            into.extend((0..sets).map(|set| Event::Publishes(pod, set)));
        } else if member.learner && *promoter {
            into.extend((0..sets).map(|set| Event::Promotes(pod, set)));
        }
    }

    fn losses(&self, state: &PodState, pod: Pod, into: &mut Vec<Event>) {
        let disk = &state.disk;
        if disk.journal.is_none() {
            return;
        }
        into.push(Event::LosesDisk(pod));
        if self.limits.partial {
            if disk.pairing == Pairing::Paired {
                into.extend([Event::LosesWalVolume(pod), Event::LosesDataVolume(pod)]);
            }
            // A WAL that goes by itself within the milliseconds before its note is not looked for.
            let seen = disk.journal.as_ref().and_then(|journal| journal.wal_seen);
            if disk.wal.as_ref().is_some_and(|wal| seen == Some(wal.id)) {
                into.push(Event::LosesWal(pod));
            }
        }
    }

    /// The world after the event, with the smallest numbers.
    pub(crate) fn after(&self, world: &World, event: Event) -> Option<World> {
        let mut next = world.clone();
        match event {
            Event::Boot(pod) => {
                self.boot(&mut next, pod);
                self.hear_nobody(&mut next, pod);
            }
            Event::Ask(pod, peer, window) => self.ask(&mut next, pod, peer, window)?,
            Event::AskAstray(pod, peer, to) => self.ask_astray(&mut next, pod, peer, to)?,
            Event::DnsShows(pod) => self.dns_shows(&mut next, pod)?,
            Event::Act(pod, outcome) => {
                self.act(&mut next, pod, outcome)?;
                self.hear_nobody(&mut next, pod);
            }
            Event::WalAppears(pod) => self.wal_appears(&mut next, pod)?,
            Event::ExecFails(pod) => {
                let Proc::Execed { new, id, .. } = next.pods[usize::from(pod)].process else { return None };
                if new || joinable(&next, id).is_some() {
                    return None;
                }
                next.pods[usize::from(pod)].process = Proc::Down;
            }
            Event::Speaks(pod) => next.pods[usize::from(pod)].disk.wal.as_mut()?.spoke = true,
            Event::Notes(pod) => {
                let disk = &mut next.pods[usize::from(pod)].disk;
                disk.journal.as_mut()?.wal_seen = Some(disk.wal.as_ref()?.id);
            }
            Event::Publishes(pod, set) => {
                let id = next.running(pod)?.id;
                let config = next.with(|member| member.published = true, id);
                let holders = next.acknowledging().into_iter().nth(usize::from(set))?;
                next.commit(config, &holders);
            }
            Event::CatchesUp(pod) => {
                let head = next.head();
                let wal = next.pods[usize::from(pod)].disk.wal.as_mut()?;
                (wal.idx, wal.joining, wal.spoke) = (head, false, true);
            }
            Event::Promotes(pod, set) => {
                let id = next.running(pod)?.id;
                promote(&mut next, id, set)?;
            }
            Event::Leaves(pod) => {
                next.leaves += 1;
                next.pods[usize::from(pod)].disk.journal.as_mut()?.leaving = true;
            }
            Event::Left(pod, set) => {
                let id = next.running(pod)?.id;
                remove(&mut next, id, set)?;
            }
            Event::LearnsOfItsEnd(pod) => next.pods[usize::from(pod)].process = Proc::Down,
            Event::Applies(queued, set) => {
                next.queue.remove(&queued);
                match queued {
                    Queued::Remove(id) => remove(&mut next, id, set)?,
                    Queued::Add(id, learner) => _ = add(&mut next, id, learner, set),
                }
            }
            Event::Crash(pod) => {
                next.crashes += 1;
                next.pods[usize::from(pod)].process = Proc::Down;
            }
            Event::LosesRecord(pod) => self.lose_record(&mut next, pod),
            Event::LosesDisk(pod) | Event::LosesWalVolume(pod) | Event::LosesDataVolume(pod) | Event::LosesWal(pod) => {
                self.lose(&mut next, pod, event);
            }
        }
        if !event.is_loss() && vanished(world, &next) {
            next.broken.get_or_insert(Broken::Data);
        }
        next.note_what_mattered();
        next.note_who_is_in_sync();
        let mut next = next.canonical();
        if self.symmetric {
            next = next.representative(self.project.founders);
        }
        (next != *world).then_some(next)
    }

    fn boot(&self, world: &mut World, pod: Pod) {
        let dns = self.project.pods == self.project.founders;
        let pods = world.pods.len();
        world.absent &= !(1 << pod);
        let state = &mut world.pods[usize::from(pod)];
        let journal = state.disk.journal.get_or_insert_with(Journal::fresh);
        if let Some(wal) = &state.disk.wal {
            journal.wal_seen = Some(wal.id);
        }
        state.process = Proc::Run { views: vec![None; pods], rounds: 0, again: 0, dns };
    }

    fn ask(&self, world: &mut World, pod: Pod, peer: Pod, window: bool) -> Option<()> {
        let before = self.project.key(world, pod)?;
        let other = &world.pods[usize::from(peer)];
        let view = match (&other.process, &other.disk.wal) {
            (Proc::Run { .. }, _) => {
                let kind = self.project.kind(peer, &other.disk)?;
                View::Waiting { generation: other.disk.generation, kind }
            }
            (Proc::Up { .. }, Some(wal)) => self.etcd_view(world, wal, window),
            // DNS has mended, and nobody answers: what was said under that name before is taken back.
            _ if before.views[usize::from(peer)] == Some(View::Foreign) => {
                return self.take_in(world, &before, peer, None);
            }
            // Nobody answers: as if it had not been asked, and what was heard before is too old to be acted on.
            _ => return None,
        };
        self.take_in(world, &before, peer, Some(view))
    }

    /// A statement under another name than the one that was dialled is silence; an etcd does not tell its name.
    fn ask_astray(&self, world: &mut World, pod: Pod, peer: Pod, to: Option<Pod>) -> Option<()> {
        let before = self.project.key(world, pod)?;
        world.astray += 1;
        let view = match to.map(|to| &world.pods[usize::from(to)]) {
            None => Some(View::Foreign),
            Some(PodState { process: Proc::Up { .. }, disk: Disk { wal: Some(wal), .. } }) => {
                Some(self.etcd_view(world, wal, false))
            }
            Some(_) => None,
        };
        self.take_in(world, &before, peer, view)
    }

    /// An answer, or none, takes the place of the one before.
    fn take_in(&self, world: &mut World, before: &Key, peer: Pod, view: Option<View>) -> Option<()> {
        let Proc::Run { views, rounds, again, .. } = &mut world.pods[usize::from(before.pod)].process else {
            return None;
        };
        views[usize::from(peer)] = view;
        *again = if *rounds == 1 { *again | 1 << peer } else { 0 };
        self.hear(world, before.pod, before)
    }

    /// In that minute all that wait have asked all others anew.
    fn lose_record(&self, world: &mut World, pod: Pod) {
        world.absences += 1;
        world.absent |= 1 << pod;
        for pod in &mut world.pods {
            if let Proc::Run { views, rounds, again, .. } = &mut pod.process {
                views.iter_mut().for_each(|view| *view = None);
                (*rounds, *again) = (0, 0);
            }
        }
        world.all().for_each(|pod| self.hear_nobody(world, pod));
    }

    fn etcd_view(&self, world: &World, wal: &Wal, window: bool) -> View {
        // Without an entry `/members` is null; a joiner shows its flags, a founder its bootstrap.
        let local = (wal.spoke || wal.joining).then_some((wal.idx, wal.joining || window));
        let list = (!window && world.gives_list(wal)).then(|| world.head());
        View::Etcd { local, list }
    }

    fn dns_shows(&self, world: &mut World, pod: Pod) -> Option<()> {
        let before = self.project.key(world, pod)?;
        let Proc::Run { dns, .. } = &mut world.pods[usize::from(pod)].process else { return None };
        *dns = true;
        self.hear(world, pod, &before)
    }

    /// A pod that is alone in its span has nobody to hear.
    fn hear_nobody(&self, world: &mut World, pod: Pod) {
        if let Some(before) = self.project.key(world, pod) {
            _ = self.hear(world, pod, &before);
        }
    }

    fn hear(&self, world: &mut World, pod: Pod, before: &Key) -> Option<()> {
        let after = self.project.key(world, pod)?;
        let (came, asked) = self.project.heard(before, &after);
        let Proc::Run { rounds, again, .. } = &mut world.pods[usize::from(pod)].process else { return None };
        (*rounds, *again) = (came, asked);
        Some(())
    }

    fn act(&self, world: &mut World, pod: Pod, outcome: Outcome) -> Option<()> {
        let key = self.project.key(world, pod)?;
        let (rule, next) = self.project.decide(&key);
        // Answers that were asked before the step ended are dropped.
        if let Proc::Run { views, rounds, again, .. } = &mut world.pods[usize::from(pod)].process {
            views.iter_mut().for_each(|view| *view = None);
            (*rounds, *again) = (0, 0);
        }
        if matches!(next, Move::Add(_) | Move::Remove(_) | Move::RemoveAbandoned(_) | Move::Promote(_)) {
            check_call(world, &key, &next);
        }
        let disk = &mut world.pods[usize::from(pod)].disk;
        let journal = disk.journal.as_mut()?;
        match next {
            Move::Wait | Move::Refuse => return None,
            Move::InForeign => _ = world.broken.get_or_insert(Broken::Foreign),
            Move::Journal(stage, exclude) => {
                if matches!(stage, Stage::Prepared(_)) {
                    world.prepared |= 1 << pod;
                }
                journal.leaving &= !matches!(stage, Stage::Joined(..));
                journal.stage = stage;
                journal.excluded.extend(exclude);
            }
            Move::NoteWal(id) => journal.wal_seen = id,
            Move::Archive(id, never_spoke) => {
                journal.archiving = Some((id, never_spoke));
                if self.project.bug == Some(Bug::NoteAfterRename) {
                    journal.archiving = None;
                    put_aside(world, pod, never_spoke);
                    let disk = &mut world.pods[usize::from(pod)].disk;
                    if outcome == Outcome::Interrupted {
                        world.crashes += 1;
                        world.pods[usize::from(pod)].process = Proc::Down;
                    } else {
                        finish(disk, id, never_spoke);
                    }
                }
            }
            Move::FinishArchive => {
                let (id, never_spoke) = journal.archiving?;
                if disk.wal.is_some() || disk.leftovers {
                    put_aside(world, pod, never_spoke);
                } else {
                    finish(disk, id, never_spoke);
                }
            }
            Move::Remove(id) | Move::RemoveAbandoned(id) => match outcome {
                Outcome::Queued => {
                    world.lost_answers += 1;
                    world.queue.insert(Queued::Remove(id));
                }
                Outcome::Done(set) => remove(world, id, set)?,
                Outcome::AnswerLost(_) | Outcome::Interrupted => return None,
            },
            Move::Add(learner) => {
                let id = world.next_id(pod);
                match outcome {
                    Outcome::Queued => {
                        world.lost_answers += 1;
                        world.queue.insert(Queued::Add(id, learner));
                    }
                    Outcome::Done(set) => {
                        if add(world, id, learner, set) {
                            let journal = world.pods[usize::from(pod)].disk.journal.as_mut()?;
                            (journal.stage, journal.leaving) = (Stage::Joined(id, learner), false);
                        }
                    }
                    Outcome::AnswerLost(set) => {
                        world.lost_answers += 1;
                        add(world, id, learner, set).then_some(())?;
                    }
                    Outcome::Interrupted => return None,
                }
            }
            Move::Promote(id) => {
                let Outcome::Done(set) = outcome else { return None };
                // The leader goes by what it last knew of the learner, be that one dead since.
                if world.in_sync == Some(id) {
                    promote(world, id, set)?;
                    check_promotion(world, &key, id);
                    world.hopeless |= world.is_hopeless(self.project.founders);
                }
            }
            Move::Start { new, id, learner } => {
                // A leader has told that the member is still one.
                journal.leaving &= rule != Rule::DataListed;
                self.start(world, &key, new, id, learner);
            }
        }
        Some(())
    }

    fn start(&self, world: &mut World, key: &Key, new: bool, id: Mid, promoter: bool) {
        let state = &mut world.pods[usize::from(key.pod)];
        if state.disk.pairing == Pairing::None {
            state.disk.pairing = Pairing::Paired;
        }
        if state.disk.wal.is_some() {
            state.process = Proc::Up { first: false, promoter, heard: 0 };
            return;
        }
        state.process = Proc::Execed { new, id, promoter };
        if state.disk.leftovers {
            world.broken.get_or_insert(Broken::Data);
        }
        if new && self.project.bug != Some(Bug::OnePhase) {
            check_founding(world, key, self.project.founders);
        }
    }

    fn wal_appears(&self, world: &mut World, pod: Pod) -> Option<()> {
        let Proc::Execed { new, id, promoter } = world.pods[usize::from(pod)].process else { return None };
        let idx = if new { 0 } else { joinable(world, id)? };
        if world.is_remembered(id) {
            world.broken.get_or_insert(Broken::Identity);
        }
        let state = &mut world.pods[usize::from(pod)];
        state.disk.wal = Some(Wal { id, idx, spoke: new && !self.limits.mute, joining: !new });
        state.disk.leftovers = false;
        state.process = Proc::Up { first: true, promoter, heard: 0 };
        if !self.limits.partial {
            state.disk.journal.as_mut()?.wal_seen = Some(id);
        }
        Some(())
    }

    fn lose(&self, world: &mut World, pod: Pod, event: Event) {
        world.losses += 1;
        let state = &mut world.pods[usize::from(pod)];
        state.process = Proc::Down;
        let disk = &mut state.disk;
        match event {
            Event::LosesWalVolume(_) => {
                *disk = Disk { leftovers: true, pairing: Pairing::Broken, ..Disk::blank(disk.generation + 1) };
            }
            Event::LosesDataVolume(_) => disk.pairing = Pairing::Broken,
            Event::LosesWal(_) => disk.wal = None,
            _ => *disk = Disk::blank(disk.generation + 1),
        }
        if world.pods.iter().all(|pod| pod.disk.wal.as_ref().is_none_or(|wal| !wal.spoke)) {
            self.forget(world);
        }
        world.hopeless = !world.is_blank() && (world.hopeless || world.is_hopeless(self.project.founders));
    }

    /// The last disk that held anything is gone, and with it all that was acknowledged: nobody can tell what follows
    /// from a first boot. What the pods have heard is older.
    fn forget(&self, world: &mut World) {
        let fresh = World::new(self.project.pods, self.project.founders);
        (world.history, world.mattered, world.queue) = (fresh.history, fresh.mattered, fresh.queue);
        world.prepared = 0;
        for pod in 0..self.project.founders {
            let journal = &world.pods[usize::from(pod)].disk.journal;
            let prepared = journal.as_ref().is_some_and(|journal| matches!(journal.stage, Stage::Prepared(_)));
            world.prepared |= u16::from(prepared) << pod;
        }
        for pod in &mut world.pods {
            pod.disk.wal.iter_mut().for_each(|wal| wal.idx = 0);
            let Proc::Run { views, .. } = &mut pod.process else { continue };
            for view in views.iter_mut().flatten() {
                if let View::Etcd { local, list } = view {
                    *local = local.map(|_| (0, false));
                    *list = None;
                }
            }
        }
    }
}

/// Data goes aside: of a member that was removed, or what is not whole. The ID never runs again.
fn put_aside(world: &mut World, pod: Pod, never_spoke: bool) {
    let disk = &mut world.pods[usize::from(pod)].disk;
    let whole = disk.pairing != Pairing::Broken;
    disk.leftovers = false;
    let Some(wal) = disk.wal.take().filter(|wal| wal.spoke) else { return };
    if whole && world.member(wal.id).is_some() {
        world.broken.get_or_insert(Broken::Data);
    }
    if !never_spoke {
        world.mattered.insert(wal.id);
    }
}

fn finish(disk: &mut Disk, id: Option<Mid>, never_spoke: bool) {
    if disk.pairing == Pairing::Broken {
        disk.pairing = Pairing::None;
    }
    let Some(journal) = &mut disk.journal else { return };
    (journal.archiving, journal.wal_seen) = (None, None);
    if !never_spoke {
        (journal.was_member, journal.leaving) = (true, false);
        journal.stage = Stage::Fresh;
        journal.excluded.extend(id);
    }
}

/// The entry up to which a member knows this one, whom it would let join.
fn joinable(world: &World, id: Mid) -> Option<u8> {
    let knows = |idx: u8| world.config(idx).iter().any(|member| member.id == id);
    world.each_running().map(|(_, wal)| wal.idx).filter(|idx| knows(*idx)).max()
}

fn remove(world: &mut World, id: Mid, set: u8) -> Option<()> {
    if world.member(id).is_none() {
        return Some(());
    }
    let config = world.without(id);
    let holders = world.acknowledging().into_iter().nth(usize::from(set))?;
    world.commit(config, &holders);
    world.check_quorum();
    Some(())
}

fn add(world: &mut World, id: Mid, learner: bool, set: u8) -> bool {
    let (Some(config), Some(holders)) =
        (world.plus(id, learner), world.acknowledging().into_iter().nth(usize::from(set)))
    else {
        return false;
    };
    world.commit(config, &holders);
    world.check_quorum();
    true
}

fn promote(world: &mut World, id: Mid, set: u8) -> Option<()> {
    let config = world.with(|member| member.learner = false, id);
    let holders = world.acknowledging().into_iter().nth(usize::from(set))?;
    world.commit(config, &holders);
    Some(())
}

impl World {
    /// The pod's journal and data as a reader takes them in.
    pub(crate) fn show(&self, pod: Pod, project: &Project) -> String {
        let state = &self.pods[usize::from(pod)];
        let wal = match &state.disk.wal {
            None => "no WAL".to_owned(),
            Some(wal) if wal.joining => format!("an empty WAL of {}", show_id(wal.id)),
            Some(wal) if !wal.spoke => format!("a WAL of {} that never spoke", show_id(wal.id)),
            Some(wal) => format!("a WAL of {} up to {}", show_id(wal.id), wal.idx),
        };
        let journal = state.disk.journal.as_ref().map_or("no journal".to_owned(), |journal| {
            let seen = journal.wal_seen.map_or(String::new(), |id| format!(", has seen the WAL of {}", show_id(id)));
            let was = if journal.was_member { ", was a member" } else { "" };
            format!("{:?}{seen}{was}", journal.stage)
        });
        let process = match &state.process {
            Proc::Down => "down".to_owned(),
            Proc::Run { .. } => {
                let decided = project.key(self, pod).map(|key| project.decide(&key));
                decided.map_or("waits".to_owned(), |(rule, next)| format!("{rule}: {next:?}"))
            }
            Proc::Execed { new, id, .. } => {
                format!("executes etcd ({}) as {}", if *new { "new" } else { "existing" }, show_id(*id))
            }
            Proc::Up { .. } => "etcd runs".to_owned(),
        };
        format!("pod {pod} [disk {}: {wal}; {journal}] {process}", state.disk.generation)
    }
}

pub(crate) fn show_id(id: Mid) -> String {
    if id.seq == 0 { format!("static {}", id.pod) } else { format!("{}+{}", id.pod, id.seq) }
}

pub(crate) fn show_kind(kind: &Kind) -> String {
    match kind {
        Kind::Prepared(disks) => format!("prepared with disks {disks:?}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

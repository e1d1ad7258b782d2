//! A pod is killed at every failpoint, in every way of starting, and starts again: all must end well.
//!
//! Well is: every pod has come to etcd, each is a started voter of the same one cluster, there is no other member and
//! none that was removed, no acknowledged write is lost, and all members hold the same.

mod beside;
mod points;
mod stage;
mod story;
mod table;
mod way;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, mpsc};

use self::points::Place;
use self::stage::Stage;
use self::table::Table;
use self::way::{Layout, Lost, Program, WAYS, Way};
use crate::harness::say;
use crate::templates::is_long;

/// How many clusters there are at a time. A pod mostly waits.
const STAGES: usize = 4;

/// One kill.
#[derive(Clone, Debug)]
struct Cell {
    program: Program,
    way: Way,
    layout: Layout,
    place: Place,
    lost: Lost,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, way, layout, place, lost } = self;
        write!(f, "{program:?}, {way}, killed at {}, {layout:?}, lost: {lost:?}", place.variable())
    }
}

impl Cell {
    /// The point, and what was lost: its row in the table.
    fn name(&self) -> String {
        match self.lost {
            Lost::Nothing => self.place.point.clone(),
            lost => format!("{}, lost: {lost:?}", self.place.point),
        }
    }
}

/// How it ended.
struct End {
    cell: Cell,
    failure: Option<String>,
}

/// The volumes are lost at these points also where time is short.
const TELLING: [(Way, &str, Lost); 8] = [
    (Way::Found, "close-after", Lost::Everything),
    (Way::Found, "child/note-wal-before", Lost::Wal),
    (Way::Join, "add-after", Lost::Everything),
    (Way::Join, "child/promote-before", Lost::Data),
    (Way::Replace, "remove-after", Lost::Everything),
    (Way::Replace, "pairing-before-journal-half", Lost::Wal),
    (Way::Rejoin, "archive-after-rename", Lost::Wal),
    (Way::Restart, "exec-before", Lost::Data),
];

/// What one thread kills in a row.
enum Group {
    Of(Way),
    Beside(&'static [&'static str]),
}

#[test]
fn a_pod_that_is_killed_at_any_failpoint_and_starts_again_ends_well() {
    let groups = WAYS.into_iter().map(Group::Of).chain(beside::groups().map(Group::Beside));
    let groups = Mutex::new(groups.collect::<Vec<_>>().into_iter());
    let next = &|| groups.lock().unwrap().next();
    let (sender, receiver) = mpsc::channel();
    let recorded = &Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..STAGES {
            let sender = sender.clone();
            scope.spawn(move || {
                let note = |end: End| {
                    if is_long() {
                        let failure = end.failure.as_ref();
                        let how = failure.map_or("ok", |why| why.lines().next().unwrap_or("FAILED"));
                        say(&format!("{}: {how}\n", end.cell));
                    }
                    sender.send(end).unwrap();
                };
                while let Some(group) = next() {
                    match group {
                        Group::Of(way) => {
                            let places = kill_at_all_places(way, note);
                            recorded.lock().unwrap().insert(way, places);
                        }
                        Group::Beside(points) => beside::kill_at(points, note),
                    }
                }
            });
        }
    });
    drop(sender);
    let ends: Vec<End> = receiver.iter().collect();
    report(&recorded.lock().unwrap(), &ends);
}

/// With both layouts, one after the other. Gives the places that were found.
fn kill_at_all_places(way: Way, note: impl Fn(End)) -> Vec<Place> {
    let mut found = Vec::new();
    let mut killed = BTreeSet::new();
    for layout in [Layout::OneVolume, Layout::TwoVolumes] {
        let mut stage = Stage::new(way, layout);
        let places = stage.places();
        let mut cells = cells(way, layout, &places);
        if !is_long() {
            share(&mut cells, layout, &killed);
        }
        for cell in cells {
            killed.insert(cell.name());
            let failure = kill_once(&mut stage, &cell);
            note(End { cell, failure });
        }
        found = places;
    }
    found
}

/// Where time is short, every second cell is tried with one volume, and the others with two.
fn share(cells: &mut Vec<Cell>, layout: Layout, killed: &BTreeSet<String>) {
    let mut is_even = false;
    cells.retain(|cell| {
        is_even = !is_even;
        match (layout, cell.lost) {
            (Layout::OneVolume, Lost::Nothing) => is_even,
            (Layout::OneVolume, lost) => lost == Lost::Everything,
            (Layout::TwoVolumes, _) => !killed.contains(&cell.name()),
        }
    });
}

/// What is tried in one way of starting.
fn cells(way: Way, layout: Layout, places: &[Place]) -> Vec<Cell> {
    let cell = |place: &Place, lost| Cell { program: Program::Entrypoint, way, layout, place: place.clone(), lost };
    let mut places = if is_long() { places.to_vec() } else { one_of_each(places, way as usize) };
    if way == Way::Render && !is_long() {
        // All else is as where the entrypoint itself becomes etcd.
        places.retain(|place| place.point.starts_with("mark-") || place.point.starts_with("hand-over-"));
    }
    let mut cells: Vec<Cell> = places.iter().map(|place| cell(place, Lost::Nothing)).collect();
    if !is_long() {
        let first = |point: &str| Place { point: point.to_owned(), time: 1 };
        let telling = TELLING.iter().filter(|(of, ..)| *of == way);
        cells.extend(telling.map(|(_, point, lost)| cell(&first(point), *lost)));
        return cells;
    }
    let losses = match layout {
        Layout::OneVolume => &[Lost::Everything][..],
        Layout::TwoVolumes => &[Lost::Everything, Lost::Wal, Lost::Data],
    };
    cells.extend(places.iter().flat_map(|place| losses.iter().map(|lost| cell(place, *lost))));
    cells
}

/// Each point once; of those that a start passes several times, as with the journal's, one another time than the next.
fn one_of_each(places: &[Place], offset: usize) -> Vec<Place> {
    let mut passes: BTreeMap<&str, Vec<&Place>> = BTreeMap::new();
    places.iter().for_each(|place| passes.entry(&place.point).or_default().push(place));
    let turn = |(index, passes): (usize, Vec<&Place>)| passes[(index + offset) % passes.len()].clone();
    passes.into_values().enumerate().map(turn).collect()
}

/// A stage on which something went wrong is replaced.
fn kill_once(stage: &mut Stage, cell: &Cell) -> Option<String> {
    for _ in 0..2 {
        match catch_unwind(AssertUnwindSafe(|| stage.crash(&cell.place, cell.lost))) {
            Ok(true) => return None,
            Ok(false) => {}
            Err(panic) => {
                let failure = format!("{}\n{}", why(panic.as_ref()), stage.logs());
                *stage = Stage::new(cell.way, cell.layout);
                stage.places();
                return Some(failure);
            }
        }
    }
    Some("the pod did not come by this place again, in two starts".to_owned())
}

/// What a panic said.
fn why(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

fn report(recorded: &BTreeMap<Way, Vec<Place>>, ends: &[End]) {
    let mut table = Table::default();
    recorded.values().flatten().for_each(|place| table.row(&place.point));
    beside::POINTS.iter().for_each(|point| table.row(point));
    for End { cell, failure } in ends {
        table.note(&cell.name(), (cell.program, cell.way), cell.layout, failure.is_none());
    }
    say(&table.text());
    let failed: Vec<String> =
        ends.iter().filter_map(|end| Some(format!("=== {}\n{}", end.cell, end.failure.as_ref()?))).collect();
    let killed: BTreeSet<&str> = ends.iter().map(|end| points::source_name(&end.cell.place.point)).collect();
    let source = points::in_source();
    let missed: Vec<&String> = source.iter().filter(|name| !killed.contains(name.as_str())).collect();
    assert!(failed.is_empty(), "{} of {} ended badly:\n{}", failed.len(), ends.len(), failed.join("\n"));
    assert!(missed.is_empty(), "no way of starting comes by {missed:?}");
}

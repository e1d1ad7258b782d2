//! The explored graph, and what stateright cannot tell of it: from where the good end can still be reached.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

/// A fast hash of states: multiply and fold.
#[derive(Default)]
pub(crate) struct Fold(u64);

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let word = chunk.iter().fold(chunk.len() as u64, |word, byte| word << 8 | u64::from(*byte));
            self.write_u64(word);
        }
    }
    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }
    fn write_u64(&mut self, word: u64) {
        let wide = u128::from(self.0 ^ word ^ 0x9e37_79b9_7f4a_7c15) * 0xa076_1d64_78bd_642f;
        self.0 = (wide >> 64) as u64 ^ (wide as u64).rotate_left(23);
    }
    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }
    fn finish(&self) -> u64 {
        let mut last = self.0;
        last ^= last >> 32;
        last = last.wrapping_mul(0xd6e8_feb8_6659_fd93);
        last ^ last >> 32
    }
}

pub(crate) fn fingerprint(state: &impl Hash) -> u64 {
    let mut hasher = Fold::default();
    state.hash(&mut hasher);
    hasher.finish()
}

const SHARDS: usize = 64;

/// What is noted while the graph is explored.
pub(crate) struct Graph {
    nodes: Vec<Mutex<Vec<(u64, Mark)>>>,
    edges: Vec<Mutex<Vec<(u64, u64)>>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mark {
    /// The good end.
    Well,
    /// Nobody promises anything here.
    Exempt,
    Other,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) edges: usize,
    pub(crate) well: usize,
    pub(crate) exempt: usize,
    /// From these the good end cannot be reached without another fault.
    pub(crate) stuck: Vec<u64>,
}

impl Graph {
    pub(crate) fn new() -> Self {
        Self {
            nodes: (0..SHARDS).map(|_| Mutex::default()).collect(),
            edges: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    pub(crate) fn node(&self, state: u64, mark: Mark) {
        let shard = &self.nodes[state as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner).push((state, mark));
    }

    pub(crate) fn edge(&self, from: u64, to: u64) {
        let shard = &self.edges[from as usize % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner).push((from, to));
    }

    /// The backward closure of the good end over the edges without faults.
    pub(crate) fn judge(self) -> Verdict {
        let mut index: HashMap<u64, u32, BuildHasherDefault<Fold>> = HashMap::default();
        let mut marks: Vec<Mark> = Vec::new();
        let mut names: Vec<u64> = Vec::new();
        for shard in self.nodes {
            for (state, mark) in shard.into_inner().unwrap_or_else(PoisonError::into_inner) {
                index.entry(state).or_insert_with(|| {
                    marks.push(mark);
                    names.push(state);
                    names.len() as u32 - 1
                });
            }
        }
        let mut edges: Vec<(u32, u32)> = Vec::new();
        for shard in self.edges {
            for (from, to) in shard.into_inner().unwrap_or_else(PoisonError::into_inner) {
                if let (Some(from), Some(to)) = (index.get(&from), index.get(&to)) {
                    edges.push((*to, *from));
                }
            }
        }
        drop(index);
        edges.sort_unstable();
        edges.dedup();
        let mut first = vec![0_usize; marks.len() + 1];
        for (to, _) in &edges {
            first[*to as usize + 1] += 1;
        }
        for at in 1..first.len() {
            first[at] += first[at - 1];
        }
        let mut reaches: Vec<bool> = marks.iter().map(|mark| *mark == Mark::Well).collect();
        let mut todo: Vec<u32> = (0..marks.len() as u32).filter(|at| reaches[*at as usize]).collect();
        let well = todo.len();
        while let Some(at) = todo.pop() {
            for (_, from) in &edges[first[at as usize]..first[at as usize + 1]] {
                if !reaches[*from as usize] {
                    reaches[*from as usize] = true;
                    todo.push(*from);
                }
            }
        }
        let stuck = (0..marks.len()).filter(|at| !reaches[*at] && marks[*at] == Mark::Other).map(|at| names[at]);
        Verdict {
            edges: edges.len(),
            well,
            exempt: marks.iter().filter(|mark| **mark == Mark::Exempt).count(),
            stuck: stuck.collect(),
        }
    }
}

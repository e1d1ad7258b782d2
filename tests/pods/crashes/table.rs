//! The table that the test prints.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::way::{Layout, Program, WAYS, WAYS_OF_A_SIDECAR, Way};

const HEADLINE: &str = "Killed at a failpoint and started again, with one volume (1) or two (2). *: beside etcd. -: not \
                        passed.";

/// How the kills at one point in one way ended.
#[derive(Clone, Debug, Default)]
struct Ends {
    well: BTreeSet<Layout>,
    failed: usize,
}

impl Ends {
    fn text(&self) -> String {
        if self.failed > 0 {
            return format!("FAILED {}", self.failed);
        }
        let layouts: Vec<&str> = self.well.iter().map(|layout| layout.volumes()).collect();
        format!("ok {}", layouts.join("+"))
    }
}

type Column = (Program, Way);

/// The points in the order in which pods come by, and how their kills ended.
#[derive(Default)]
pub(super) struct Table {
    rows: Vec<String>,
    ends: BTreeMap<(String, Column), Ends>,
}

impl Table {
    /// Gives it a row.
    pub(super) fn row(&mut self, name: &str) {
        if !self.rows.iter().any(|known| known == name) {
            self.rows.push(name.to_owned());
        }
    }

    pub(super) fn note(&mut self, row: &str, column: Column, layout: Layout, is_well: bool) {
        self.row(row);
        let ends = self.ends.entry((row.to_owned(), column)).or_default();
        if is_well {
            ends.well.insert(layout);
        } else {
            ends.failed += 1;
        }
    }

    pub(super) fn text(&self) -> String {
        let of = |program| move |way| (program, way);
        let columns = WAYS.into_iter().map(of(Program::Entrypoint));
        let columns: Vec<Column> = columns.chain(WAYS_OF_A_SIDECAR.into_iter().map(of(Program::Sidecar))).collect();
        let width = self.rows.iter().map(String::len).max().unwrap_or_default();
        let mut text = format!("\n{HEADLINE}\n{:width$}", "");
        for (program, way) in &columns {
            let star = if *program == Program::Sidecar { "*" } else { "" };
            write!(text, "  {:<8}", format!("{way}{star}")).unwrap();
        }
        for row in &self.rows {
            write!(text, "\n{row:width$}").unwrap();
            for column in &columns {
                let ends = self.ends.get(&(row.clone(), *column)).map_or("-".to_owned(), Ends::text);
                write!(text, "  {ends:<8}").unwrap();
            }
        }
        text + "\n"
    }
}

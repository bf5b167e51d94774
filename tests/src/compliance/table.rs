//! The table: a line for each case, a column for each scheduler, and the reasons below.

use std::fmt::{self, Display, Formatter};

/// The result of a case with a scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    Passed,
    /// With the reason.
    NotPossible(String),
    /// With what was observed.
    Failed(String),
}

/// The results of every case with every scheduler.
#[derive(Debug)]
pub struct Table {
    schedulers: Vec<String>,
    cases: Vec<&'static str>,
    cells: Vec<Vec<Option<Cell>>>,
}

impl Table {
    pub(super) fn new(schedulers: &[&str], cases: impl Iterator<Item = &'static str>) -> Self {
        let cases: Vec<_> = cases.collect();
        let schedulers: Vec<String> = schedulers.iter().map(|name| (*name).to_owned()).collect();
        let cells = vec![vec![None; schedulers.len()]; cases.len()];
        Table { schedulers, cases, cells }
    }

    pub(super) fn set(&mut self, case: usize, scheduler: usize, cell: Cell) {
        self.cells[case][scheduler] = Some(cell);
    }

    /// How many did not pass, including those that never ran.
    pub fn failed(&self) -> usize {
        let bad = |cell: &&Option<Cell>| matches!(cell, None | Some(Cell::Failed(_)));
        self.cells.iter().flatten().filter(bad).count()
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut reasons: Vec<String> = Vec::new();
        write!(f, "\n{:58}", "")?;
        for name in &self.schedulers {
            write!(f, " {name:>16}")?;
        }
        for (case, row) in self.cases.iter().zip(&self.cells) {
            write!(f, "\n{case:58}")?;
            for cell in row {
                let word = match cell {
                    Some(Cell::Passed) => "passed".to_owned(),
                    Some(Cell::NotPossible(why)) => {
                        let known = reasons.iter().position(|reason| reason == why);
                        let at = known.unwrap_or_else(|| {
                            reasons.push(why.clone());
                            reasons.len() - 1
                        });
                        format!("not possible [{}]", at + 1)
                    }
                    Some(Cell::Failed(_)) => "FAILED".to_owned(),
                    None => "NOT RUN".to_owned(),
                };
                write!(f, " {word:>16}")?;
            }
        }
        writeln!(f)?;
        for (at, reason) in reasons.iter().enumerate() {
            write!(f, "\n[{}] {reason}", at + 1)?;
        }
        let count = |wanted: fn(&Cell) -> bool| {
            self.cells.iter().flatten().flatten().filter(|cell| wanted(cell)).count()
        };
        // Ends like the usual harness, so that a program that adds up its lines counts these as
        // well.
        write!(
            f,
            "\n\ntest result: {}. {} passed; {} failed; 0 ignored; {} not possible",
            if self.failed() == 0 { "ok" } else { "FAILED" },
            count(|cell| *cell == Cell::Passed),
            self.failed(),
            count(|cell| matches!(cell, Cell::NotPossible(_))),
        )
    }
}

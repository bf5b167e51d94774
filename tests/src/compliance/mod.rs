//! One suite for all schedulers: each case runs with each of them, and a table shows what passed.
//!
//! `tests/tests/compliance.rs` runs it with its own clusters, `nunbird-compliance` with a site's
//! scheduler. A case ends as passed, as failed, or as not possible there, with the reason; the
//! table shows all of them, so that nothing is skipped silently.

mod cancels;
mod ends;
mod faults;
mod queues;
mod restarts;
mod support;
mod table;
mod wraps;

use crate::fake::Dialect;
use crate::scheduler::{Cluster, Fake, GridEngine, HtCondor, Possible, Site, Slurm};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use support::Case;
use table::Cell;
pub use table::Table;

/// Where cases run.
#[derive(Debug, Clone)]
pub enum Place {
    /// A shared Slurm, and a private one for a case that breaks it.
    Slurm(Arc<Slurm>),
    /// The same with Grid Engine.
    GridEngine(Arc<GridEngine>),
    /// The same with HTCondor.
    HtCondor(Arc<HtCondor>),
    /// A private fake for each case.
    Fake(Dialect),
    /// The fake of LSF with OpenLava's commands.
    OpenLava,
    /// The site's.
    Site(Arc<Site>),
}

thread_local! {
    /// Where the last panic of this thread occurred, and its message.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The names of all cases.
pub fn names() -> Vec<&'static str> {
    all().iter().map(|case| case.name).collect()
}

fn all() -> Vec<Case> {
    [ends::CASES, cancels::CASES, queues::CASES, restarts::CASES, faults::CASES, wraps::CASES].concat()
}

/// Runs the cases whose names contain one of `parts`, or all, with each of the schedulers, this
/// many at once.
pub fn run(places: &[(String, Place)], parts: &[String], at_once: usize) -> Table {
    let mut cases = all();
    cases.retain(|case| parts.is_empty() || parts.iter().any(|part| case.name.contains(part.as_str())));
    // A scheduler that does not start reports it itself; later panics become lines of the table.
    std::panic::set_hook(Box::new(|info| PANIC.with(|last| drop(last.replace(info.to_string())))));
    let names: Vec<&str> = places.iter().map(|(name, _)| name.as_str()).collect();
    let mut table = Table::new(&names, cases.iter().map(|case| case.name));
    // First those that start daemons: they take longest.
    let mut work: Vec<(usize, usize)> =
        (0..cases.len()).flat_map(|case| (0..places.len()).map(move |place| (case, place))).collect();
    work.sort_by_key(|(case, place)| {
        !(cases[*case].alone
            && matches!(places[*place].1, Place::Slurm(_) | Place::GridEngine(_) | Place::HtCondor(_)))
    });
    let work = Mutex::new(VecDeque::from(work));
    let cells = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_once.max(1) {
            scope.spawn(|| {
                while let Some((case, place)) = next(&work) {
                    let cell = run_one(&cases[case], &places[place].1);
                    if let Cell::Failed(why) = &cell {
                        eprintln!("FAILED {} / {}\n{why}\n", places[place].0, cases[case].name);
                    }
                    cells.lock().unwrap_or_else(PoisonError::into_inner).push((case, place, cell));
                }
            });
        }
    });
    for (case, place, cell) in cells.into_inner().unwrap_or_else(PoisonError::into_inner) {
        table.set(case, place, cell);
    }
    table
}

fn next(work: &Mutex<VecDeque<(usize, usize)>>) -> Option<(usize, usize)> {
    if crate::scheduler::is_interrupted() {
        return None;
    }
    work.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

fn run_one(case: &Case, place: &Place) -> Cell {
    let result = catch_unwind(AssertUnwindSafe(|| -> Possible<()> {
        match place {
            Place::Slurm(slurm) if case.alone => (case.run)(&slurm.another()),
            Place::Slurm(slurm) => (case.run)(slurm.as_ref() as &dyn Cluster),
            Place::GridEngine(_) if case.alone => (case.run)(&GridEngine::start()),
            Place::GridEngine(engine) => (case.run)(engine.as_ref() as &dyn Cluster),
            Place::HtCondor(_) if case.alone => (case.run)(&HtCondor::start()),
            Place::HtCondor(pool) => (case.run)(pool.as_ref() as &dyn Cluster),
            Place::Fake(dialect) => (case.run)(&Fake::start(*dialect)),
            Place::OpenLava => (case.run)(&Fake::start_openlava()),
            Place::Site(site) => (case.run)(site.as_ref()),
        }
    }));
    match result {
        Ok(Ok(())) => Cell::Passed,
        Ok(Err(why)) => Cell::NotPossible(why),
        Err(_) => Cell::Failed(PANIC.with(|last| last.borrow().clone())),
    }
}

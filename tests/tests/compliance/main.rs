//! One suite for all schedulers: each case runs before each of them, and a table tells what passed.
//!
//! `SCHEDULER` names one or several, with commas: `slurm` and `fake-…` have clusters of their own and need root,
//! and so has `gridengine` when root asks; any other name, and `gridengine` for anybody else, is a site's real scheduler,
//! whose commands are in `PATH` and which runs the jobs of the caller's own account. Arguments choose cases by a part
//! of their names. A case ends as passed, as failed, or as not possible there, with the reason; the table shows all of
//! them, so that nothing is left out without a word.

#![forbid(unsafe_code)]

mod cancels;
mod ends;
mod faults;
mod queues;
mod restarts;
mod support;
mod table;

use nunbird_tests::fake::Dialect;
use nunbird_tests::scheduler::{Cluster, Fake, GridEngine, Possible, Site, Slurm};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use support::Case;
use table::{Cell, Table};

/// Cases at once: they wait for schedulers, and some of these are slow to start.
const WORKERS: usize = 16;

/// Where cases run.
#[derive(Clone)]
enum Place {
    /// A Slurm that others use, too, and one of its own for a case that breaks it.
    Slurm(Arc<Slurm>),
    /// The same with Grid Engine.
    GridEngine(Arc<GridEngine>),
    /// A fake of its own for each case.
    Fake(Dialect),
    /// The fake of LSF with OpenLava's commands.
    OpenLava,
    /// The site's.
    Site(Arc<Site>),
}

thread_local! {
    /// Where the last panic of this thread was, and what it said.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

fn main() -> ExitCode {
    let parts: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .filter(|word| !word.starts_with('-'))
        .collect();
    let wanted = std::env::var_os("SCHEDULER")
        .map_or_else(default_schedulers, |names| names.to_string_lossy().into_owned());
    let mut cases: Vec<Case> =
        [ends::CASES, cancels::CASES, queues::CASES, restarts::CASES, faults::CASES].concat();
    cases.retain(|case| parts.is_empty() || parts.iter().any(|part| case.name.contains(part.as_str())));
    let names: Vec<&str> = wanted.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let private = names.iter().any(|name| *name == "slurm" || name.starts_with("fake-"));
    if cases.is_empty() || (private && !nunbird_tests::require_root()) {
        return ExitCode::SUCCESS;
    }
    let places: Vec<(String, Place)> = names.iter().map(|name| ((*name).to_owned(), place(name))).collect();
    // What does not start says so itself; later, panics are lines of the table.
    std::panic::set_hook(Box::new(|info| PANIC.with(|last| drop(last.replace(info.to_string())))));
    let mut table = Table::new(&names, cases.iter().map(|case| case.name));
    // Those that start daemons first: they take longest.
    let mut work: Vec<(usize, usize)> =
        (0..cases.len()).flat_map(|case| (0..places.len()).map(move |place| (case, place))).collect();
    work.sort_by_key(|(case, place)| {
        !(cases[*case].alone && matches!(places[*place].1, Place::Slurm(_) | Place::GridEngine(_)))
    });
    let work = Mutex::new(VecDeque::from(work));
    let cells = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some((case, place)) = next(&work) {
                    let cell = run(&cases[case], &places[place].1);
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
    println!("{table}");
    if table.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// All that can run here.
fn default_schedulers() -> String {
    let fakes = Dialect::ALL.map(|dialect| format!("fake-{}", dialect.name()));
    format!("slurm,gridengine,{},fake-openlava", fakes.join(","))
}

fn next(work: &Mutex<VecDeque<(usize, usize)>>) -> Option<(usize, usize)> {
    work.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
}

fn place(name: &str) -> Place {
    let fake = Dialect::ALL.into_iter().find(|dialect| name.strip_prefix("fake-") == Some(dialect.name()));
    match (name, fake) {
        ("slurm", _) => Place::Slurm(Slurm::shared()),
        // Root cannot run jobs at a site: the launcher refuses it.
        ("gridengine", _) if nix::unistd::geteuid().is_root() => Place::GridEngine(GridEngine::shared()),
        ("fake-openlava", _) => Place::OpenLava,
        (_, Some(dialect)) => Place::Fake(dialect),
        (name, None) => Place::Site(Arc::new(Site::new(name))),
    }
}

fn run(case: &Case, place: &Place) -> Cell {
    let result = catch_unwind(AssertUnwindSafe(|| -> Possible<()> {
        match place {
            Place::Slurm(_) if case.alone => (case.run)(&Slurm::start()),
            Place::Slurm(slurm) => (case.run)(slurm.as_ref() as &dyn Cluster),
            Place::GridEngine(_) if case.alone => (case.run)(&GridEngine::start()),
            Place::GridEngine(engine) => (case.run)(engine.as_ref() as &dyn Cluster),
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

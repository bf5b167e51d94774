//! The compliance suite before clusters of its own. `SCHEDULER` names one or several, with commas: `slurm`, `gridengine` and `fake-…`, all
//! as root; arguments choose cases by a part of their names. A site's own scheduler is `nunbird-compliance`'s.

#![forbid(unsafe_code)]

use nunbird_tests::compliance::{Place, run};
use nunbird_tests::fake::Dialect;
use nunbird_tests::scheduler::{GridEngine, Slurm};
use std::process::ExitCode;

/// Cases at once: they wait for schedulers, and some of these are slow to start.
const AT_ONCE: usize = 16;

fn main() -> ExitCode {
    let parts: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .filter(|word| !word.starts_with('-'))
        .collect();
    let wanted = std::env::var_os("SCHEDULER").map_or_else(all, |names| names.to_string_lossy().into_owned());
    if !nunbird_tests::require_root() {
        return ExitCode::SUCCESS;
    }
    let names = wanted.split(',').map(str::trim).filter(|name| !name.is_empty());
    let places: Vec<(String, Place)> = names.map(|name| (name.to_owned(), place(name))).collect();
    let table = run(&places, &parts, AT_ONCE);
    println!("{table}");
    if table.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// All that can run here.
fn all() -> String {
    let fakes = Dialect::ALL.map(|dialect| format!("fake-{}", dialect.name()));
    format!("slurm,gridengine,{},fake-openlava", fakes.join(","))
}

fn place(name: &str) -> Place {
    let fake = Dialect::ALL.into_iter().find(|dialect| name.strip_prefix("fake-") == Some(dialect.name()));
    match (name, fake) {
        ("slurm", _) => Place::Slurm(Slurm::shared()),
        ("gridengine", _) => Place::GridEngine(GridEngine::shared()),
        ("fake-openlava", _) => Place::OpenLava,
        (_, Some(dialect)) => Place::Fake(dialect),
        (name, None) => {
            panic!("SCHEDULER={name}: not one of {}; a site's own scheduler is for nunbird-compliance", all())
        }
    }
}

//! The compliance suite with its own clusters. `SCHEDULER` names one or several, separated by
//! commas: `slurm`, `gridengine` and `fake-…`, and `slurm-trixie`, `slurm-sid` and
//! `htcondor-trixie` from trees of newer Debian releases; or `usual`, those of `make test`, or
//! `every`, all. All as root; arguments select cases by a part of their names. `nunbird-compliance`
//! tests a site's own scheduler.

#![forbid(unsafe_code)]

use nunbird_tests::compliance::{Place, run};
use nunbird_tests::fake::Dialect;
use nunbird_tests::scheduler::{GridEngine, HtCondor, Release, Slurm};
use std::process::ExitCode;
use std::sync::Arc;

/// Cases at once: they wait for schedulers, and some of these are slow to start.
const AT_ONCE: usize = 16;

fn main() -> ExitCode {
    let parts: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .filter(|word| !word.starts_with('-'))
        .collect();
    let wanted = std::env::var_os("SCHEDULER").map(|names| names.to_string_lossy().into_owned());
    let wanted = match wanted.as_deref() {
        None | Some("usual") => usual(),
        Some("every") => every(),
        Some(names) => names.to_owned(),
    };
    if !nunbird_tests::require_root() {
        return ExitCode::SUCCESS;
    }
    let names = wanted.split(',').map(str::trim).filter(|name| !name.is_empty());
    let places: Vec<(String, Place)> = names.map(|name| (name.to_owned(), place(name))).collect();
    let table = run(&places, &parts, AT_ONCE);
    println!("{table}");
    if table.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What is a part of `make test`.
fn usual() -> String {
    let fakes = Dialect::ALL.map(|dialect| format!("fake-{}", dialect.name()));
    format!("slurm,slurm-trixie,gridengine,{},fake-openlava", fakes.join(","))
}

/// All that can run here.
fn every() -> String {
    format!("{},slurm-sid,htcondor-trixie", usual())
}

/// A Slurm of another release than the host's, with this prefix of its version.
fn newer(release: Release, version: &str) -> Place {
    let slurm = Slurm::start_release(release);
    let own = slurm.version();
    assert!(own.contains(version), "{release:?}: {own}");
    // The next run starts from the same tree.
    let written = slurm.admin("touch /usr/nbt /etc/nbt 2>&1 || true");
    assert_eq!(written.matches("Read-only file system").count(), 2, "{release:?}: {written}");
    eprintln!("{release:?}: {own}");
    Place::Slurm(Arc::new(slurm))
}

fn place(name: &str) -> Place {
    let fake = Dialect::ALL.into_iter().find(|dialect| name.strip_prefix("fake-") == Some(dialect.name()));
    match (name, fake) {
        ("slurm", _) => Place::Slurm(Slurm::shared()),
        ("slurm-trixie", _) => newer(Release::Trixie, " 24.11."),
        ("slurm-sid", _) => newer(Release::Sid, " "),
        ("htcondor-trixie", _) => {
            let pool = HtCondor::start();
            eprintln!("Trixie: {}", pool.version());
            Place::HtCondor(Arc::new(pool))
        }
        ("gridengine", _) => Place::GridEngine(GridEngine::shared()),
        ("fake-openlava", _) => Place::OpenLava,
        (_, Some(dialect)) => Place::Fake(dialect),
        (name, None) => {
            panic!(
                "SCHEDULER={name}: not `usual`, `every` or one of {}; a site's own scheduler is for nunbird-compliance",
                every()
            )
        }
    }
}

//! Tests of what the privileged program does in forked children, each in a process of its own with one thread.
//!
//! `cargo test -p nunbird-auth --test alone [PART_OF_A_NAME]`. Each test runs once for every way to hold privilege, in a mount
//! namespace where the user database is the test's: see `machine.rs`.

#![forbid(unsafe_code)]
#![allow(dead_code, unused_imports, reason = "modules of the program, of which these tests call a part")]

#[path = "../../src/privilege.rs"]
mod privilege;
#[path = "../../src/sandbox.rs"]
mod sandbox;

mod authorized_projects_tests;
mod machine;
mod sandbox_tests;
mod validation_tests;

use machine::{Machine, Mode};
use nunbird_judge::{authorized_projects, refusal, validation};
use nunbird_sys::fork::{Ended, fork_into};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// A test and its name.
type Test = (&'static str, fn(&Machine));

fn main() -> ExitCode {
    if !nunbird_skip::require_root() {
        return ExitCode::SUCCESS;
    }
    let moved = machine::beside_the_programs();
    // The children change ids and mounts.
    nunbird_skip::open_list();
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let wanted = words.into_iter().find(|word| !word.starts_with('-')).unwrap_or_default();
    let tests: Vec<Test> =
        [validation_tests::ALL, authorized_projects_tests::ALL, sandbox_tests::ALL].concat();
    let (mut run, mut failed) = (0, 0);
    for (name, test) in tests.into_iter().filter(|(name, _)| name.contains(&wanted)) {
        for mode in Mode::ALL {
            let passed = passes(mode, test);
            println!("test {name} ({mode:?}) ... {}", if passed { "ok" } else { "FAILED" });
            run += 1;
            failed += u32::from(!passed);
        }
    }
    println!(
        "\ntest result: {}. {} passed; {failed} failed",
        if failed == 0 { "ok" } else { "FAILED" },
        run - failed
    );
    if let Some(directory) = moved {
        std::fs::remove_dir_all(directory).expect("removed");
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a test in a child, whose ids and mounts are nobody else's.
fn passes(mode: Mode, test: fn(&Machine)) -> bool {
    let directory = machine::directory();
    let body = || {
        let run = AssertUnwindSafe(|| test(&Machine::enter(&directory, mode)));
        i32::from(catch_unwind(run).is_err())
    };
    let ended = fork_into(body).expect("a child").wait().expect("an end");
    std::fs::remove_dir_all(&directory).expect("removed");
    ended == Ended::Exited(0)
}

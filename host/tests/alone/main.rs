//! Tests of what the host is asked, each in a process of its own with one thread, as root, in a mount namespace whose user database and
//! directories of root's are the test's: see `machine.rs`.
//!
//! `cargo test -p nunbird-host --test alone [PART_OF_A_NAME]`.

#![forbid(unsafe_code)]

mod floor;
mod keys;
mod machine;
mod own_file;
mod people;
mod places;

use nunbird_sys::fork::{Ended, fork_into};
use std::panic::catch_unwind;
use std::process::ExitCode;

/// A test and its name.
type Test = (&'static str, fn());

fn main() -> ExitCode {
    if !nunbird_skip::require_root() {
        return ExitCode::SUCCESS;
    }
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let wanted = words.into_iter().find(|word| !word.starts_with('-')).unwrap_or_default();
    let tests: Vec<Test> = [floor::ALL, keys::ALL, own_file::ALL, people::ALL, places::ALL].concat();
    let (mut run, mut failed) = (0, 0);
    for (name, test) in tests.into_iter().filter(|(name, _)| name.contains(&wanted)) {
        let passed = passes(test);
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        run += 1;
        failed += u32::from(!passed);
    }
    let result = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {result}. {} passed; {failed} failed", run - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a test in a child, whose ids and mounts end with it.
fn passes(test: fn()) -> bool {
    let body = || {
        let run = || {
            machine::enter();
            test();
        };
        i32::from(catch_unwind(run).is_err())
    };
    fork_into(body).expect("a child").wait().expect("an end") == Ended::Exited(0)
}

//! Enters a test's private system and becomes the program under test: see `world::enter`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    nunbird_tests::world::enter::main()
}

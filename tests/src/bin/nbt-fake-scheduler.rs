//! The commands of the fake schedulers, and the processes that run their jobs: see `nunbird_tests::fake`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    nunbird_tests::fake::main()
}

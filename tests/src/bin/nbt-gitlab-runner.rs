//! The `gitlab-runner` on a job's PATH: see `runner::helper`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    nunbird_tests::runner::helper::main()
}

//! The runner's service in a systemd host of the tests: see `host::service`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    nunbird_tests::host::service::main()
}

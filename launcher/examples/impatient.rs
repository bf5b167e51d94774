//! The launcher with short timeouts: tests of cancelling run it to avoid waiting half a minute
//! each.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let timeouts = nunbird::Timeouts {
        grace: Duration::from_millis(1500),
        repeat: Duration::from_millis(300),
        abandon: Duration::from_secs(5),
        ..nunbird::Timeouts::default()
    };
    nunbird::main(std::env::args_os().skip(1), timeouts)
}

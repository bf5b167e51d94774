//! `nunbird-keys`: the command line of [`nunbird_keys`], and the exit status.

#![forbid(unsafe_code)]

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    match nunbird_keys::run(nunbird_keys::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            trouble.report();
            ExitCode::from(trouble.exit_code())
        }
    }
}

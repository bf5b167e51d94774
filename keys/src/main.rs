//! `nunbird-keys`: fetches the signing keys of the configured GitLab servers.
//!
//! Runs as the system user `nunbird` from a timer, and for a moment when `nunbird-auth` meets a token that no
//! known key signed; as the user itself for `downscope = "none"`. The only program of Nunbird that speaks to the
//! network. It never runs as root's errand with root's rights: what it writes is judged again by whoever reads it.

#![forbid(unsafe_code)]

mod commands;
mod fetch;
mod jwks;
mod list;
mod store;
mod trouble;

use clap::Parser;
use commands::Cli;
use nunbird_handover::Untrusted;
use std::process::ExitCode;

fn main() -> ExitCode {
    match commands::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            for line in trouble.to_string().lines() {
                eprintln!("nunbird-keys: error: {}", Untrusted(line));
            }
            ExitCode::from(trouble.exit_code())
        }
    }
}

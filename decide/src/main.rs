//! `nunbird-decide`: whether a job may run, and as whom.
//!
//! Started by `nunbird-auth` alone, twice for each job, without any privilege: the decider reads the configuration of root's and judges; the
//! verifier (`nunbird-decide verify`) reads what strangers wrote. Neither can open a file. The decider asks `nunbird-auth` for what takes
//! privilege (crate `requests`), and the verifier for what takes strangers' bytes (`judge::questions`). docs/adr/0019 has the reasons.
//!
//! Any error is a refusal, and so is the end of either.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod admission;
mod call;
mod card;
mod denials;
mod events;
mod images;
mod limits;
mod means;
mod monitor;
mod sandbox;
mod settings;
mod stage;
mod tidying;
mod verifier;

use std::process::ExitCode;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|_| {
        nunbird_host::refusal::print_error("nunbird: error: internal error [panic]\n");
    }));
    drop(nunbird_sys::environment::take());
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    match words.as_slice() {
        [] => call::serve(),
        [word] if word == "verify" => verifier::serve(),
        _ => ExitCode::FAILURE,
    }
}

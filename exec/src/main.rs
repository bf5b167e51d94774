//! `nunbird-exec`, which `nunbird exec` starts; see the library beside it.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(nunbird_exec::main(std::env::args_os().skip(1)))
}

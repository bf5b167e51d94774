//! `nunbird`, the launcher. Started by `nunbird-auth` as the mapped user; see the library beside it.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    nunbird::main(std::env::args_os().skip(1), nunbird::Timeouts::default())
}

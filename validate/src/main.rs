//! See the library: this is its only caller.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::process::ExitCode;

fn main() -> ExitCode {
    // Its outputs go nowhere: the report is all that it says.
    std::panic::set_hook(Box::new(|_| {}));
    drop(nunbird_sys::environment::take());
    match nunbird_validate::serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

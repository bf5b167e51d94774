//! `nunbird-session`: opens a PAM session, runs a stage's launcher in it as the user, and closes it.
//!
//! Started by `nunbird-auth` alone, with uid 0, an empty environment and open files (`messages/src/fds.rs`), where the policy
//! has a `[pam]` table. Mode 0700, and no use to anybody but root: it takes no arguments and does what the order behind
//! descriptor 3 orders, which has been decided by then. docs/adr/0010 has the reasons, docs/operation.md the steps.
//!
//! Two processes. This one links libpam and never calls it: it waits for the other, which does, with a limit of time, and
//! reports what became of it. Where one session serves the whole job these two go on by themselves, and a third passes each
//! stage to them (`client.rs`, `keeper.rs`; docs/adr/0013). Any error means that the stage does not run.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod client;
mod group;
mod keeper;
mod launcher;
mod order;
mod outputs;
mod pam;
mod passed;
mod stage;
mod supervisor;
mod trouble;
mod variables;
mod voice;

use nunbird_messages::{ExitCodes, Untrusted};
use nunbird_sys::kernel::{Kernel, Linux};
use nunbird_sys::process;
use nunbird_sys::rlimits::{self, Limits};
use order::Inherited;
use std::io::{self, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|_| print_error("nunbird-session: internal error\n")));
    // Before anything is opened: the descriptors are known by their numbers.
    let inherited = Inherited::take();
    match begin().and_then(|limits| Ok((inherited?, limits))) {
        Ok((inherited, limits)) => ExitCode::from(match inherited.order.keep.clone() {
            None => supervisor::run(inherited, limits),
            Some(keep) => client::run(inherited, limits, &keep),
        }),
        Err(why) => {
            print_error(&format!("nunbird-session: {}\n", Untrusted(&why)));
            ExitCode::from(ExitCodes::default().system_failure)
        }
    }
}

/// Refuses every start but one as root and without arguments, and puts the process in order. The limits are those that the job would have without PAM.
fn begin() -> Result<Limits, String> {
    let failed = |e: io::Error| format!("the process cannot be put in order: {e}");
    let root = Linux.uids().map_err(failed)? == [0; 3] && Linux.gids().map_err(failed)? == [0; 3];
    if !root || std::env::args_os().len() > 1 {
        return Err("only nunbird-auth starts this program, as root and without arguments".to_owned());
    }
    drop(nunbird_sys::environment::take());
    let order = || {
        process::default_signals()?;
        process::ignore_failed_writes();
        process::forbid_inspection()?;
        process::set_umask(0o077);
        std::env::set_current_dir("/")?;
        rlimits::raise_limits()
    };
    order().map_err(failed)
}

/// Nobody may be left to read it.
fn print_error(text: &str) {
    let _unheard = io::stderr().write_all(text.as_bytes());
}

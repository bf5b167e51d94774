//! The shepherd: what stays of `nunbird-auth` while a runner that is not root has a job.
//!
//! A runner's account may not signal the user's processes, so a cancelled job would run on. The shepherd
//! keeps the runner's real uid, which lets the runner signal it, and the user's effective uid, which lets it
//! signal the job and nothing else. It holds no capability, reads nothing, and passes signals down and the
//! exit status up. Its death, however it comes, reaches the launcher as `TERM`.

use crate::context::Context;
use crate::launch::killed;
use crate::refusal::Refusal;
use crate::surrender;
use nunbird_sys::fork::{Child, Ended};
use nunbird_sys::kernel::Linux;
use nunbird_sys::process;
use nunbird_sys::signals::{self, Waiter};
use std::io::{PipeWriter, Write};

/// Signals that the shepherd waits for: all but `CHLD` go on to the launcher.
pub(crate) const HEEDED: [i32; 7] =
    [signals::CHLD, signals::HUP, signals::INT, signals::QUIT, signals::TERM, signals::USR1, signals::USR2];

/// Gives up all privilege but to signal the job, and waits for its end.
///
/// # Errors
/// A system refusal when the privilege could not be given up, after ending the job, or when the launcher was killed.
pub(crate) fn watch(
    child: &Child,
    waiter: &Waiter,
    mut release: PipeWriter,
    context: &Context<'_>,
    user: u32,
) -> Result<u8, Refusal> {
    let caller = context.privilege.caller;
    let failed = |detail: &dyn std::fmt::Display| {
        // The child waits to be released, so it has run nothing yet.
        let _gone = child.kill_as(user);
        Refusal::system("shepherd", "the job cannot be watched on this host", detail)
    };
    surrender::become_shepherd(&mut Linux, caller.uid, caller.gid, user).map_err(|e| failed(&e))?;
    process::forbid_inspection().map_err(|e| failed(&e))?;
    process::no_new_privileges().map_err(|e| failed(&e))?;
    release.write_all(b"!").map_err(|e| failed(&e))?;
    drop(release);
    loop {
        let signal = waiter.next().map_err(|e| failed(&e))?;
        if signal != signals::CHLD {
            // It may have ended this very moment; the next CHLD tells.
            let _gone = child.signal(signal);
            // A user may have stopped the launcher, which then heeds nothing else.
            let _gone = child.signal(signals::CONT);
        }
        match child.poll().map_err(|e| failed(&e))? {
            None => {}
            Some(Ended::Exited(code)) => {
                return Ok(u8::try_from(code).unwrap_or(context.inputs.exit_codes.system_failure));
            }
            Some(Ended::Killed(signal)) => return Err(killed(signal)),
        }
    }
}

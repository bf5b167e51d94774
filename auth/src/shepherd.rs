//! The shepherd: what stays of `nunbird-auth` while a stage runs, under every runner.
//!
//! A runner's account may not signal the user's processes, so a cancelled job would run on; and the launcher is the user's,
//! so another process has to report its end. The shepherd keeps the runner's real uid, which lets the runner signal it,
//! and the user's effective uid, which lets it signal the job and nothing else. Under a root runner, which may signal
//! anybody, its real uid is one that no account has, so that root cannot be had back. It holds no capability, reads
//! nothing, and passes signals down and the exit status up. Its death, however it comes, reaches the launcher as `TERM`, and so does the
//! runner's: one that was killed cancels nothing any more, and GitLab may start the job again beside this one.

use crate::context::Context;
use crate::privilege::{NOBODY_AT_ALL, Privilege, Source};
use crate::refusal::{Code, Refusal};
use crate::sandbox;
use nunbird_surrender::{self as surrender, Failure};
use nunbird_sys::fork::{Child, Ended};
use nunbird_sys::kernel::Linux;
use nunbird_sys::memory::OwnProgram;
use nunbird_sys::signals::{self, Waiter};
use nunbird_sys::{answer, process};
use std::io::{self, PipeWriter, Write};
use std::time::{Duration, Instant};

/// Signals that the shepherd waits for: all but `CHLD` and [`PARENT_ENDED`] go on to the launcher.
pub(crate) const HEEDED: [i32; 8] = [
    signals::CHLD,
    signals::HUP,
    signals::INT,
    signals::QUIT,
    signals::TERM,
    signals::USR1,
    signals::USR2,
    PARENT_ENDED,
];
/// What the kernel sends at the runner's end. Nothing else sends it to a process without a terminal.
const PARENT_ENDED: i32 = signals::PWR;

/// How long a child may take to become the user: longer than systemd may take to make a scope for it.
const ON_ITS_WAY: Duration = Duration::from_secs(12);
/// Between two looks at whether it has.
const GLANCE: Duration = Duration::from_millis(5);
/// Real and saved ids under a root runner. Not the verifiers': one that was taken over must not be in a place to signal
/// a shepherd.
const NO_ACCOUNT: u32 = NOBODY_AT_ALL - 1;

/// Gives up all privilege but to signal the job, and waits for its end.
///
/// # Errors
/// A system refusal when the privilege could not be given up, after ending the job.
pub(crate) fn watch(
    child: &Child,
    waiter: &Waiter,
    mut reach: Reach,
    context: &Context<'_>,
    user: u32,
) -> Result<Ended, Refusal> {
    let (privilege, runner) = (context.privilege, context.inputs.caller);
    let program = OwnProgram::look();
    // Step 37.
    let released = become_shepherd(privilege, user).map_err(|e| e.to_string()).and_then(|()| {
        // After the last change of ids, which undoes it where fs.suid_dumpable is 1.
        process::forbid_inspection()
            // Step 37b.
            .and_then(|()| process::signal_at_parents_end(PARENT_ENDED))
            // Step 37a.
            .and_then(|()| sandbox::watch_only(child.pid()))
            .and_then(|()| reach.release())
            .map_err(|e| e.to_string())
    });
    if let Err(detail) = released {
        // The child waits to be released, so it has run nothing yet. One of root's sees the pipe end.
        let _gone = child.kill_as(user);
        return Err(failed(&detail));
    }
    // It waits as long as the stage lasts.
    program.give_back();
    // It may have ended before the request for its signal.
    let mut runs = true;
    loop {
        if runs && process::parent() != runner {
            runs = false;
            reach.pass(child, signals::TERM);
        }
        // Step 38.
        let signal = waiter.next().map_err(|e| failed(&e))?;
        if !matches!(signal, signals::CHLD | PARENT_ENDED) {
            reach.pass(child, signal);
        }
        if let Some(ended) = child.poll().map_err(|e| failed(&e))? {
            return Ok(ended);
        }
    }
}

fn failed(detail: &dyn std::fmt::Display) -> Refusal {
    Refusal::system(Code::Shepherd, "the job cannot be watched on this host", detail)
}

/// How the shepherd reaches its child. Either way the child waits for a first byte from the pipe.
#[derive(Debug)]
pub(crate) enum Reach {
    /// The child is the user's: by kill(2). The pipe is closed behind the byte.
    Signals(Option<PipeWriter>),
    /// The child is root's, `nunbird-session`: by the numbers of signals in the pipe, whose end is the shepherd's.
    Pipe(PipeWriter),
}

impl Reach {
    pub(crate) fn release(&mut self) -> io::Result<()> {
        match self {
            Reach::Signals(pipe) => pipe.take().map_or(Ok(()), |mut pipe| pipe.write_all(b"!")),
            Reach::Pipe(pipe) => {
                match pipe.write_all(b"!") {
                    // It has ended already: its exit status is a better report than the broken pipe.
                    Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
                    other => other?,
                }
                // A runner that sends signals without end must not stop the shepherd.
                answer::never_wait(pipe)
            }
        }
    }

    pub(crate) fn pass(&mut self, child: &Child, signal: i32) {
        match self {
            Reach::Signals(_) => {
                let deadline = Instant::now() + ON_ITS_WAY;
                // It is root's until it is the user's, which takes as long as systemd does where it makes a scope.
                while child.signal(signal).is_err_and(|e| e.kind() == io::ErrorKind::PermissionDenied)
                    && !child.is_over()
                    && Instant::now() < deadline
                {
                    std::thread::sleep(GLANCE);
                }
                // It may have ended this very moment; the next CHLD shows it.
                // A user may have stopped the launcher, which then heeds nothing else.
                let _gone = child.signal(signals::CONT);
            }
            Reach::Pipe(pipe) => {
                // As above: it may have ended, and 64 KiB of signals before this one do.
                let _gone = pipe.write_all(&[signal.to_le_bytes()[0]]);
            }
        }
    }
}

fn become_shepherd(privilege: Privilege, user: u32) -> Result<(), Failure> {
    let caller = privilege.caller;
    match privilege.source {
        Source::Root => surrender::become_shepherd(&mut Linux, NO_ACCOUNT, NO_ACCOUNT, user),
        Source::Setuid | Source::FileCapabilities => {
            surrender::become_shepherd(&mut Linux, caller.uid, caller.gid, user)
        }
        Source::None => surrender::stay_user(&mut Linux, caller.uid, caller.gid),
    }
}

//! Waiting for signals instead of handling them: no code of ours ever runs in signal context.

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use std::io;

/// Signals that are blocked and waited for.
#[derive(Debug)]
pub struct Waiter(SigSet);

impl Waiter {
    /// Blocks these signals, by number.
    ///
    /// # Errors
    /// As sigprocmask(2); `EINVAL` for a number that is no signal.
    pub fn block(signals: &[i32]) -> io::Result<Self> {
        let mut set = SigSet::empty();
        for number in signals {
            set.add(Signal::try_from(*number)?);
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&set), None)?;
        Ok(Waiter(set))
    }

    /// The number of the next one, waiting as long as it takes.
    ///
    /// # Errors
    /// As sigwait(3).
    pub fn next(&self) -> io::Result<i32> {
        Ok(self.0.wait()? as i32)
    }
}

/// Numbers of signals, the same on every architecture that Nunbird is built for.
pub use libc::{
    SIGCHLD as CHLD, SIGCONT as CONT, SIGHUP as HUP, SIGINT as INT, SIGKILL as KILL, SIGPWR as PWR,
    SIGQUIT as QUIT, SIGTERM as TERM, SIGTSTP as TSTP, SIGUSR1 as USR1, SIGUSR2 as USR2,
};

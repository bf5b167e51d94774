//! Requests to cancel a stage, as events of signalfd(2) beside all others that a loop waits for.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::{AsFd, BorrowedFd};

/// The signals that request a cancel. gitlab-runner sends `TERM`; the others come from terminals
/// and service managers.
const REQUESTS: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];

/// Signals as events. Created before the job starts, so that none is missed.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks these signals and `CHLD` for this process and reads them as events.
    pub fn block() -> nix::Result<Self> {
        let mut set = SigSet::from_iter(REQUESTS);
        set.add(Signal::SIGCHLD);
        set.thread_block()?;
        Ok(Signals(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    /// Readable when one has arrived.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Takes the next one that has arrived, of those that [`Signals::block`] names.
    ///
    /// # Errors
    /// As read(2).
    pub fn take(&self) -> nix::Result<Option<Signal>> {
        let Some(info) = self.0.read_signal()? else { return Ok(None) };
        Signal::try_from(i32::try_from(info.ssi_signo).unwrap_or(0)).map(Some)
    }

    /// Takes all that have arrived; returns the first request to cancel among them.
    ///
    /// # Errors
    /// As read(2).
    pub fn request(&self) -> nix::Result<Option<Signal>> {
        let mut request = None;
        while let Some(signal) = self.take()? {
            if signal != Signal::SIGCHLD {
                request.get_or_insert(signal);
            }
        }
        Ok(request)
    }
}

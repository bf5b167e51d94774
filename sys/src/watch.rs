//! Waiting for signals and for words from a pipe at once, without any code in signal context (signalfd(2)).

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A signal of this process, by number.
    Signal(i32),
    /// A byte from the pipe.
    Byte(u8),
    /// The pipe's end.
    Closed,
}

/// Signals that are blocked and waited for.
#[derive(Debug)]
pub struct Watch(SignalFd);

impl Watch {
    /// Blocks these signals, by number, and no others.
    ///
    /// # Errors
    /// As sigprocmask(2) and signalfd(2); `EINVAL` for a number that is no signal.
    pub fn begin(signals: &[i32]) -> io::Result<Self> {
        let mut set = SigSet::empty();
        for number in signals {
            set.add(Signal::try_from(*number)?);
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&set), None)?;
        Ok(Watch(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// The next signal, or the next byte of the pipe where there is one, waiting as long as it takes.
    ///
    /// # Errors
    /// As poll(2) and read(2).
    pub fn next(&self, pipe: Option<&File>) -> io::Result<Event> {
        loop {
            if let Some(info) = self.0.read_signal()? {
                return Ok(Event::Signal(info.ssi_signo.cast_signed()));
            }
            let mut fds = vec![PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            fds.extend(pipe.map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => {}
                Err(nix::Error::EINTR) => continue,
                Err(e) => return Err(e.into()),
            }
            let said = fds.get(1).and_then(PollFd::any).unwrap_or(false);
            if let Some(mut pipe) = pipe.filter(|_| said) {
                let mut byte = [0];
                let [value] = match pipe.read(&mut byte)? {
                    0 => return Ok(Event::Closed),
                    _ => byte,
                };
                return Ok(Event::Byte(value));
            }
        }
    }
}

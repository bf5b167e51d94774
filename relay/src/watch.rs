//! Waiting for signals and for words from a pipe at once, without any code in signal context (signalfd(2)).

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

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

/// What can be gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// A signal of this process, by number.
    Signal(i32),
    /// One of the others, by its place.
    Other(usize),
    /// None in time.
    Late,
}

/// Waits until the first can be read from, and answers `true`, or until the other end of the second, which is not read from, has
/// been closed by all who had it.
///
/// # Errors
/// As poll(2).
pub fn first_or_end_of(first: BorrowedFd<'_>, second: BorrowedFd<'_>) -> io::Result<bool> {
    loop {
        let mut fds = [PollFd::new(first, PollFlags::POLLIN), PollFd::new(second, PollFlags::empty())];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(nix::Error::EINTR) => continue,
            Err(e) => return Err(e.into()),
        }
        let [first, second] = fds.map(|fd| fd.any().unwrap_or(false));
        if first || second {
            return Ok(first);
        }
    }
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

    /// The next signal, or which of these can be read or accepted from, waiting until `deadline` where there is one.
    ///
    /// # Errors
    /// As poll(2) and read(2).
    pub fn any(&self, others: &[BorrowedFd<'_>], deadline: Option<Instant>) -> io::Result<Ready> {
        loop {
            if let Some(info) = self.0.read_signal()? {
                return Ok(Ready::Signal(info.ssi_signo.cast_signed()));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(Ready::Late);
            }
            let mut fds = vec![PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            fds.extend(others.iter().map(|other| PollFd::new(*other, PollFlags::POLLIN)));
            let timeout = left.map_or(PollTimeout::NONE, |left| {
                PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
            });
            match poll(&mut fds, timeout) {
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
            let said = fds.iter().skip(1).position(|fd| fd.any().unwrap_or(false));
            if let Some(index) = said {
                return Ok(Ready::Other(index));
            }
        }
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn the_first_is_waited_for_as_long_as_somebody_has_the_other_end_of_the_second() {
        let pipe = || std::io::pipe().expect("a pipe");
        let ((answer, mut tell), (control, mut shepherd)) = (pipe(), pipe());
        shepherd.write_all(b"unread").expect("a byte");
        tell.write_all(b"x").expect("a byte");
        assert!(super::first_or_end_of(answer.as_fd(), control.as_fd()).expect("an answer"));
        let (nothing, _tell) = pipe();
        drop(shepherd);
        assert!(!super::first_or_end_of(nothing.as_fd(), control.as_fd()).expect("an end"));
    }
}

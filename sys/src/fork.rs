//! Forking, made safe by having one thread.

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use std::io;
use std::time::{Duration, Instant};

/// Between the first two looks at a child that should end: most are about to. Later ones are further apart, up to [`LOOK`].
const GLANCE: Duration = Duration::from_micros(20);
const LOOK: Duration = Duration::from_millis(2);

/// A child of this process.
#[derive(Debug)]
pub struct Child(Pid);

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

impl Ended {
    /// In two bytes, for a process that did not wait for the child: `e` and a status, or `s` and a signal.
    pub fn words(self) -> [u8; 2] {
        match self {
            Ended::Exited(code) => [b'e', code.to_le_bytes()[0]],
            Ended::Killed(signal) => [b's', signal.to_le_bytes()[0]],
        }
    }

    /// What [`Ended::words`] said.
    pub fn of(words: [u8; 2]) -> Option<Self> {
        match words {
            [b'e', code] => Some(Ended::Exited(i32::from(code))),
            [b's', signal] => Some(Ended::Killed(i32::from(signal))),
            _ => None,
        }
    }
}

/// Forks; the child runs `body` and ends with the status it returns, without running exit handlers.
///
/// # Errors
/// As fork(2), and `EBUSY` when the process has more than one thread: a child would inherit locks that no
/// thread is left to release (fork(2), signal-safety(7)).
pub fn fork_into(body: impl FnOnce() -> i32) -> io::Result<Child> {
    // unshare(2): CLONE_THREAD has no effect in a process of one thread, and is EINVAL in any other.
    unshare(CloneFlags::CLONE_THREAD).map_err(|_| io::Error::from_raw_os_error(libc::EBUSY))?;
    // SAFETY: the process has one thread, so no lock can be held by another and every function is safe to call
    // in the child; the child ends below, so no frame of the parent is left twice.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(Child(child)),
        ForkResult::Child => {
            let status = body();
            // SAFETY: _exit takes a number and does not return.
            unsafe { libc::_exit(status) }
        }
    }
}

impl Child {
    /// Process id.
    pub fn pid(&self) -> i32 {
        self.0.as_raw()
    }

    /// Sends a signal. The child is not yet waited for, so the number cannot have been given to another.
    ///
    /// # Errors
    /// As kill(2); `EINVAL` for a number that is no signal.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        let signal = Signal::try_from(signal)?;
        kill(self.0, signal)?;
        Ok(())
    }

    /// Ends the child, which runs as `uid`: a process without `CAP_KILL` may signal a user's processes as that user
    /// (kill(2)). Stopped and blocking processes end as well.
    ///
    /// # Errors
    /// As setresuid(2) and kill(2).
    pub fn kill_as(&self, uid: u32) -> io::Result<()> {
        let _user = crate::effective::EffectiveUser::assume(uid)?;
        kill(self.0, Signal::SIGKILL)?;
        Ok(())
    }

    /// Whether it has ended. Its end is still there to be waited for.
    pub fn is_over(&self) -> bool {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        !matches!(waitid(Id::Pid(self.0), flags), Ok(WaitStatus::StillAlive))
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// As waitpid(2).
    pub fn wait(self) -> io::Result<Ended> {
        loop {
            if let Some(ended) = self.look(WaitPidFlag::empty())? {
                return Ok(ended);
            }
        }
    }

    /// Waits until it ends, for so long; none when it has not.
    ///
    /// # Errors
    /// As waitpid(2).
    pub fn wait_at_most(&self, patience: Duration) -> io::Result<Option<Ended>> {
        let (deadline, mut pause) = (Instant::now() + patience, GLANCE);
        loop {
            match self.poll()? {
                None if Instant::now() < deadline => std::thread::sleep(pause),
                looked => return Ok(looked),
            }
            pause = (pause * 2).min(LOOK);
        }
    }

    /// Looks whether it has ended.
    ///
    /// # Errors
    /// As waitpid(2).
    pub fn poll(&self) -> io::Result<Option<Ended>> {
        self.look(WaitPidFlag::WNOHANG)
    }

    fn look(&self, flags: WaitPidFlag) -> io::Result<Option<Ended>> {
        match waitpid(self.0, Some(flags)) {
            Ok(WaitStatus::Exited(_, code)) => Ok(Some(Ended::Exited(code))),
            Ok(WaitStatus::Signaled(_, signal, _)) => Ok(Some(Ended::Killed(signal as i32))),
            Ok(_) | Err(nix::Error::EINTR) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Ended;

    #[test]
    fn a_process_with_a_second_thread_is_not_forked() {
        // The test harness runs this beside its main thread.
        let refused = super::fork_into(|| 0).expect_err("two threads");
        assert_eq!(refused.raw_os_error(), Some(libc::EBUSY));
    }

    #[test]
    fn two_bytes_say_how_a_child_has_ended() {
        for end in [Ended::Exited(0), Ended::Exited(255), Ended::Killed(9), Ended::Killed(64)] {
            assert_eq!(Ended::of(end.words()), Some(end));
        }
        assert_eq!((Ended::Exited(3).words(), Ended::Killed(9).words()), ([b'e', 3], [b's', 9]));
        assert_eq!(Ended::of([b'x', 1]), None);
    }
}

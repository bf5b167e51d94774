//! The event loop around a running job: output, its end, and requests to cancel it.
//!
//! All events arrive at one poll(2): bytes from the job, space on the runner's side, and signals by
//! signalfd(2), which the caller has blocked. Nothing in the loop blocks elsewhere, so a job can be
//! cancelled even when nothing reads its output.

use crate::escaped::Mark;
use crate::relay::Stream;
use crate::session;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use nunbird_stage::signals::Signals;
use nunbird_stage::{StageError, Timeouts};
use nunbird_sys::memory::OwnProgram;
use nunbird_unprivileged::waiting::LONG;
use std::time::{Duration, Instant};

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobEnd {
    /// Its first process ended by itself and can be reaped.
    OfItself,
    /// It was cancelled and can be reaped.
    Cancelled,
    /// It was cancelled and does not end, not even by `KILL`.
    Abandoned,
}

#[derive(Debug)]
struct Cancel {
    asked: Instant,
    /// When the session was killed.
    killed: Option<Instant>,
}

/// A running job.
#[derive(Debug)]
pub(crate) struct Supervisor<'fd> {
    job: Pid,
    mark: Mark,
    /// Whether the session has the script; else only what enters its container.
    asks_session: bool,
    signals: Signals,
    out: Stream<'fd>,
    err: Stream<'fd>,
    timeouts: Timeouts,
    cancel: Option<Cancel>,
    ended: Option<Instant>,
    /// Whether what was left in the pipes after the end has been asked for: poll(2) needs not wait for that any more.
    drained: bool,
    /// When memory is given back, for a job that takes long; none once it has been.
    idle: Option<Instant>,
    /// Whether standard error is served before standard output in this turn.
    err_first: bool,
}

impl<'fd> Supervisor<'fd> {
    /// For the job whose first process is `job`, the leader of its session.
    pub(crate) fn new(
        job: Pid,
        mark: Mark,
        signals: Signals,
        mut out: Stream<'fd>,
        mut err: Stream<'fd>,
        timeouts: Timeouts,
    ) -> Self {
        Stream::share(&mut out, &mut err);
        let idle = Some(Instant::now() + LONG);
        Supervisor {
            job,
            mark,
            asks_session: true,
            signals,
            out,
            err,
            timeouts,
            cancel: None,
            ended: None,
            drained: false,
            idle,
            err_first: false,
        }
    }

    /// The same for a script in a container: its first process here is the engine's command, which
    /// has to live until the script has ended, because it passes the output on.
    pub(crate) fn in_container(self) -> Self {
        Supervisor { asks_session: false, ..self }
    }

    /// The end of what the job has written to standard error.
    pub(crate) fn last_errors(&self) -> String {
        self.err.tail()
    }

    /// Returns when the job has ended and its output is passed on.
    pub(crate) fn run(&mut self) -> Result<JobEnd, StageError> {
        let failed = |e: Errno| {
            StageError::new(
                "cannot wait for events of the job",
                e,
                "run the job again, or report it to the administrators",
            )
        };
        loop {
            self.do_due_actions();
            if let Some(end) = self.end() {
                return Ok(end);
            }
            if self.wait().map_err(failed)? {
                self.take_signals().map_err(failed)?;
            }
        }
    }

    /// The output that the runner's side did not accept, of standard output and of standard error.
    pub(crate) fn losses(&self) -> [Option<nunbird_stage::Loss>; 2] {
        [self.out.loss(), self.err.loss()]
    }

    /// Whether signals may have arrived.
    fn wait(&mut self) -> nix::Result<bool> {
        let interests = [self.out.interest(), self.err.interest()];
        let mut fds = vec![PollFd::new(self.signals.fd(), PollFlags::POLLIN)];
        fds.extend(interests.iter().flatten().map(|(fd, flags)| PollFd::new(*fd, *flags)));
        let timeout = self.timeout();
        if self.idle.is_some_and(|idle| Instant::now() >= idle) {
            self.idle = None;
            // Last of all: each function that is called after it brings its part of the program back.
            OwnProgram::look().give_back();
        }
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(true),
            Err(e) => return Err(e),
        }
        // POLLHUP and POLLERR count as ready: reading and writing show what they mean.
        let ready = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect::<Vec<_>>();
        let mut ready = ready.into_iter();
        let signals = ready.next().unwrap_or(true);
        let [out, err] = interests.map(|interest| interest.is_some() && ready.next().unwrap_or(false));
        // Each is the first one in turn: both may have one pipe, and who comes first may fill it.
        self.err_first = !self.err_first;
        if err && self.err_first {
            self.err.ready();
        }
        if out {
            self.out.ready();
        }
        if err && !self.err_first {
            self.err.ready();
        }
        Ok(signals)
    }

    fn take_signals(&mut self) -> nix::Result<()> {
        while let Some(signal) = self.signals.take()? {
            match signal {
                Signal::SIGCHLD => self.check_for_end()?,
                request => self.on_cancel_request(request),
            }
        }
        Ok(())
    }

    /// Checks without reaping: until the session is signalled, its pid must not be reused.
    fn check_for_end(&mut self) -> nix::Result<()> {
        if self.ended.is_some() {
            return Ok(());
        }
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
        match waitid(Id::Pid(self.job), flags) {
            Ok(WaitStatus::StillAlive) => return Ok(()),
            // EINVAL: ended by a real-time signal, for which nix has no name.
            Ok(_) | Err(Errno::EINVAL) => {}
            Err(e) => return Err(e),
        }
        self.ended = Some(Instant::now());
        if self.cancel.is_some() {
            self.kill();
        }
        Ok(())
    }

    fn on_cancel_request(&mut self, request: Signal) {
        let now = Instant::now();
        match &self.cancel {
            None => {
                self.cancel = Some(Cancel { asked: now, killed: None });
                if self.ended.is_some() {
                    return self.kill();
                }
                let grace = self.timeouts.grace.as_secs_f32();
                self.err
                    .add_line(&format!("cancelled by {request}: the job's processes have {grace} s to end"));
                self.ask();
            }
            Some(cancel) if cancel.killed.is_none() && now >= cancel.asked + self.timeouts.repeat => {
                self.err.add_line(&format!("cancelled again by {request}: killing the job's processes"));
                self.kill();
            }
            Some(_) => {}
        }
    }

    fn ask(&self) {
        if !self.asks_session && self.mark.ask(None) > 0 {
            return;
        }
        session::signal(self.job, Signal::SIGTERM);
        // A stopped process acts on no signal but these two.
        session::signal(self.job, Signal::SIGCONT);
        self.mark.ask(Some(self.job));
    }

    fn kill(&mut self) {
        session::signal(self.job, Signal::SIGKILL);
        if let Some(cancel) = &mut self.cancel {
            cancel.killed.get_or_insert_with(Instant::now);
        }
    }

    /// Does what is due by now.
    fn do_due_actions(&mut self) {
        let now = Instant::now();
        if self.ended.is_none()
            && let Some(Cancel { asked, killed: None }) = self.cancel
            && now >= asked + self.timeouts.grace
        {
            let grace = self.timeouts.grace.as_secs_f32();
            self.err.add_line(&format!("the job's processes did not end within {grace} s: killing them"));
            self.kill();
        }
        if self.ended.is_some_and(|ended| now >= ended + self.timeouts.linger) {
            self.drained = true;
            self.out.drain();
            self.err.drain();
        }
    }

    fn end(&self) -> Option<JobEnd> {
        let passed_on = self.out.interest().is_none() && self.err.interest().is_none();
        let given_up = self.give_up_at().is_some_and(|at| Instant::now() >= at);
        match (self.ended.is_some(), self.cancel.is_some()) {
            (true, true) if passed_on || given_up => Some(JobEnd::Cancelled),
            (true, false) if passed_on => Some(JobEnd::OfItself),
            (false, _) if given_up => Some(JobEnd::Abandoned),
            _ => None,
        }
    }

    fn give_up_at(&self) -> Option<Instant> {
        let killed = self.cancel.as_ref()?.killed?;
        Some(killed + self.timeouts.abandon)
    }

    /// Time until the next action is due.
    fn timeout(&self) -> PollTimeout {
        let kill = self.cancel.as_ref().filter(|cancel| cancel.killed.is_none());
        let kill = kill.map(|cancel| cancel.asked + self.timeouts.grace);
        let drain = self.ended.filter(|_| !self.drained).map(|ended| ended + self.timeouts.linger);
        let now = Instant::now();
        // Due by now, it is done before poll(2), and needs no turn of its own.
        let idle = self.idle.filter(|at| *at > now);
        let Some(due) = [kill, self.give_up_at(), drain, idle].into_iter().flatten().min() else {
            return PollTimeout::NONE;
        };
        // Rounded up: waking a millisecond early would only run the loop once more. What fell due a moment ago is done at once.
        let wait = match due.checked_duration_since(now) {
            Some(wait) => wait + Duration::from_millis(1),
            None => Duration::ZERO,
        };
        PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::{Mark, PollTimeout, Signals, Stream, Supervisor, Timeouts};
    use nix::unistd::Pid;
    use std::io::pipe;
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    #[test]
    fn output_that_lingers_is_waited_for_no_longer_however_late_its_time_is_noticed() {
        let ((out, _of_job), (err, _of_job_too)) = (pipe().expect("pipe"), pipe().expect("pipe"));
        let (_runner, sink) = pipe().expect("pipe");
        let [out, err] = [out, err].map(|source| Stream::new(source.into(), sink.as_fd()).expect("a stream"));
        let signals = Signals::block().expect("signals");
        let timeouts = Timeouts { linger: Duration::from_secs(3600), ..Timeouts::default() };
        let mut one = Supervisor::new(Pid::this(), Mark::of("none"), signals, out, err, timeouts);
        one.idle = None;
        assert_eq!(one.timeout(), PollTimeout::NONE, "while the job runs");
        one.ended = Some(Instant::now());
        assert!(one.timeout().as_millis().is_some_and(|wait| wait > 3_500_000), "after its end");
        // The time comes between two looks at the clock: due by now, and not done yet.
        one.timeouts.linger = Duration::ZERO;
        assert_eq!(one.timeout(), PollTimeout::ZERO, "when it is due");
        one.do_due_actions();
        assert!(one.end().is_some(), "the pipes are empty, and nothing more is read from them");
        assert_eq!(one.timeout(), PollTimeout::NONE, "when it is done");
    }
}

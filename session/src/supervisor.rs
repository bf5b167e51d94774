//! The process that waits: root's, calls no module, and ends one that hangs.
//!
//! It hears from the other by a pipe: `o` the session is open, `e` and a number or `s` and a number how the launcher
//! ended, `c` that a job's session is to be closed, `r` that a report was written, `.` that it is done. While modules are called, the time is limited, and whatever
//! they have started becomes this process's child and ends with them.

use crate::order::{self, Inherited};
use crate::print_error;
use crate::stage::Stage;
use crate::trouble::SessionTrouble;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nunbird_offspring::Adoption;
use nunbird_relay::watch::{Ready, Watch};
use nunbird_started::process::{end_by, was_stopped};
use nunbird_sys::fork::{Child, Ended, fork_into};
use nunbird_sys::kernel::{Kernel, Linux};
use nunbird_sys::process;
use nunbird_sys::rlimits::Limits;
use nunbird_sys::signals::{CHLD, CONT, KILL};
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long killed processes may take to end.
const END: Duration = Duration::from_secs(2);
/// How often the other process is set going again. It has never a reason to stop, and who stops it so often means harm.
const MOST_STOPS: u8 = 16;

/// What was heard.
#[derive(Debug, Default)]
pub(crate) struct Course {
    /// How the launcher ended.
    ended: Option<Ended>,
    /// The modules were not done in time.
    late: bool,
    /// The reason why there was no session has been reported to the shepherd.
    reported: bool,
}

impl Course {
    /// Reports why there was no session, where that has not been reported yet.
    pub(crate) fn report(&self, report: &File) {
        if self.late {
            order::send(report, SessionTrouble::Timeout, "the modules were not done in time");
        } else if !self.reported {
            order::send(report, SessionTrouble::Failed, "the process that called the modules has ended");
        }
    }
}

/// Runs the stage in a session of its own. The code is this program's.
pub(crate) fn run(inherited: Inherited, limits: Limits) -> u8 {
    let codes = inherited.order.exit_codes;
    let report = inherited.report.try_clone();
    let course = report.and_then(|report| Ok((attend(inherited, limits, &report)?, report)));
    let (course, report) = match course {
        Ok(known) => known,
        Err(e) => {
            print_error(&format!("nunbird-session: cannot run the stage on this host: {e}\n"));
            return codes.system_failure;
        }
    };
    match course.ended {
        Some(Ended::Exited(code)) => u8::try_from(code).unwrap_or(codes.system_failure),
        Some(Ended::Killed(signal)) => end_by(signal),
        None => {
            course.report(&report);
            codes.system_failure
        }
    }
}

fn attend(inherited: Inherited, limits: Limits, report: &File) -> io::Result<Course> {
    let mut control = &inherited.control;
    if control.read(&mut [0])? == 0 {
        // The shepherd has ended: the session is not wanted any more.
        return Ok(Course { reported: true, ..Course::default() });
    }
    own_keyring()?;
    let timeout = Duration::from_secs(inherited.order.pam.timeout);
    let course = supervise(timeout, || {}, |phases, parent| Stage { inherited, limits, phases }.run(parent));
    course.or_else(|e| {
        order::send(report, SessionTrouble::Failed, format_args!("fork: {e}"));
        Ok(Course { reported: true, ..Course::default() })
    })
}

/// Forks the process that calls the modules, and listens to it until it is done. `opened` is called when the session is open.
///
/// # Errors
/// As fork(2), pipe(2) and waitpid(2).
pub(crate) fn supervise(
    timeout: Duration,
    opened: impl FnMut(),
    caller: impl FnOnce(PipeWriter, i32) -> i32,
) -> io::Result<Course> {
    let mut course = Course::default();
    let (phases, writer) = io::pipe()?;
    let adoption = Adoption::begin()?;
    let parent = process::id();
    let child = fork_into(move || caller(writer, parent))?;
    follow(Caller { phases, child: &child, stops: 0 }, timeout, adoption, &mut course, opened)?;
    // When it is late, everything has been waited for, the child among it. Otherwise it has said its last word, and can be
    // stopped still.
    if !course.late && child.wait_at_most(END)?.is_none() {
        let _gone = child.signal(KILL);
        child.wait()?;
    }
    Ok(course)
}

/// The process that calls the modules. logind takes it for the session's first, and lets the user send it any signal
/// (org.freedesktop.login1(5), `KillSession`): one that is stopped would hold the stage, and root's processes, for ever.
#[derive(Debug)]
struct Caller<'a> {
    phases: PipeReader,
    child: &'a Child,
    stops: u8,
}

impl Caller<'_> {
    /// What it reports next, until `deadline`; none when it has ended. Meanwhile it is set going again when it is stopped.
    fn next(&mut self, watch: &Watch, deadline: Option<Instant>) -> io::Result<Option<u8>> {
        loop {
            if was_stopped(self.child) {
                self.stops = self.stops.saturating_add(1);
                let _gone = self.child.signal(if self.stops > MOST_STOPS { KILL } else { CONT });
            }
            match watch.any(&[self.phases.as_fd()], deadline)? {
                Ready::Signal(_) => {}
                Ready::Other(_) => return next_byte(&mut self.phases, deadline),
                Ready::Late => return Err(nix::Error::ETIMEDOUT.into()),
            }
        }
    }
}

/// Listens until the other process is done, and ends it with all it has started when that takes too long.
fn follow(
    mut caller: Caller<'_>,
    timeout: Duration,
    adoption: Adoption,
    course: &mut Course,
    mut opened: impl FnMut(),
) -> io::Result<()> {
    // Not before the fork: modules are called with no signal blocked.
    let watch = Watch::begin(&[CHLD])?;
    let mut calling = Some((adoption, Instant::now() + timeout));
    loop {
        let byte = match caller.next(&watch, calling.as_ref().map(|(_, deadline)| *deadline)) {
            Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                course.late = true;
                if course.ended.is_some() {
                    print_error("nunbird: warning: the modules of PAM did not close the session in time\n");
                }
                return calling.map_or(Ok(()), |(adoption, _)| adoption.end_all(0, END));
            }
            other => other?,
        };
        match byte {
            Some(b'o') => {
                calling = None;
                opened();
            }
            Some(b'c') => calling = Some((Adoption::begin()?, Instant::now() + timeout)),
            Some(b'r') => course.reported = true,
            Some(kind @ (b'e' | b's')) => {
                let Some(number) = caller.next(&watch, Some(Instant::now() + END))? else {
                    return Ok(());
                };
                course.ended = Ended::of([kind, number]);
                calling = Some((Adoption::begin()?, Instant::now() + timeout));
            }
            _ => return Ok(()),
        }
    }
}

/// Modules must not find the runner's keys (keyrings(7)).
pub(crate) fn own_keyring() -> io::Result<()> {
    match Linux.new_session_keyring() {
        Err(e) if e.kind() == io::ErrorKind::Unsupported => Ok(()),
        other => other,
    }
}

/// The next byte, waiting until `deadline` where there is one; none at the pipe's end.
///
/// # Errors
/// As poll(2) and read(2); `ETIMEDOUT`.
fn next_byte(pipe: &mut PipeReader, deadline: Option<Instant>) -> io::Result<Option<u8>> {
    loop {
        let timeout = deadline.map_or(PollTimeout::NONE, |deadline| {
            // Rounded up: a wait of nothing would turn the rest of a millisecond into a busy loop.
            let left = deadline.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Ok(0) | Err(nix::Error::EINTR) => continue,
            Ok(_) => {}
            Err(e) => return Err(e.into()),
        }
        let mut byte = [0];
        return match pipe.read(&mut byte)? {
            0 => Ok(None),
            _ => Ok(Some(u8::from_ne_bytes(byte))),
        };
    }
}

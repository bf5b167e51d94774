//! One process of `nunbird-limits` for each request, with the ids that its work takes and nothing else of its parent's: for `nunbird-auth` and
//! `nunbird-session`. A crate of its own, so that `nunbird-limits` does not link what starts it.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use nunbird_groups::{Answer, Counter, MAX_ANSWER, MAX_COUNTERS, Request, SOCKET_FD};
use nunbird_sys::capabilities::Capabilities;
use nunbird_sys::fork::fork_into;
use nunbird_sys::kernel::{Kernel, Linux};
use nunbird_sys::{exec, passing, process, signals};
use nunbird_wire::Version;
use nunbird_wire::{Message, read_frame, write_frame};
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The program's name, beside those that start it.
pub const PROGRAM: &str = "nunbird-limits";
/// How long it may take to end behind its answer.
const LAST_MOMENTS: Duration = Duration::from_secs(2);
/// What it may have of address space, in bytes.
const MEMORY: u64 = 256 << 20;
/// It ends by itself so long after its parent stops waiting, should that be unable to signal it, in seconds.
const SLACK: u64 = 5;

/// As whom it runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct As {
    /// Uid and gid; none where the parent has no privilege to change its own.
    pub ids: Option<(u32, u32)>,
    /// Capabilities that it keeps, as bits: of those that the parent has, and only where the uid is 0.
    pub capabilities: u64,
}

/// Starts the program behind this file, asks it, and waits for its end.
///
/// # Errors
/// In words: it could not be started, was not done in time, or gave no answer of this crate.
pub fn ask(
    program: &File,
    by: As,
    request: &Request,
    patience: Duration,
) -> Result<(Answer, Vec<Counter>), String> {
    let deadline = Instant::now() + patience;
    let step = |name: &'static str| move |e: io::Error| format!("{PROGRAM}: {name}: {e}");
    let (ours, theirs) = UnixStream::pair().map_err(step("socketpair"))?;
    let theirs = File::from(OwnedFd::from(theirs));
    let (program, parent) = (exec::out_of_the_way(program).map_err(step("descriptor"))?, process::id());
    let child = fork_into(|| match become_it(&program, &theirs, by, parent, patience) {
        Ok(never) => match never {},
        // The parent sees that the socket ends.
        Err(_) => 1,
    });
    let child = child.map_err(step("fork"))?;
    drop(theirs);
    let answered = converse(&Timed { socket: &ours, deadline }, request).map_err(step("socket"));
    drop(ours);
    let patience = if answered.is_ok() { LAST_MOMENTS } else { Duration::ZERO };
    if !matches!(child.wait_at_most(patience), Ok(Some(_))) {
        let uid = by.ids.map_or_else(|| Linux.uids().map_or(0, |[uid, ..]| uid), |(uid, _)| uid);
        let _already_gone = child.kill_as(uid);
        let _reaped = child.wait_at_most(LAST_MOMENTS);
    }
    answered
}

fn converse(timed: &Timed<'_>, request: &Request) -> io::Result<(Answer, Vec<Counter>)> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let socket = timed.socket;
    socket.set_write_timeout(Some(timed.left()?))?;
    write_frame(socket, &(Version, request.clone()).to_bytes())?;
    socket.shutdown(Shutdown::Write)?;
    let bytes = read_frame(timed, MAX_ANSWER)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let (Version, answer) = Message::from_bytes(&bytes).map_err(|_| invalid())?;
    let mut counters = Vec::new();
    if let Answer::Entered(_, before) = &answer {
        if before.len() > MAX_COUNTERS {
            return Err(invalid());
        }
        for _ in before {
            socket.set_read_timeout(Some(timed.left()?))?;
            let (_, mut files) = passing::receive(socket.as_fd())?;
            let file = files.pop().filter(|_| files.is_empty()).ok_or_else(invalid)?;
            counters.push(Counter::new(file)?);
        }
    }
    // Its end, so that it is about to be there to be waited for.
    let more = { timed }.read(&mut [0])?;
    if more == 0 { Ok((answer, counters)) } else { Err(invalid()) }
}

/// A socket that is read until a deadline, however slowly it speaks.
struct Timed<'a> {
    socket: &'a UnixStream,
    deadline: Instant,
}

impl Timed<'_> {
    fn left(&self) -> io::Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for &Timed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.set_read_timeout(Some(self.left()?))?;
        let mut socket = self.socket;
        socket.read(buffer)
    }
}

/// In the child: no file but the socket, no id and no capability but these, and no way to more.
fn become_it(
    program: &File,
    socket: &File,
    by: As,
    parent: i32,
    patience: Duration,
) -> io::Result<Infallible> {
    process::end_after(u32::try_from(patience.as_secs() + SLACK).unwrap_or(u32::MAX));
    process::bound_memory(MEMORY)?;
    process::null_stdin()?;
    // What it printed would reach gitlab-runner: it goes to a pipe without a reader.
    let (_, closed) = io::pipe()?;
    exec::outputs_to(&closed, &closed)?;
    exec::place(&[(SOCKET_FD, socket)])?;
    // pam_selinux(8) has set the launcher's context for the next program. Elsewhere there is no such file, or it takes nothing.
    let _as_it_was = std::fs::write("/proc/self/attr/exec", "\n");
    if let Some((uid, gid)) = by.ids {
        Linux.set_groups(&[])?;
        Linux.set_gids(gid, gid, gid)?;
        Linux.set_uids(uid, uid, uid)?;
    }
    Capabilities { effective: by.capabilities, permitted: by.capabilities, inheritable: 0 }.apply()?;
    Linux.clear_ambient()?;
    process::forbid_inspection()?;
    // With it execve(2) gives root's uid no capability that it has not already.
    process::no_new_privileges()?;
    process::die_with_parent(signals::KILL, parent)?;
    process::default_signals()?;
    exec::execute(program, &[c"nunbird-limits".to_owned()], &[])
}

//! `nunbird-machine`: starts and ends the booted machine of a job, by systemd-nspawn(1).
//!
//! Started by `nunbird-auth` alone, as root, for one request. What the machine is to be is the word of a process without privilege: its tree
//! is found below root's directory by a name, what of the host is in it is opened as the job's user, and whether there are machines at all,
//! and which ids they have, is root's word in `/etc/nunbird/machine-ids`. docs/adr/0026 explains the parts.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod account;
mod counts;
mod groups;
mod ids;
mod keeper;
mod layer;
mod places;
mod start;
mod state;
mod tree;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nunbird_parts::{MAX_MACHINE_REQUEST, MachineAnswer, MachineRequest};
use nunbird_started::inherited;
use nunbird_sys::{process, signals};
use nunbird_wire::{Message, Version, read_frame, write_frame};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

/// The number of the socket to `nunbird-auth`.
const SOCKET_FD: i32 = 3;

/// Why there is no machine: for the admin, and what its console has said.
#[derive(Debug, PartialEq, Eq)]
struct Trouble {
    why: String,
    console: String,
}

impl Trouble {
    fn new(why: impl Into<String>) -> Self {
        Trouble { why: why.into(), console: String::new() }
    }

    /// Of a step that failed.
    fn of(step: &str) -> impl Fn(io::Error) -> Self + '_ {
        move |e| Trouble::new(format!("{step}: {e}"))
    }
}

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// `KILL` when nunbird-auth ends. It cannot ask for that itself: an execve(2) that gains capabilities, as the one of this program does, takes it
/// back (PR_SET_PDEATHSIG(2const)).
///
/// # Errors
/// As prctl(2) and poll(2); `ESRCH` when it has ended already.
fn end_with_parent(socket: &UnixStream) -> io::Result<()> {
    process::signal_at_parents_end(signals::KILL)?;
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO)?;
    let ended = fds.iter().filter_map(PollFd::revents).any(|events| events.contains(PollFlags::POLLHUP));
    if ended { Err(Errno::ESRCH.into()) } else { Ok(()) }
}

fn serve() -> io::Result<()> {
    // Step N1. Before anything is opened: the descriptor is known by its number.
    let socket = UnixStream::from(OwnedFd::from(inherited::take(SOCKET_FD)?));
    end_with_parent(&socket)?;
    drop(nunbird_sys::environment::take());
    process::ignore_failed_writes();
    process::forbid_inspection()?;
    process::set_umask(0o077);
    std::env::set_current_dir("/")?;
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let request = read_frame(&socket, MAX_MACHINE_REQUEST)?.ok_or_else(invalid)?;
    let (Version, request) = Message::from_bytes(&request).map_err(|_| invalid())?;
    let answer = match request {
        MachineRequest::Start(decision, order, account) => start::start(&decision, order, account),
        MachineRequest::End(decision) => state::end(&decision).map(|()| MachineAnswer::Done),
    };
    let answer = answer.unwrap_or_else(|trouble| MachineAnswer::Trouble(trouble.why, trouble.console));
    write_frame(&socket, &(Version, answer).to_bytes())
}

//! `nunbird-limits`: control groups of jobs, for `nunbird-auth` and `nunbird-session`.
//!
//! Started by these two alone, for one request, where a job has limits with a control group: as the account that the groups belong to, which
//! is the runner's where systemd delegated one to it, and root otherwise. It has one file, the socket, and no capability; on kernels that do
//! not empty a group themselves it keeps those that change ids, to end the job's processes as their user. What a group is to be is the word
//! of a process without privilege: it chooses amounts and disks, and the group's name and place are made here.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod make;

use nunbird_cgroup::{JobGroup, Kept, Trouble};
use nunbird_files::identity::{Caller, acting_as};
use nunbird_groups::{Answer, Counter, MAX_REQUEST, Request, SOCKET_FD};
use nunbird_started::inherited;
use nunbird_sys::capabilities::{CAP_SETUID, Capabilities};
use nunbird_sys::kernel::{Kernel, Linux};
use nunbird_sys::{passing, process};
use nunbird_wire::Version;
use nunbird_wire::{Message, read_frame, write_frame};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

/// The real uid while a job's processes are ended, where root's ids are this process's: one that no account and none of Nunbird's processes
/// has. kill(2) goes by the real uid as well, and the number of a process that has ended may be one of root's by now.
const NO_ACCOUNT: u32 = 2_147_483_632 - 4;
/// How long the kernel may take to end and to clear away a job's processes.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve() -> io::Result<()> {
    // Before anything is opened: the descriptor is known by its number.
    let socket = UnixStream::from(OwnedFd::from(inherited::take(SOCKET_FD)?));
    drop(nunbird_sys::environment::take());
    process::ignore_failed_writes();
    process::forbid_inspection()?;
    process::set_umask(0o077);
    std::env::set_current_dir("/")?;
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let request = read_frame(&socket, MAX_REQUEST)?.ok_or_else(invalid)?;
    let (Version, request) = Message::from_bytes(&request).map_err(|_| invalid())?;
    let [_, uid, _] = Linux.uids()?;
    let (answer, counters) =
        answer(request, uid).unwrap_or_else(|trouble| (Answer::Trouble(trouble.to_string()), Vec::new()));
    write_frame(&socket, &(Version, answer).to_bytes())?;
    counters.iter().try_for_each(|counter| passing::send(&socket, b'f', &[counter.file()]))
}

/// `uid` is this process's.
fn answer(request: Request, uid: u32) -> Result<(Answer, Vec<Counter>), Trouble> {
    let answer = match request {
        Request::Make(make) => make::make(&make, uid)?,
        Request::Enter(group, process) => return enter(&Kept::read_whole(&group)?, process),
        Request::End(group, user) => end(&Kept::read_whole(&group)?, uid, user)?,
        Request::Remove(group) => remove(&Kept::read_whole(&group)?)?,
    };
    Ok((answer, Vec::new()))
}

fn enter(kept: &Kept, process: Option<i32>) -> Result<(Answer, Vec<Counter>), Trouble> {
    let group = kept.open()?;
    group.verify(&kept.amounts)?;
    let (files, counters) = group.gauges();
    let before = counters.iter().map(Counter::content).collect();
    // 0 is this process, and less is a group of processes.
    match (process, &kept.units) {
        (Some(..=0), _) => return Err(Trouble::Unfit("a process to move has no number")),
        (Some(process), Some(units)) => group.enter_slice(units, process)?,
        (Some(process), None) => group.enter(process)?,
        (None, _) => {}
    }
    Ok((Answer::Entered(files.to_bytes(), before), counters))
}

/// Ends every process of the job. Its user's other processes are in other groups.
fn end(kept: &Kept, uid: u32, user: u32) -> Result<Answer, Trouble> {
    let unplaced = |e: io::Error| Trouble::Unplaced(format!("ids: {e}"));
    let changes_ids = Capabilities::current().map_err(unplaced)?.permits(CAP_SETUID);
    if changes_ids {
        Linux.set_uids(NO_ACCOUNT, uid, uid).map_err(unplaced)?;
        process::forbid_inspection().map_err(unplaced)?;
    }
    // Where it may change ids it is root's, and the groups may be the runner's.
    let [_, gid, _] = Linux.gids().map_err(unplaced)?;
    let ids = Caller { uid: if uid == 0 { kept.owner } else { uid }, gid };
    let end = || {
        let Some(group) = there(kept)? else { return Ok(Answer::Done) };
        if !changes_ids && uid != user && !group.is_killed_by_the_kernel() {
            return Ok(Answer::Keeper);
        }
        group.kill(user, PATIENCE)?;
        let (files, contents) = group.used();
        Ok(Answer::Ended(files.to_bytes(), contents))
    };
    acting_as(ids, end).map_err(unplaced)?
}

/// Removes the group, once it is empty, or has systemd stop it.
fn remove(kept: &Kept) -> Result<Answer, Trouble> {
    match &kept.units {
        Some(units) => JobGroup::stop_slice(&units.slice, &kept.directories, PATIENCE)?,
        None => {
            if let Some(group) = there(kept)? {
                group.remove(PATIENCE)?;
            }
        }
    }
    Ok(Answer::Done)
}

/// The group, where there is one still: the host may have restarted, or this is the second time.
fn there(kept: &Kept) -> Result<Option<JobGroup>, Trouble> {
    match kept.open() {
        Err(Trouble::File(_, _, e)) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

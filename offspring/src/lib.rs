//! Everything that a foreign program leaves running, ended for certain.
//!
//! A process can leave its process group and its session, but not its ancestry: while this process is the "child subreaper"
//! (prctl(2), Linux 3.4), every descendant whose parent ends becomes its child. So killing children until there is none left
//! ends all of them, however they were detached.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, Uid, getpid, setresuid};
use nunbird_sys::effective::EffectiveUser;
use nunbird_sys::fork::{Ended, fork_into};
use std::io;
use std::time::{Duration, Instant};

/// Children of clone(2) as well, whose end is no `CHLD` (waitpid(2)).
const ALL_KINDS: WaitPidFlag = WaitPidFlag::__WALL;

/// While it lives, orphans among the descendants of this process become its children.
#[derive(Debug)]
pub struct Adoption(());

impl Adoption {
    /// Begins.
    ///
    /// # Errors
    /// As prctl(2).
    pub fn begin() -> io::Result<Self> {
        nix::sys::prctl::set_child_subreaper(true)?;
        Ok(Adoption(()))
    }

    /// Kills and reaps every child there is, which all run as `uid`, until there is none.
    ///
    /// # Errors
    /// As kill(2) and readdir(3); `ETIMEDOUT` when one is left after `patience`.
    pub fn end_all(&self, uid: u32, patience: Duration) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG | ALL_KINDS)) {
                Err(Errno::ECHILD) => return Ok(()),
                Ok(WaitStatus::StillAlive) => {}
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(e) => return Err(e.into()),
            }
            if Instant::now() >= deadline {
                return Err(io::Error::from_raw_os_error(nix::libc::ETIMEDOUT));
            }
            kill_children(uid)?;
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Adoption {
    fn drop(&mut self) {
        // It cannot fail on a kernel that took the beginning; if it did, nothing but orphans of later children would come.
        let _unchanged = nix::sys::prctl::set_child_subreaper(false);
    }
}

/// Kills as that user, who may be the only one who may look and kill (kill(2), proc(5) `hidepid`).
fn kill_children(uid: u32) -> io::Result<()> {
    let own = getpid();
    if uid != 0 {
        let _user = EffectiveUser::assume(uid)?;
        return kill_each(own, None);
    }
    // With file capabilities the way back from uid 0 would cost the process its capabilities (capabilities(7)).
    let killer = fork_into(|| {
        let root = Uid::from_raw(0);
        let killed = setresuid(root, root, root)
            .map_err(io::Error::from)
            .and_then(|()| kill_each(own, Some(getpid())));
        killed.map_or_else(|e| e.raw_os_error().unwrap_or(nix::libc::EIO), |()| 0)
    })?;
    match killer.wait()? {
        Ended::Exited(0) => Ok(()),
        Ended::Exited(errno) => Err(io::Error::from_raw_os_error(errno)),
        Ended::Killed(_) => Err(io::Error::from_raw_os_error(nix::libc::EINTR)),
    }
}

fn kill_each(parent: Pid, spared: Option<Pid>) -> io::Result<()> {
    for child in children(parent)?.into_iter().filter(|child| Some(*child) != spared) {
        match kill(child, Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Children of a process that does not wait for them meanwhile, so no number can have been given to another.
fn children(parent: Pid) -> io::Result<Vec<Pid>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that has ended meanwhile is no child any more.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // `pid (name) state ppid …`, where the name may hold anything (proc_pid_stat(5)).
        let of = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if of.and_then(|p| p.parse().ok()) == Some(parent.as_raw()) {
            found.push(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

//! Everything that a foreign program leaves running, ended for certain.
//!
//! A process can leave its process group and its session, but not its ancestry: while this process is the "child subreaper"
//! (prctl(2), Linux 3.4), every descendant whose parent ends becomes its child. So killing children until there is none left
//! ends all of them, however they were detached.

use crate::effective::EffectiveUser;
use crate::fork::{Child, Ended, fork_into};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, Uid, getpid, setresuid};
use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How often it is looked whether a program has ended whose pipes somebody else holds, in milliseconds.
const TICK: u8 = 5;

/// Makes sure that this process has no children, and that no orphans become its children.
///
/// Both pass through execve(2), the children as they are and being a subreaper as a flag (prctl(2)). A privileged program
/// that ends "its" children would otherwise end processes that its caller chose, root's among them.
///
/// # Errors
/// As prctl(2) and waitid(2), and when there is a child.
pub fn refuse_inherited() -> io::Result<()> {
    // First: afterwards no orphan can come.
    nix::sys::prctl::set_child_subreaper(false)?;
    match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT | ALL_KINDS) {
        Err(Errno::ECHILD) => Ok(()),
        Ok(_) => Err(io::Error::other(
            "the process had children before it became this program: start it in a process of its own, not by exec from \
             a shell with background processes",
        )),
        Err(e) => Err(e.into()),
    }
}

/// Children of clone(2) as well, whose end is no `CHLD` (waitpid(2), Linux 4.7 for waitid(2)).
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
                return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
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
        killed.map_or_else(|e| e.raw_os_error().unwrap_or(libc::EIO), |()| 0)
    })?;
    match killer.wait()? {
        Ended::Exited(0) => Ok(()),
        Ended::Exited(errno) => Err(io::Error::from_raw_os_error(errno)),
        Ended::Killed(_) => Err(io::Error::from_raw_os_error(libc::EINTR)),
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
        // One that has ended meanwhile is nobody's child.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // `pid (name) state ppid …`, where the name may hold anything (proc_pid_stat(5)).
        let of = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if of.and_then(|p| p.parse().ok()) == Some(parent.as_raw()) {
            found.push(Pid::from_raw(pid));
        }
    }
    Ok(found)
}

/// What a program said until it ended.
#[derive(Debug)]
pub struct Said {
    /// Standard output, whole.
    pub output: Vec<u8>,
    /// Standard error, up to the limit.
    pub errors: Vec<u8>,
    /// How it ended. `ETIMEDOUT` when it did not in time, `EFBIG` when its output is longer than the limit.
    pub ended: io::Result<Ended>,
}

/// Listens to a program until it ends itself, whoever else holds its pipes.
pub fn listen(child: &Child, pipes: [PipeReader; 2], limit: usize, patience: Duration) -> Said {
    let mut said = Said { output: Vec::new(), errors: Vec::new(), ended: Ok(Ended::Exited(0)) };
    said.ended = hear(&mut said, child, &pipes, limit, Instant::now() + patience);
    said
}

fn hear(
    said: &mut Said,
    child: &Child,
    pipes: &[PipeReader; 2],
    limit: usize,
    deadline: Instant,
) -> io::Result<Ended> {
    let [output, errors] = pipes;
    for pipe in pipes {
        fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    loop {
        // Asked first: what it wrote before its end is in the pipes then.
        let ended = child.poll()?;
        let more = [drain(output, &mut said.output, limit)?, drain(errors, &mut said.errors, limit)?];
        if said.output.len() > limit {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
        said.errors.truncate(limit);
        if let Some(ended) = ended {
            return Ok(ended);
        }
        if Instant::now() >= deadline {
            return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
        }
        // A pipe at its end is always ready, and nobody would wait.
        let open = pipes.iter().zip(more).filter(|(_, more)| *more);
        let mut fds: Vec<_> = open.map(|(pipe, _)| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)).collect();
        match poll(&mut fds, PollTimeout::from(TICK)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Takes what is there, at most a little more than the limit; says whether more can come.
fn drain(mut pipe: &PipeReader, into: &mut Vec<u8>, limit: usize) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(n) => into.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        if into.len() > limit {
            return Ok(true);
        }
    }
}

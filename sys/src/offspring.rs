//! Children that a process had before it became this program.

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use std::io;

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

//! A process by its directory in proc(5), which is this process's alone: a number may be given to another one.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;

/// A child of another process.
#[derive(Debug)]
pub struct Leader(File);

impl Leader {
    /// Opens the child with this number of the process `parent`.
    ///
    /// # Errors
    /// As open(2); [`io::ErrorKind::NotFound`] where the number is that of no child of `parent`.
    pub fn open(number: i32, parent: i32) -> io::Result<Self> {
        let leader = Leader(File::open(format!("/proc/{number}"))?);
        let status = fs::read_to_string(format!("/proc/{}/status", leader.name()))?;
        let above = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse::<i32>().ok());
        if above == Some(parent) { Ok(leader) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// Its directory below `/proc`, as this process has it. What is read below it fails with `ESRCH` when the process is gone.
    pub fn name(&self) -> String {
        format!("self/fd/{}", self.0.as_raw_fd())
    }

    /// The same for a child of this process that was forked before.
    pub fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Ends it.
    ///
    /// # Errors
    /// As pidfd_send_signal(2), which takes such a directory, too.
    pub fn kill(&self) -> io::Result<()> {
        let (directory, no_info) = (self.0.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
        // SAFETY: a descriptor that is open, a number, a null pointer, which stands for what kill(2) would say, and no flags.
        let done =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, directory, libc::SIGKILL, no_info, 0) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(test)]
mod tests {
    use super::Leader;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    #[test]
    fn a_child_is_ended_by_its_directory_and_another_ones_is_not_opened() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("a child");
        let number = i32::try_from(child.id()).expect("a number");
        let own = i32::try_from(std::process::id()).expect("a number");
        assert_eq!(Leader::open(number, 1).expect_err("another parent").kind(), std::io::ErrorKind::NotFound);
        let leader = Leader::open(number, own).expect("a child of this process");
        leader.kill().expect("it is there");
        assert_eq!(child.wait().expect("its end").signal(), Some(libc::SIGKILL));
        assert_eq!(leader.kill().expect_err("it is gone").raw_os_error(), Some(libc::ESRCH));
        std::fs::read_to_string(format!("/proc/{}/status", leader.name())).expect_err("it is gone");
    }
}

//! Starting the process of a job: in its own session, bound to our life, with nothing inherited by accident.
//!
//! The launcher calls this as the mapped user, with one thread. What the job gets is its arguments, its
//! environment, three standard streams and the descriptors named; default signals, none blocked. When the
//! launcher dies in any way, the kernel kills the job's first process.

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{Pid, getpid, getppid, setsid};
use nunbird_sys::{exec, process};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// The number of the first descriptor passed.
pub const FIRST_FD: RawFd = 3;
/// Copies lie from here on, where no descriptor passed can overwrite them.
const HIGH: RawFd = 16;
/// At most this many descriptors can be passed.
const MOST: usize = 8;

/// Starts the command; the first of `passed` becomes descriptor 3 of the child, the next one 4, and so on.
///
/// The child leads a new session and process group, so its process id names both.
///
/// # Errors
/// As fork(2) and execve(2); `ESRCH` when this process ended meanwhile; `E2BIG` for more than eight descriptors.
pub fn spawn(mut command: Command, passed: &[BorrowedFd<'_>]) -> io::Result<Child> {
    if passed.len() > MOST {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    let copies = passed.iter().map(|fd| exec::duplicate_from(fd, HIGH)).collect::<io::Result<Vec<_>>>()?;
    // The standard library reports a failed execve over a pipe that it opens at the lowest free number. These
    // fill the low numbers until then, so that the child does not overwrite that pipe.
    let _placeholders =
        passed.iter().map(|fd| exec::duplicate_from(fd, FIRST_FD)).collect::<io::Result<Vec<_>>>()?;
    let sources: Vec<RawFd> = copies.iter().map(AsRawFd::as_raw_fd).collect();
    let parent = getpid();
    let prepare = move || in_child(&sources, parent);
    // SAFETY: `in_child` makes only system calls and allocates nothing, so it is sound between fork and execve
    // whatever other threads held (signal-safety(7)). The descriptors it names live until `spawn` returns.
    unsafe { command.pre_exec(prepare) };
    command.spawn()
}

/// Everything between fork and execve. Async-signal-safe: system calls on numbers, no allocation, no locks.
fn in_child(sources: &[RawFd], parent: Pid) -> io::Result<()> {
    setsid()?;
    set_pdeathsig(Signal::SIGKILL)?;
    // A parent that ended before the line above would never be noticed.
    if getppid() != parent {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    let mut target = FIRST_FD;
    for source in sources {
        // SAFETY: dup2 takes numbers. It replaces a placeholder, and no source lies below `HIGH`.
        if unsafe { libc::dup2(*source, target) } < 0 {
            return Err(io::Error::last_os_error());
        }
        target += 1;
    }
    // Marked and not closed: the pipe of the standard library must live until execve.
    process::close_on_exec_from(target)?;
    for signal in 1..=64 {
        // SAFETY: SIG_DFL installs no handler. KILL, STOP and libc's own two answer EINVAL, rightly.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{in_child, spawn};
    use nix::unistd::Pid;
    use std::os::fd::AsFd;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    fn output(script: &str, passed: &[std::os::fd::BorrowedFd<'_>]) -> String {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped());
        let child = spawn(command, passed).expect("spawn");
        String::from_utf8(child.wait_with_output().expect("wait").stdout).expect("text")
    }

    #[test]
    fn the_child_gets_the_descriptors_named_in_order_and_no_others() {
        let open = || std::fs::File::open("/dev/null").expect("null");
        let (_low, _more) = (open(), open());
        let file = nunbird_sys::exec::sealed(c"first", b"first").expect("memory file");
        let null = open();
        // What a shell has open or blocked itself changes while it starts programs, so ls(1) takes its place; its own
        // directory is the last.
        let text = output("cat <&3; echo; exec ls /proc/self/fd", &[file.as_fd(), null.as_fd()]);
        assert_eq!(text, "first\n0\n1\n2\n3\n4\n5\n");
    }

    #[test]
    fn the_child_leads_its_own_session_with_default_unblocked_signals() {
        let text = output("exec cat /proc/self/stat /proc/self/status", &[]);
        // Process id, then behind the name and the state: parent, process group, session (proc_pid_stat(5)).
        let stat: Vec<&str> = text.lines().next().expect("line").split(' ').collect();
        assert!(stat[0] == stat[4] && stat[0] == stat[5], "{text}");
        for line in text.lines().filter(|line| line.starts_with("SigBlk") || line.starts_with("SigIgn")) {
            let set = line.split('\t').nth(1).map(|hex| u64::from_str_radix(hex, 16).expect("hex"));
            // 32 and 33 are the C library's own, which its signal(3) leaves alone.
            assert_eq!(set.expect("set") & !(0b11 << 31), 0, "{text}");
        }
    }

    #[test]
    fn a_program_that_cannot_be_started_is_an_error_here() {
        let null = std::fs::File::open("/dev/null").expect("null");
        let error =
            spawn(Command::new("/nonexistent/shell"), &[null.as_fd(), null.as_fd()]).expect_err("none");
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    }

    #[test]
    fn a_child_of_an_ended_parent_does_not_start() {
        let mut command = Command::new("/bin/true");
        // SAFETY: `in_child` makes system calls only.
        unsafe { command.pre_exec(|| in_child(&[], Pid::from_raw(1 << 30))) };
        let error = command.spawn().expect_err("no process has this parent");
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
    }
}

//! Putting the own process in order: what a caller can leave behind for a program with more privilege.
//!
//! Descriptors, signal dispositions, the signal mask, resource limits, umask and working directory all pass
//! through execve(2). A caller who controls them must not control a privileged program with them. Resource limits and
//! priorities have files of their own, `rlimits.rs` and `priority.rs`.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::{Mode, umask};
use std::io;
use std::os::fd::RawFd;

/// Closes every descriptor from 3 on. To be called first of all, while nothing of this process has one.
///
/// Marking them to be closed by execve(2) would not do: the shepherd stays and never calls it.
///
/// # Errors
/// As close_range(2); kernels before 5.9 do not have it and are walked one by one.
pub fn close_inherited() -> io::Result<()> {
    // SAFETY: no pointer is passed. Nothing in this process owns a descriptor above 2 yet: the caller calls this before
    // it opens anything, and the standard library keeps none.
    let rc = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    if rc == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() != Some(libc::ENOSYS) {
        return Err(error);
    }
    // The hard limit: a caller may have lowered the soft one below descriptors that are open.
    let (_, limit) = getrlimit(Resource::RLIMIT_NOFILE)?;
    for fd in 3..RawFd::try_from(limit.min(1 << 20)).unwrap_or(1 << 20) {
        // SAFETY: as above; EBADF for one that is not open is expected.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

/// Marks every descriptor from `first` on to be closed by the next execve(2).
///
/// # Errors
/// As close_range(2); kernels before 5.11 do not have it with this flag and are walked one by one.
pub fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    let start = u32::try_from(first).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: no pointer is passed, and marking a descriptor changes nothing for its owner in this process.
    let rc = unsafe { libc::syscall(libc::SYS_close_range, start, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if rc == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if !matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) {
        return Err(error);
    }
    let (_, limit) = getrlimit(Resource::RLIMIT_NOFILE)?;
    for fd in first..RawFd::try_from(limit.min(1 << 20)).unwrap_or(1 << 20) {
        // SAFETY: F_SETFD takes a number, no pointer; EBADF for a closed descriptor is expected.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// Closes every descriptor but one. For a forked child that will only write to that one and end.
///
/// # Errors
/// As close_range(2); `ENOSYS` before Linux 5.9.
pub fn close_all_but(keep: RawFd) -> io::Result<()> {
    let keep = u32::try_from(keep).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    for (first, last) in [(0, keep.checked_sub(1)), (keep + 1, Some(u32::MAX))] {
        let Some(last) = last else { continue };
        // SAFETY: no pointer is passed. Files of this process that still own one of the numbers are never used
        // again: the child ends without unwinding or dropping them.
        if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Sets every signal to its default action and blocks none.
///
/// A disposition of "ignore" and a blocked signal survive execve(2): a job whose `TERM` was ignored by its
/// caller could not be cancelled, and one whose `CHLD` was ignored could not be waited for.
///
/// # Errors
/// As sigprocmask(2).
pub fn default_signals() -> io::Result<()> {
    default_signals_but(&[])
}

/// As [`default_signals`], but ignores these, also for the programs that this process starts. One that waits behind a mask is dropped, and
/// there is no moment in which it would act.
///
/// # Errors
/// As sigprocmask(2).
pub fn default_signals_but(ignored: &[i32]) -> io::Result<()> {
    // The kernel's `struct sigaction`, all zero: SIG_DFL, no flags, no mask. By the system call, because libc
    // refuses to touch 32 and 33, which it keeps for threads and which a caller can leave ignored all the same.
    let default = [0_u64; 4];
    for signal in (1..=64).filter(|signal| !ignored.contains(signal)) {
        // SAFETY: `default` is readable and no shorter than the kernel's structure; SIG_DFL installs no handler, so
        // no code of ours can run in signal context. KILL and STOP answer EINVAL, which is right for them.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, i64::from(signal), default.as_ptr(), 0_usize, 8_usize)
        };
    }
    ignore(ignored);
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// The signals by which processes ask each other to end or to do something: ignored by work that must be done although every process
/// around it is asked to end. `KILL` ends it.
pub const REQUESTS_TO_END: [i32; 6] =
    [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2];

/// Ignores `PIPE` and `XFSZ`, so that neither a closed standard error nor a limit on file sizes can end the program
/// between two steps: the write fails instead, and is a refusal.
pub fn ignore_failed_writes() {
    ignore(&[libc::SIGPIPE, libc::SIGXFSZ]);
}

fn ignore(signals: &[i32]) {
    for &signal in signals {
        // SAFETY: SIG_IGN installs no handler.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Lets only root read this process's memory, environment and descriptors, or trace it (prctl(2)).
///
/// # Errors
/// As prctl(2).
pub fn forbid_inspection() -> io::Result<()> {
    Ok(nix::sys::prctl::set_dumpable(false)?)
}

/// Does something that needs this process's own files of /proc, which are root's after [`forbid_inspection`] (proc(5)), and
/// forbids inspection again. Only for a process without privilege: only processes of its own account may look into it meanwhile.
///
/// # Errors
/// As prctl(2), and what it does.
pub fn while_inspection_is_allowed(act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    nix::sys::prctl::set_dumpable(true)?;
    let done = act();
    forbid_inspection()?;
    done
}

/// Asks for this signal when the parent ends. To be called after the last change of ids, which clears it.
///
/// # Errors
/// As prctl(2); `ESRCH` when the parent, known by its process id, has ended already.
pub fn die_with_parent(signal: i32, parent: i32) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::try_from(signal)?)?;
    if nix::unistd::getppid().as_raw() == parent {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::ESRCH))
    }
}

/// Asks for this signal when the parent ends, and also, where the parent has threads, when the one ends that made this process
/// (PR_SET_PDEATHSIG(2const)): [`parent`] says which. To be called after the last change of ids, which clears it.
///
/// # Errors
/// As prctl(2).
pub fn signal_at_parents_end(signal: i32) -> io::Result<()> {
    Ok(nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::try_from(signal)?)?)
}

/// The process id of the parent: another one once it has ended.
pub fn parent() -> i32 {
    nix::unistd::getppid().as_raw()
}

/// Makes setuid bits and file capabilities of any later program inert (prctl(2), `PR_SET_NO_NEW_PRIVS`).
///
/// # Errors
/// As prctl(2).
pub fn no_new_privileges() -> io::Result<()> {
    Ok(nix::sys::prctl::set_no_new_privs()?)
}

/// Whether [`no_new_privileges`] is in force, by this process or by one before it.
pub fn has_no_new_privileges() -> bool {
    nix::sys::prctl::get_no_new_privs().unwrap_or(false)
}

/// Bounds the memory of this process, in bytes of address space.
///
/// # Errors
/// As setrlimit(2).
pub fn bound_memory(bytes: u64) -> io::Result<()> {
    setrlimit(Resource::RLIMIT_AS, bytes, bytes)?;
    Ok(setrlimit(Resource::RLIMIT_DATA, bytes, bytes)?)
}

/// Ends this process by `ALRM` after so many seconds, also after an execve(2): for a child that no process may be able to
/// signal.
pub fn end_after(seconds: u32) {
    nix::unistd::alarm::set(seconds);
}

/// Process id of this process.
pub fn id() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// Starts a new session, away from the caller's terminal and process group.
///
/// # Errors
/// As setsid(2).
pub fn new_session() -> io::Result<()> {
    nix::unistd::setsid()?;
    Ok(())
}

/// Sets the umask, in octal.
pub fn set_umask(mask: u32) {
    umask(Mode::from_bits_truncate(mask));
}

/// Opens `/dev/null` as standard input.
///
/// # Errors
/// As open(2) and dup2(2).
pub fn null_stdin() -> io::Result<()> {
    let null = std::fs::File::open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{die_with_parent, parent};

    #[test]
    fn whose_parent_has_ended_already_is_not_left_without_a_signal_at_its_end() {
        // Of no harm, should the parent of the tests really end.
        let signal = libc::SIGCONT;
        assert!(die_with_parent(signal, parent()).is_ok());
        let other = die_with_parent(signal, parent() + 1).expect_err("another parent");
        assert_eq!(other.raw_os_error(), Some(libc::ESRCH));
    }
}

//! Putting the own process in order: what a caller can leave behind for a program with more privilege.
//!
//! Descriptors, signal dispositions, the signal mask, resource limits, umask and working directory all pass
//! through execve(2). A caller who controls them must not control a privileged program with them.

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::{Mode, umask};
use std::io;
use std::os::fd::RawFd;

/// Resource limits as the caller had them, to be given to the job.
#[derive(Debug, Clone)]
pub struct Limits(Vec<(Resource, u64, u64)>);

/// The limits that could make a privileged write fail or end the program half-way (sudo's `unlimit_sudo`), and the least
/// that is accepted where one cannot be raised, in bytes and in descriptors.
///
/// With less memory lookups could fail in part: glibc takes a name service whose library finds no room for one that knows
/// nobody, and a site's program may take a helper that did not start for a "no".
const RAISED: [(Resource, u64); 6] = [
    (Resource::RLIMIT_AS, 512 << 20),
    (Resource::RLIMIT_CPU, 0),
    (Resource::RLIMIT_DATA, 512 << 20),
    (Resource::RLIMIT_FSIZE, 0),
    (Resource::RLIMIT_NOFILE, 256),
    (Resource::RLIMIT_STACK, 1 << 20),
];

/// Raises the limits in the way as far as allowed, and forbids core dumps.
///
/// # Errors
/// When a limit cannot be read, or cannot be raised to the least that is accepted. Where nothing is asked of one, what fails
/// by it fails closed.
pub fn raise_limits() -> io::Result<Limits> {
    let mut before = Vec::new();
    for (resource, least) in RAISED {
        let (soft, hard) = getrlimit(resource)?;
        before.push((resource, soft, hard));
        if setrlimit(resource, RLIM_INFINITY, RLIM_INFINITY).is_err() {
            setrlimit(resource, hard, hard)?;
            if hard < least {
                let trouble = format!("the hard {resource:?} is {hard}; give the runner {least} at least");
                return Err(io::Error::other(trouble));
            }
        }
    }
    let (soft, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    before.push((Resource::RLIMIT_CORE, soft, hard));
    setrlimit(Resource::RLIMIT_CORE, 0, hard)?;
    Ok(Limits(before))
}

impl Limits {
    /// Gives the job what the caller had.
    ///
    /// # Errors
    /// As setrlimit(2).
    pub fn restore(&self) -> io::Result<()> {
        for (resource, soft, hard) in &self.0 {
            setrlimit(*resource, *soft, *hard)?;
        }
        Ok(())
    }
}

/// Raises the soft limit of the stack to the hard one. A file with capabilities starts with a stack of 8 MiB on some systems
/// (`_STK_LIM` of the kernel's `begin_new_exec`, fs/exec.c), and its children inherit that.
///
/// # Errors
/// As setrlimit(2).
pub fn raise_stack_limit() -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_STACK)?;
    Ok(setrlimit(Resource::RLIMIT_STACK, hard, hard)?)
}

/// Limits that a site sets for the processes of its jobs, soft and hard alike; what is not said is the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Descriptors.
    pub nofile: Option<u64>,
    /// Processes and threads of the user.
    pub nproc: Option<u64>,
    /// Bytes of a file.
    pub fsize: Option<u64>,
    /// Bytes of a core dump.
    pub core: Option<u64>,
}

impl Limits {
    /// These limits with a site's over them.
    ///
    /// # Errors
    /// As getrlimit(2), and `EPERM` for one above what this process could set.
    pub fn bounded(&self, bounds: Bounds) -> io::Result<Limits> {
        let wanted = [
            (Resource::RLIMIT_NOFILE, bounds.nofile),
            (Resource::RLIMIT_NPROC, bounds.nproc),
            (Resource::RLIMIT_FSIZE, bounds.fsize),
            (Resource::RLIMIT_CORE, bounds.core),
        ];
        let mut limits = self.clone();
        for (resource, value) in wanted {
            let Some(value) = value else { continue };
            let (_, hard) = getrlimit(resource)?;
            if value > hard {
                let trouble =
                    format!("{resource:?} cannot be {value}: the hard limit of gitlab-runner is {hard}");
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, trouble));
            }
            limits.0.retain(|(known, ..)| *known != resource);
            limits.0.push((resource, value, value));
        }
        Ok(limits)
    }
}

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
    // The kernel's `struct sigaction`, all zero: SIG_DFL, no flags, no mask. By the system call, because libc
    // refuses to touch 32 and 33, which it keeps for threads and which a caller can leave ignored all the same.
    let default = [0_u64; 4];
    for signal in 1..=64_usize {
        // SAFETY: `default` is readable and no shorter than the kernel's structure; SIG_DFL installs no handler, so
        // no code of ours can run in signal context. KILL and STOP answer EINVAL, which is right for them.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), 0_usize, 8_usize) };
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// Ignores `PIPE` and `XFSZ`, so that neither a closed standard error nor a limit on file sizes can end the program
/// between two steps: the write fails instead, and is a refusal.
pub fn ignore_failed_writes() {
    for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
        // SAFETY: SIG_IGN installs no handler.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Lets nobody but root read this process's memory, environment and descriptors, or trace it (prctl(2)).
///
/// # Errors
/// As prctl(2).
pub fn forbid_inspection() -> io::Result<()> {
    Ok(nix::sys::prctl::set_dumpable(false)?)
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

/// Lets this process have no new files, processes or core dumps, and one second of processor time.
///
/// # Errors
/// As setrlimit(2).
pub fn forbid_resources() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_NPROC, 0, 0)?;
    setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?;
    setrlimit(Resource::RLIMIT_NOFILE, 0, 0)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    setrlimit(Resource::RLIMIT_CPU, 1, 1)?;
    Ok(())
}

/// Bounds what a site's own program may use: so many seconds of processor time, 16 MiB for a file, 256 descriptors, as many
/// processes of its user as make a fork bomb fail, no core dumps.
///
/// # Errors
/// As setrlimit(2).
pub fn bound_resources(seconds: u64) -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CPU, seconds, seconds)?;
    setrlimit(Resource::RLIMIT_FSIZE, 16 << 20, 16 << 20)?;
    setrlimit(Resource::RLIMIT_NOFILE, 256, 256)?;
    setrlimit(Resource::RLIMIT_NPROC, 1024, 1024)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(())
}

/// Ends this process by `ALRM` after so many seconds, also after an execve(2): for a child that nobody may be able to
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

/// The machine's name up to the first dot, letters, digits and `-` only; `localhost` when there is none.
pub fn short_host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    let name = name.to_string_lossy();
    let first = name.split('.').next().unwrap_or("");
    let plain: String = first.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(64).collect();
    if plain.is_empty() { "localhost".to_owned() } else { plain }
}

/// Sets the out-of-memory killer's score to 0 (proc_pid_oom_score_adj(5)): a job that inherits its runner's -1000
/// cannot be killed by it.
///
/// # Errors
/// As open(2) and write(2), when the score is below 0. One above 0 that the kernel does not let go is kept, as is
/// any in a process without `/proc`.
pub fn plain_oom_score() -> io::Result<()> {
    const FILE: &str = "/proc/self/oom_score_adj";
    let score = match std::fs::read_to_string(FILE) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let protects = score.trim_start().starts_with('-');
    match std::fs::write(FILE, "0") {
        Err(e) if protects => Err(e),
        _ => Ok(()),
    }
}

/// Sets the umask, in octal.
pub fn set_umask(mask: u32) {
    umask(Mode::from_bits_truncate(mask));
}

/// The umask, in octal. It is not changed, but for a moment of this one thread.
pub fn current_umask() -> u32 {
    let now = umask(Mode::from_bits_truncate(0o077));
    umask(now);
    now.bits()
}

/// Ends this process by this signal, as another process was that it stands for.
pub fn end_by(signal: i32) -> ! {
    // SAFETY: SIG_DFL installs no handler, and neither call takes a pointer.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
        // One that is ignored by default, or blocked.
        libc::_exit(128_i32.saturating_add(signal))
    }
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

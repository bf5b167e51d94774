//! What is left to the shepherd: waiting for its child, passing signals to it, reading counters, and writing the end of the stage.

use nunbird_sys::{process, syscall};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Op,
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::io;

/// What the shepherd calls whatever its arguments are: memory and time, waiting and signals, its open files, and
/// the sockets of syslog and journald, which it may have to open anew.
const WATCHING: [i64; 43] = [
    syscall::BIND,
    syscall::BRK,
    syscall::CLOCK_GETTIME,
    syscall::CLOCK_NANOSLEEP,
    syscall::CLOSE,
    syscall::CONNECT,
    syscall::EXIT,
    syscall::EXIT_GROUP,
    syscall::FCNTL,
    syscall::FDATASYNC,
    syscall::FLOCK,
    syscall::FSTAT,
    syscall::FUTEX,
    syscall::GETPID,
    syscall::GETPPID,
    syscall::GETRANDOM,
    syscall::GETSOCKOPT,
    syscall::GETTID,
    syscall::LSEEK,
    syscall::MADVISE,
    syscall::MREMAP,
    syscall::MUNMAP,
    syscall::NANOSLEEP,
    syscall::NEWFSTATAT,
    syscall::PPOLL,
    syscall::PREAD64,
    syscall::READ,
    syscall::RECVFROM,
    syscall::RESTART_SYSCALL,
    syscall::RT_SIGACTION,
    syscall::RT_SIGPROCMASK,
    syscall::RT_SIGRETURN,
    syscall::RT_SIGTIMEDWAIT,
    syscall::SENDTO,
    syscall::SETSOCKOPT,
    syscall::SIGALTSTACK,
    syscall::SOCKET,
    syscall::STATX,
    syscall::UNAME,
    syscall::WAIT4,
    syscall::WAITID,
    syscall::WRITE,
    syscall::WRITEV,
];
/// Bits of open(2) that ask for more than reading.
const WRITES: u64 = 0o1 | 0o2 | 0o100 | 0o1000;
/// `PROT_EXEC` of mmap(2).
const EXECUTES: u64 = 0x4;
/// `FIONBIO` of ioctl(2): the standard library's way to make a socket not wait.
const NOT_WAITING: u64 = 0x5421;

/// Leaves the shepherd what it needs to watch this child: it starts nothing, traces no process, changes no ids, opens files for
/// reading alone and signals no other process. Every other system call fails with `EPERM`. To be called when it has become the
/// shepherd.
///
/// # Errors
/// When the kernel does not take the filter; the child must then end.
pub(crate) fn watch_only(child: i32) -> io::Result<()> {
    process::no_new_privileges()?;
    let program = watching(child).map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

fn watching(child: i32) -> Result<BpfProgram, BackendError> {
    let only = |argument, op, value| {
        SeccompRule::new(vec![SeccompCondition::new(argument, Length::Dword, op, value)?])
            .map(|rule| vec![rule])
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = WATCHING.iter().map(|n| (*n, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    rules.insert(syscall::POLL, Vec::new());
    rules.insert(syscall::IOCTL, only(1, Op::Eq, NOT_WAITING)?);
    rules.insert(syscall::KILL, only(0, Op::Eq, u64::from(child.cast_unsigned()))?);
    rules.insert(syscall::MMAP, only(2, Op::MaskedEq(EXECUTES), 0)?);
    rules.insert(syscall::MPROTECT, only(2, Op::MaskedEq(EXECUTES), 0)?);
    rules.insert(syscall::OPENAT, only(2, Op::MaskedEq(WRITES), 0)?);
    filter(rules)
}

fn filter(rules: BTreeMap<i64, Vec<SeccompRule>>) -> Result<BpfProgram, BackendError> {
    let refuse = SeccompAction::Errno(syscall::EPERM);
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, refuse, SeccompAction::Allow, architecture)?.try_into()
}

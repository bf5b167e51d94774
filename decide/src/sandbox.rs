//! What is left to the two processes: computing, and what is open already.
//!
//! Untrusted bytes that take control of the verifier gain a process that owns no file, can open none and can signal no process; every
//! other system call fails with `EPERM`. The decider may send and receive descriptors in addition, and print.

use nunbird_sys::{process, syscall};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use std::io;

/// Memory, time, randomness (the signature code may ask), reading and writing what is open, and ending.
const VERIFIER: [i64; 21] = [
    syscall::BRK,
    syscall::CLOCK_GETTIME,
    syscall::CLOSE,
    syscall::EXIT,
    syscall::EXIT_GROUP,
    syscall::FSTAT,
    syscall::FUTEX,
    syscall::GETRANDOM,
    syscall::LSEEK,
    syscall::MADVISE,
    syscall::MMAP,
    syscall::MPROTECT,
    syscall::MREMAP,
    syscall::MUNMAP,
    syscall::PREAD64,
    syscall::READ,
    syscall::RESTART_SYSCALL,
    syscall::RT_SIGRETURN,
    syscall::SIGALTSTACK,
    syscall::STATX,
    syscall::WRITE,
];
/// What the decider needs beside them: descriptors through its socket, a bound on how long it waits, its host's name, its process id.
const DECIDER: [i64; 8] = [
    syscall::FCNTL,
    syscall::GETPID,
    syscall::RECVFROM,
    syscall::RECVMSG,
    syscall::SENDTO,
    syscall::SETSOCKOPT,
    syscall::UNAME,
    syscall::WRITEV,
];

/// How much processor time the decider may use: a policy of ten thousand rules takes a twentieth of one.
const SECONDS: u64 = 30;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Decider,
    Verifier,
}

/// Gives up everything else. To be called before anything is read.
///
/// # Errors
/// When any step fails; the process must end then.
pub(crate) fn enter(part: Part) -> io::Result<()> {
    process::forbid_inspection()?;
    process::no_new_privileges()?;
    match part {
        Part::Verifier => process::forbid_resources()?,
        // It gets descriptors through its socket, and prints to what may be a file.
        Part::Decider => process::forbid_processes(SECONDS)?,
    }
    let program = program(part).map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

fn program(part: Part) -> Result<BpfProgram, seccompiler::BackendError> {
    let more: &[i64] = if part == Part::Decider { &DECIDER } else { &[] };
    let rules = VERIFIER.iter().chain(more).map(|number| (*number, Vec::new())).collect();
    let refuse = SeccompAction::Errno(syscall::EPERM);
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, refuse, SeccompAction::Allow, architecture)?.try_into()
}

//! What is left to the two processes: computing, and what is open already.
//!
//! Untrusted bytes that take control of the verifier gain a process that owns no file, can open none and can signal no process; every
//! other system call fails with `EPERM`. The decider may send and receive descriptors in addition, and print.

use nunbird_filter::{ALLOW, Filter, Rule};
use nunbird_sys::{process, syscall};
use nunbird_unprivileged::process::{forbid_processes, forbid_resources};
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
        Part::Verifier => forbid_resources()?,
        // It gets descriptors through its socket, and prints to what may be a file.
        Part::Decider => forbid_processes(SECONDS)?,
    }
    filter(part).enforce()
}

fn filter(part: Part) -> Filter {
    let more: &[i64] = if part == Part::Decider { &DECIDER } else { &[] };
    let rules = VERIFIER.iter().chain(more).map(|call| Rule { call: *call, arguments: Vec::new() });
    Filter { rules: rules.collect(), answer: ALLOW }
}

#[cfg(test)]
mod tests {
    use super::{Part, filter};
    use nunbird_filter_proof::prove;

    const VERIFIER: &str = "brk clock_gettime close exit exit_group fstat futex getrandom lseek madvise mmap mprotect mremap munmap \
        pread64 read restart_syscall rt_sigreturn sigaltstack statx write";
    const DECIDER: &str = "fcntl getpid recvfrom recvmsg sendto setsockopt uname writev";

    #[test]
    fn on_every_architecture_a_verifier_computes_and_a_decider_takes_descriptors_as_well() {
        prove(&filter(Part::Verifier), |call| VERIFIER.split_whitespace().any(|one| call.is(one)));
        prove(&filter(Part::Decider), |call| {
            VERIFIER.split_whitespace().chain(DECIDER.split_whitespace()).any(|one| call.is(one))
        });
    }
}

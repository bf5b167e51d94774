//! What is left to the shepherd: waiting for its child, passing signals to it, reading counters, and writing the end of the stage.

use nunbird_filter::{ALLOW, Filter, Is, Rule};
use nunbird_sys::syscall;
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
const WRITES: u32 = 0o1 | 0o2 | 0o100 | 0o1000;
/// `PROT_EXEC` of mmap(2).
const EXECUTES: u32 = 0x4;

/// Leaves the shepherd what it needs to watch this child: it starts nothing, traces no process, changes no ids, opens files for
/// reading alone and signals no other process. Every other system call fails with `EPERM`. To be called when it has become the
/// shepherd.
///
/// # Errors
/// When the kernel does not take the filter; the child must then end.
pub(crate) fn watch_only(child: i32) -> io::Result<()> {
    watching(child).enforce()
}

fn watching(child: i32) -> Filter {
    let only = |call, argument, is| Rule { call, arguments: vec![(argument, is)] };
    let mut rules: Vec<Rule> =
        WATCHING.iter().map(|call| Rule { call: *call, arguments: Vec::new() }).collect();
    rules.extend([
        only(syscall::IOCTL, 1, Is::OneOf(vec![syscall::FIONBIO])),
        only(syscall::KILL, 0, Is::OneOf(vec![child.cast_unsigned()])),
        only(syscall::MMAP, 2, Is::Without(EXECUTES)),
        only(syscall::MPROTECT, 2, Is::Without(EXECUTES)),
        only(syscall::OPENAT, 2, Is::Without(WRITES)),
    ]);
    Filter { rules, answer: ALLOW }
}

#[cfg(test)]
mod tests {
    use super::{EXECUTES, WRITES, watching};
    use nunbird_filter_proof::{Call, prove};

    const ALWAYS: &str = "bind brk clock_gettime clock_nanosleep close connect exit exit_group fcntl fdatasync flock fstat futex getpid \
        getppid getrandom getsockopt gettid lseek madvise mremap munmap nanosleep newfstatat ppoll pread64 read recvfrom \
        restart_syscall rt_sigaction rt_sigprocmask rt_sigreturn rt_sigtimedwait sendto setsockopt sigaltstack socket statx uname \
        wait4 waitid write writev";

    #[test]
    fn on_every_architecture_a_shepherd_watches_its_child_and_does_nothing_else() {
        let child = 4321;
        prove(&watching(child), |call: &Call| match call.name {
            "ioctl" => call.low(1) == call.request("FIONBIO"),
            "kill" => call.low(0) == 4321,
            "mmap" | "mprotect" => call.low(2) & EXECUTES == 0,
            "openat" => call.low(2) & WRITES == 0,
            name => ALWAYS.split_whitespace().any(|always| call.is(always)) && !name.is_empty(),
        });
    }
}

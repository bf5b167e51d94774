//! What is left to the worker: computing, and one pipe to write to.
//!
//! The worker decodes bytes that strangers wrote. Should they take it over, they find a process that owns no
//! file, may open none, may signal nobody, and whose every other system call fails with `EPERM`.

use nunbird_sys::kernel::{Kernel, Linux};
use nunbird_sys::process;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use std::collections::BTreeMap;
use std::io;

/// A uid and gid that no account has and no file belongs to: below 2^31, far above what sites assign.
pub(crate) const NOBODY_AT_ALL: u32 = 2_147_483_632;

/// How long the worker may live; a sound one needs milliseconds.
const SECONDS: u32 = 3;

/// Memory, time, randomness (the signature code may ask), writing the answer, and ending.
/// Numbers by name from <asm/unistd.h>; `libc` has them for each architecture.
const ALLOWED: [i64; 15] = [
    syscall::BRK,
    syscall::CLOCK_GETTIME,
    syscall::CLOSE,
    syscall::EXIT,
    syscall::EXIT_GROUP,
    syscall::FUTEX,
    syscall::GETRANDOM,
    syscall::MADVISE,
    syscall::MMAP,
    syscall::MPROTECT,
    syscall::MREMAP,
    syscall::MUNMAP,
    syscall::RT_SIGRETURN,
    syscall::SIGALTSTACK,
    syscall::WRITE,
];

use nunbird_sys::syscall;

/// Gives up everything. To be called in the forked worker, before it looks at its input.
///
/// # Errors
/// When any step fails; the worker must then end without an answer.
pub(crate) fn enter(privileged: bool) -> io::Result<()> {
    // The filter below lets it neither block nor reset this.
    process::end_after(SECONDS);
    if privileged {
        Linux.set_groups(&[])?;
        Linux.set_gids(NOBODY_AT_ALL, NOBODY_AT_ALL, NOBODY_AT_ALL)?;
        Linux.set_uids(NOBODY_AT_ALL, NOBODY_AT_ALL, NOBODY_AT_ALL)?;
    }
    Linux.clear_capabilities()?;
    // After the last change of ids, which undoes it where fs.suid_dumpable is 1.
    process::forbid_inspection()?;
    process::no_new_privileges()?;
    process::forbid_resources()?;
    let program = program().map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

fn program() -> Result<BpfProgram, seccompiler::BackendError> {
    let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> =
        ALLOWED.iter().map(|n| (*n, Vec::new())).collect();
    let refuse = SeccompAction::Errno(syscall::EPERM);
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, refuse, SeccompAction::Allow, architecture)?.try_into()
}

//! What is left to the worker: computing, and one pipe to write to.
//!
//! The worker decodes bytes that strangers wrote. Should they take it over, they find a process that owns no
//! file, may open none, may signal nobody, and whose every other system call fails with `EPERM`.

use crate::privilege::Privilege;
use nunbird_sys::identity::FileIdentity;
use nunbird_sys::kernel::{Kernel, Linux};
use nunbird_sys::{priority, process};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use std::collections::BTreeMap;
use std::io;

/// A uid and gid that no account has and no file belongs to: below 2^31, far above what sites assign.
pub(crate) const NOBODY_AT_ALL: u32 = 2_147_483_632;

/// The memory of a child that works on what strangers wrote, in bytes of address space. The largest job responses need half
/// of it (`worker.rs`: the_largest_job_responses_fit_into_the_workers_memory).
const MEMORY: u64 = 256 << 20;

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

/// Bounds the memory of a forked child that works on what strangers wrote, and has the out-of-memory killer take it first.
/// To be called before the child changes its ids.
///
/// # Errors
/// As setfsuid(2), write(2) to `oom_score_adj`, and setrlimit(2).
pub(crate) fn bound_memory(privilege: Privilege) -> io::Result<()> {
    if privilege.source.is_privileged() {
        let keeper = privilege.keeper();
        let _identity = FileIdentity::assume(keeper.uid, keeper.gid)?;
        priority::first_for_the_oom_killer()?;
    } else {
        process::while_inspection_is_allowed(priority::first_for_the_oom_killer)?;
    }
    process::bound_memory(MEMORY)
}

/// Gives up everything. To be called in the forked worker, before it looks at its input.
///
/// # Errors
/// When any step fails; the worker must then end without an answer.
pub(crate) fn enter(privilege: Privilege) -> io::Result<()> {
    // The filter below lets it neither block nor reset this.
    process::end_after(SECONDS);
    bound_memory(privilege)?;
    if privilege.source.is_privileged() {
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

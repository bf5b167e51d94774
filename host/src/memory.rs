//! The memory of a forked child that works on what strangers wrote.

use crate::rights::Rights;
use nunbird_files::identity::{Caller, acting_as};
use nunbird_sys::{priority, process};
use std::io;

/// In bytes of address space. The largest job responses need half of it (`worker.rs`:
/// the_largest_job_responses_fit_into_the_workers_memory).
const MEMORY: u64 = 256 << 20;

/// Bounds the address space of this process, and has the out-of-memory killer take it first. To be called in the child, before it changes its
/// ids; not for one that waits while a job runs, which could choose the moment of its end.
///
/// # Errors
/// As setfsuid(2), write(2) to `oom_score_adj`, and setrlimit(2).
pub fn bound(rights: Rights) -> io::Result<()> {
    if rights.can_change_user {
        // `/proc/self` is root's: either this process is, or it is not dumpable (proc(5)). The keeper can be the runner's account,
        // where root explains a job of a host without privilege.
        acting_as(Caller { uid: 0, gid: 0 }, priority::first_for_the_oom_killer)??;
    } else {
        process::while_inspection_is_allowed(priority::first_for_the_oom_killer)?;
    }
    bound_address_space()
}

/// Bounds the address space alone.
///
/// # Errors
/// As setrlimit(2).
pub fn bound_address_space() -> io::Result<()> {
    process::bound_memory(MEMORY)
}

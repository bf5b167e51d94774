//! Giving up privilege for good, and proving it.
//!
//! The order is forced: groups need `CAP_SETGID`, which the change of uid may take away; ids come before
//! capabilities, because a program with *file* capabilities keeps `CAP_SETUID` across setresuid(2) and could
//! go back (the kernel clears capabilities only when a uid of 0 goes). Nothing is believed: every id and set
//! is read back, and root and the former ids are tried for.
//!
//! A crate of its own, so that a program which gives up privilege and starts no job's launcher links nothing more.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use nunbird_sys::capabilities::Capabilities;
use nunbird_sys::kernel::Kernel;
use std::io;

/// "Leave this id alone" to setresuid(2).
const UNCHANGED: u32 = u32::MAX;

/// The ids to end up with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// The step that failed, and how.
#[derive(Debug)]
pub struct Failure {
    /// Its name, or what was found out by trying.
    pub step: &'static str,
    /// The kernel's error.
    pub error: io::Error,
}

impl std::error::Error for Failure {}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.step, self.error)
    }
}

/// Names the step that a call is.
pub trait Step<T> {
    /// The failure of this step, where it is one.
    ///
    /// # Errors
    /// The same with its name.
    fn step(self, step: &'static str) -> Result<T, Failure>;
}

impl<T> Step<T> for io::Result<T> {
    fn step(self, step: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure { step, error })
    }
}

/// Becomes the user for good.
///
/// # Errors
/// The first step that failed; the process must then end without doing anything else.
pub fn become_user(kernel: &mut impl Kernel, ids: &Ids) -> Result<(), Failure> {
    let former = take_ids(kernel, ids)?;
    fresh_keyring(kernel)?;
    prove(kernel, ids, former)
}

/// As [`become_user`], with the session keyring that the process has: one that pam_keyinit(8) made for this user.
///
/// # Errors
/// As [`become_user`].
pub fn become_user_with_keyring(kernel: &mut impl Kernel, ids: &Ids) -> Result<(), Failure> {
    let former = take_ids(kernel, ids)?;
    prove(kernel, ids, former)
}

/// Changes ids and gives up capabilities; the real uid from before comes back.
fn take_ids(kernel: &mut impl Kernel, ids: &Ids) -> Result<u32, Failure> {
    let [former, ..] = kernel.uids().step("getresuid")?;
    kernel.set_groups(&ids.groups).step("setgroups")?;
    kernel.set_gids(ids.gid, ids.gid, ids.gid).step("setresgid")?;
    kernel.set_uids(ids.uid, ids.uid, ids.uid).step("setresuid")?;
    kernel.clear_capabilities().step("capset")?;
    kernel.clear_ambient().step("prctl(PR_CAP_AMBIENT)")?;
    Ok(former)
}

/// Keeps the ids that the process has, without any privilege: for `downscope = "none"`.
///
/// # Errors
/// As [`become_user`].
pub fn stay_user(kernel: &mut impl Kernel, uid: u32, gid: u32) -> Result<(), Failure> {
    kernel.clear_capabilities().step("capset")?;
    kernel.clear_ambient().step("prctl(PR_CAP_AMBIENT)")?;
    let groups = kernel.groups().step("getgroups")?;
    prove(kernel, &Ids { uid, gid, groups }, uid)
}

/// As [`stay_user`], with a session keyring of its own: another program has changed the user, and left its own.
///
/// # Errors
/// As [`become_user`].
pub fn stay_user_with_new_keyring(kernel: &mut impl Kernel, uid: u32, gid: u32) -> Result<(), Failure> {
    fresh_keyring(kernel)?;
    stay_user(kernel, uid, gid)
}

/// Keeps the shepherd's ids: signalled by the runner, able to signal the job, neither for long nor for more.
///
/// The effective uid is the user's and the others are `real_uid`: the runner's, so that the runner may signal the
/// shepherd, or one that no account has where the runner is root and may anyway. The shepherd may signal the job, the kernel delivers
/// the shepherd's death to it (kill(2), prctl(2) `PR_SET_PDEATHSIG`), and the user may not signal the shepherd.
///
/// # Errors
/// As [`become_user`].
pub fn become_shepherd(
    kernel: &mut impl Kernel,
    real_uid: u32,
    real_gid: u32,
    user: u32,
) -> Result<(), Failure> {
    kernel.set_groups(&[]).step("setgroups")?;
    kernel.set_gids(real_gid, real_gid, real_gid).step("setresgid")?;
    kernel.set_uids(real_uid, user, real_uid).step("setresuid")?;
    kernel.clear_capabilities().step("capset")?;
    kernel.clear_ambient().step("prctl(PR_CAP_AMBIENT)")?;
    ensure(kernel.uids().step("getresuid")? == [real_uid, user, real_uid], "the shepherd's uids")?;
    ensure(kernel.gids().step("getresgid")? == [real_gid; 3], "the shepherd's gids")?;
    ensure(kernel.capabilities().step("capget")? == Capabilities::EMPTY, "the shepherd's capabilities")?;
    ensure(kernel.set_uids(UNCHANGED, 0, UNCHANGED).is_err(), "the shepherd could become root")
}

/// A session keyring is inherited: the user would read the runner's keys (keyrings(7)).
fn fresh_keyring(kernel: &mut impl Kernel) -> Result<(), Failure> {
    match kernel.new_session_keyring() {
        // A kernel without keyrings has none to inherit.
        Err(e) if e.kind() == io::ErrorKind::Unsupported => Ok(()),
        other => other.step("keyctl(KEYCTL_JOIN_SESSION_KEYRING)"),
    }
}

fn prove(kernel: &mut impl Kernel, ids: &Ids, former: u32) -> Result<(), Failure> {
    ensure(ids.uid != 0 && ids.gid != 0, "a job is never root's")?;
    ensure(kernel.uids().step("getresuid")? == [ids.uid; 3], "a uid is not the user's")?;
    ensure(kernel.gids().step("getresgid")? == [ids.gid; 3], "a gid is not the user's")?;
    let sorted = |mut groups: Vec<u32>| {
        groups.sort_unstable();
        groups.dedup();
        groups
    };
    let groups = kernel.groups().step("getgroups")?;
    ensure(sorted(groups) == sorted(ids.groups.clone()), "the groups are not the user's")?;
    ensure(kernel.capabilities().step("capget")? == Capabilities::EMPTY, "a capability is left")?;
    ensure(kernel.ambient_count().step("prctl(PR_CAP_AMBIENT)")? == 0, "an ambient capability is left")?;
    ensure(kernel.set_uids(UNCHANGED, 0, UNCHANGED).is_err(), "root can be had back")?;
    ensure(kernel.set_gids(UNCHANGED, 0, UNCHANGED).is_err(), "root's group can be had back")?;
    let former_gone = former == ids.uid || kernel.set_uids(UNCHANGED, former, UNCHANGED).is_err();
    ensure(former_gone, "the runner's uid can be had back")
}

fn ensure(holds: bool, step: &'static str) -> Result<(), Failure> {
    if holds {
        Ok(())
    } else {
        Err(Failure { step, error: io::Error::from(io::ErrorKind::PermissionDenied) })
    }
}

#[cfg(test)]
#[path = "surrender_tests.rs"]
mod tests;

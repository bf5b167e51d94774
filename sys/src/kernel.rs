//! The system calls that give up privilege, and those that prove it gone, behind one trait.
//!
//! `nunbird-auth` writes the sequence against [`Kernel`]; a recording double shows its order in a unit test,
//! and [`Linux`] is the real thing.

use crate::capabilities::{self, Capabilities};
use nix::unistd::{Gid, Uid, getgroups, getresgid, getresuid, setgroups, setresgid, setresuid};
use std::io;

/// What the drop needs of the kernel.
pub trait Kernel {
    /// setgroups(2).
    fn set_groups(&mut self, groups: &[u32]) -> io::Result<()>;
    /// setresgid(2), real, effective and saved.
    fn set_gids(&mut self, real: u32, effective: u32, saved: u32) -> io::Result<()>;
    /// setresuid(2), real, effective and saved.
    fn set_uids(&mut self, real: u32, effective: u32, saved: u32) -> io::Result<()>;
    /// capset(2) with three empty sets.
    fn clear_capabilities(&mut self) -> io::Result<()>;
    /// prctl(2) `PR_CAP_AMBIENT_CLEAR_ALL`.
    fn clear_ambient(&mut self) -> io::Result<()>;
    /// keyctl(2) `KEYCTL_JOIN_SESSION_KEYRING` with a new keyring.
    fn new_session_keyring(&mut self) -> io::Result<()>;

    /// getresuid(2).
    fn uids(&mut self) -> io::Result<[u32; 3]>;
    /// getresgid(2).
    fn gids(&mut self) -> io::Result<[u32; 3]>;
    /// getgroups(2).
    fn groups(&mut self) -> io::Result<Vec<u32>>;
    /// capget(2).
    fn capabilities(&mut self) -> io::Result<Capabilities>;
    /// How many capabilities the ambient set holds.
    fn ambient_count(&mut self) -> io::Result<u32>;
}

/// The kernel this process runs on.
#[derive(Debug, Clone, Copy)]
pub struct Linux;

impl Kernel for Linux {
    fn set_groups(&mut self, groups: &[u32]) -> io::Result<()> {
        let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
        Ok(setgroups(&groups)?)
    }

    fn set_gids(&mut self, real: u32, effective: u32, saved: u32) -> io::Result<()> {
        Ok(setresgid(real.into(), effective.into(), saved.into())?)
    }

    fn set_uids(&mut self, real: u32, effective: u32, saved: u32) -> io::Result<()> {
        Ok(setresuid(real.into(), effective.into(), saved.into())?)
    }

    fn clear_capabilities(&mut self) -> io::Result<()> {
        Capabilities::EMPTY.apply()
    }

    fn clear_ambient(&mut self) -> io::Result<()> {
        capabilities::clear_ambient()
    }

    fn new_session_keyring(&mut self) -> io::Result<()> {
        // keyctl(2); linux/keyctl.h.
        const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
        // SAFETY: the second argument is a null pointer, which asks for an anonymous keyring.
        let rc = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0_usize, 0, 0, 0) };
        if rc >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn uids(&mut self) -> io::Result<[u32; 3]> {
        let ids = getresuid()?;
        Ok([ids.real, ids.effective, ids.saved].map(Uid::as_raw))
    }

    fn gids(&mut self) -> io::Result<[u32; 3]> {
        let ids = getresgid()?;
        Ok([ids.real, ids.effective, ids.saved].map(Gid::as_raw))
    }

    fn groups(&mut self) -> io::Result<Vec<u32>> {
        Ok(getgroups()?.into_iter().map(Gid::as_raw).collect())
    }

    fn capabilities(&mut self) -> io::Result<Capabilities> {
        Capabilities::current()
    }

    fn ambient_count(&mut self) -> io::Result<u32> {
        capabilities::ambient_count()
    }
}

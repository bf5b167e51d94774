//! As whom files are opened.
//!
//! The kernel checks file access against the *filesystem* uid and gid (setfsuid(2), credentials(7)), which
//! can be switched without touching the other ids or the capabilities. `nunbird-auth` opens what its caller
//! named as the caller, and its own files as root, each for the length of one guard. The same calls work
//! for all three ways to hold privilege: they need `CAP_SETUID` and `CAP_SETGID`, no override of permissions.

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use std::io;

/// Puts the former filesystem ids back when it goes.
#[derive(Debug)]
#[must_use = "the identity lasts as long as the guard"]
pub struct FileIdentity {
    before: (Uid, Gid),
}

impl FileIdentity {
    /// Opens files as this user and group until the guard goes.
    ///
    /// # Errors
    /// `EPERM` when the process may not. setfsuid(2) has no way to report that, so the ids are read back.
    pub fn assume(uid: u32, gid: u32) -> io::Result<Self> {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        let before = (setfsuid(uid), setfsgid(gid));
        let guard = FileIdentity { before };
        let now = Self::current();
        if now == (uid, gid) {
            return Ok(guard);
        }
        drop(guard);
        Err(io::Error::from_raw_os_error(libc::EPERM))
    }

    /// The filesystem ids now: a call with an id that cannot be changes nothing and returns the present one.
    fn current() -> (Uid, Gid) {
        (setfsuid(Uid::from_raw(u32::MAX)), setfsgid(Gid::from_raw(u32::MAX)))
    }
}

impl Drop for FileIdentity {
    fn drop(&mut self) {
        let (uid, gid) = self.before;
        setfsgid(gid);
        setfsuid(uid);
        // Going on under the wrong identity would open files as somebody else.
        if Self::current() != (uid, gid) {
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FileIdentity;

    #[test]
    fn an_identity_lasts_as_long_as_its_guard() {
        if !nix::unistd::geteuid().is_root() {
            assert!(FileIdentity::assume(12345, 12345).is_err());
            nunbird_skip::skip!("needs root");
        }
        let before = FileIdentity::current();
        {
            let _guard = FileIdentity::assume(12345, 23456).expect("root may");
            assert_eq!(FileIdentity::current(), (12345.into(), 23456.into()));
        }
        assert_eq!(FileIdentity::current(), before);
    }
}

//! As whom files are opened.
//!
//! The kernel checks file access against the *filesystem* uid and gid (setfsuid(2), credentials(7)), which
//! can be switched without touching the other ids or the capabilities. `nunbird-auth` opens what its caller
//! named as the caller, and its own files as root, each for the length of one closure. The same calls work
//! for all three ways to hold privilege: they need `CAP_SETUID` and `CAP_SETGID`, no override of permissions.

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use std::io;

/// A uid and gid to open files as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Opens files as this user and group while `act` runs. The former filesystem ids are back when it has ended, by a panic as well; where
/// they cannot be put back, the process is aborted.
///
/// # Errors
/// `EPERM` when the process may not take these ids; `act` has not run then.
pub fn acting_as<T>(ids: Caller, act: impl FnOnce() -> T) -> io::Result<T> {
    let _identity = FileIdentity::assume(ids)?;
    Ok(act())
}

/// Puts the former filesystem ids back when it goes.
struct FileIdentity {
    before: (Uid, Gid),
}

impl FileIdentity {
    /// setfsuid(2) has no way to report that the process may not, so the ids are read back.
    fn assume(ids: Caller) -> io::Result<Self> {
        let (uid, gid) = (Uid::from_raw(ids.uid), Gid::from_raw(ids.gid));
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
    use super::{Caller, FileIdentity, acting_as};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn an_identity_lasts_as_long_as_what_is_done_under_it_and_no_longer_where_that_panics() {
        let other = Caller { uid: 12345, gid: 23456 };
        if !nix::unistd::geteuid().is_root() {
            assert!(acting_as(other, || panic!("without privilege nothing is done")).is_err());
            nunbird_skip::skip!("needs root");
        }
        let before = FileIdentity::current();
        let now = acting_as(other, FileIdentity::current).expect("root may");
        assert_eq!(now, (12345.into(), 23456.into()));
        assert_eq!(FileIdentity::current(), before);
        let mut seen = None;
        let panics = AssertUnwindSafe(|| {
            acting_as(other, || {
                seen = Some(FileIdentity::current());
                panic!("on purpose");
            })
        });
        assert!(catch_unwind(panics).is_err());
        assert_eq!(seen, Some((12345.into(), 23456.into())));
        assert_eq!(FileIdentity::current(), before, "a panic takes them back as well");
    }
}

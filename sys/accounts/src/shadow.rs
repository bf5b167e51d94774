//! Whether an account has expired: the one thing of shadow(5) that a job depends on.
//!
//! getspnam(3) through nsswitch.conf(5) gives hashes of passwords as well. It is asked in a child, which answers with one word and
//! whose memory goes with it: the process that asks stays as shepherd.

use nunbird_sys::fork::{Ended, fork_into};
use nunbird_wire::choice;
use std::ffi::{CStr, CString};
use std::io;

/// An account's end in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// It has none, or it is still to come.
    Valid,
    /// It has come.
    Expired,
    /// There is no entry, or this process may not read it.
    Unknown,
}

choice!(Expiry { 0 => Valid, 1 => Expired, 2 => Unknown });

/// The largest entry, in bytes.
const ENTRY: usize = 64 << 10;
/// The child's answers.
const ANSWERS: [(i32, Expiry); 3] = [(10, Expiry::Valid), (11, Expiry::Expired), (12, Expiry::Unknown)];
const SECONDS_OF_A_DAY: u64 = 86_400;

/// Whether the account has expired at this time, in seconds since the epoch, with the rights of this process.
///
/// The day in the entry is the first on which the account is no more (shadow(5), `pam_unix`); an empty field is none,
/// and 0 is the first of January 1970, as `chage -E 0` means it.
///
/// # Errors
/// As fork(2) and getspnam(3), but for an entry that may not be read; `EINVAL` for a name that holds NUL.
pub fn expiry(name: &str, now: u64) -> io::Result<Expiry> {
    let name = CString::new(name)?;
    let today = libc::c_long::try_from(now / SECONDS_OF_A_DAY).unwrap_or(libc::c_long::MAX);
    let child = fork_into(|| match look_up(&name, today) {
        Ok(expiry) => ANSWERS.iter().find(|(_, known)| *known == expiry).map_or(1, |(status, _)| *status),
        Err(_) => 1,
    })?;
    let ended = child.wait()?;
    let known = ANSWERS.iter().find(|(status, _)| ended == Ended::Exited(*status));
    known.map(|(_, expiry)| *expiry).ok_or_else(|| io::Error::other("the entry in shadow(5) cannot be read"))
}

/// In the child.
fn look_up(name: &CStr, today: libc::c_long) -> io::Result<Expiry> {
    // SAFETY: spwd holds numbers and pointers, for which all zeros are valid.
    let mut entry: libc::spwd = unsafe { std::mem::zeroed() };
    let mut buffer = vec![0; ENTRY];
    let mut found = std::ptr::null_mut();
    // SAFETY: the name ends with NUL; entry, buffer and `found` live through the call, and the length is the buffer's.
    let answer = unsafe {
        libc::getspnam_r(name.as_ptr(), &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found)
    };
    match answer {
        0 if found.is_null() => Ok(Expiry::Unknown),
        0 if (0..=today).contains(&entry.sp_expire) => Ok(Expiry::Expired),
        0 => Ok(Expiry::Valid),
        libc::EACCES | libc::EPERM | libc::ENOENT => Ok(Expiry::Unknown),
        other => Err(io::Error::from_raw_os_error(other)),
    }
}

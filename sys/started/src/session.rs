//! What the modules of a PAM session leave behind: a keyring, and limits.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nunbird_sys::rlimits::Limits;
use std::io;

/// Descriptors that a process of a session has room for.
const ROOM: u64 = 256;
/// What it cannot do without: its own, and one stage's that come at once.
const LEAST_ROOM: u64 = 48;

/// The serial number of this process's session keyring (keyctl(2), `KEYCTL_GET_KEYRING_ID`); none where there is none.
pub fn session_keyring() -> Option<i64> {
    const KEYCTL_GET_KEYRING_ID: libc::c_long = 0;
    const KEY_SPEC_SESSION_KEYRING: libc::c_long = -3;
    // SAFETY: no pointer is passed; the third argument means that none is to be made.
    let id =
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0, 0, 0) };
    (id > 0).then_some(id)
}

/// Gives a process that stays in a session room for the files it receives, whatever modules have left it (pam_limits(8)); the
/// answer is what they left, for the job.
///
/// # Errors
/// As getrlimit(2) and setrlimit(2), and where there is too little room.
pub fn raise_files() -> io::Result<Limits> {
    let resource = Resource::RLIMIT_NOFILE;
    let (soft, hard) = getrlimit(resource)?;
    if setrlimit(resource, soft.max(ROOM), hard.max(ROOM)).is_err() {
        // Above the hard one takes CAP_SYS_RESOURCE, which a service or a container can take from its root.
        setrlimit(resource, hard, hard)?;
        if hard < LEAST_ROOM {
            let trouble = format!(
                "modules have set the hard limit to {hard}, root may not raise it here, and a session needs {LEAST_ROOM}"
            );
            return Err(io::Error::other(trouble));
        }
    }
    Ok(Limits(vec![(resource, soft, hard)]))
}

//! Acting as another user for a moment, with nothing but that user's rights.
//!
//! Filesystem ids are not enough for files that strangers name: some files of the kernel (cgroup, proc) judge
//! their opener by the *effective* ids and capabilities, which an open file keeps for ever. This changes the
//! effective uid and empties the effective set, and puts both back; the saved uid and the permitted set stay, so
//! the way back is open to this process and the user can neither trace it nor change its limits (credentials(7)).

use crate::capabilities::Capabilities;
use nix::unistd::{Uid, getresuid, setresuid};
use std::io;

/// "Leave this id alone" to setresuid(2).
const UNCHANGED: Uid = Uid::from_raw(u32::MAX);

/// Puts the former effective uid and capabilities back when it goes.
#[derive(Debug)]
#[must_use = "the user is assumed as long as the guard lives"]
pub struct EffectiveUser {
    former: Uid,
    capabilities: Capabilities,
}

impl EffectiveUser {
    /// Acts as this user until the guard goes. The filesystem uid follows.
    ///
    /// # Errors
    /// As setresuid(2) and capset(2).
    pub fn assume(uid: u32) -> io::Result<Self> {
        let guard = EffectiveUser { former: getresuid()?.effective, capabilities: Capabilities::current()? };
        setresuid(UNCHANGED, Uid::from_raw(uid), UNCHANGED)?;
        Capabilities { effective: 0, ..guard.capabilities }.apply()?;
        // Every change of ids makes the process as dumpable as fs.suid_dumpable has it (proc(5)).
        crate::process::forbid_inspection()?;
        Ok(guard)
    }
}

impl Drop for EffectiveUser {
    fn drop(&mut self) {
        let restored = setresuid(UNCHANGED, self.former, UNCHANGED)
            .map_err(io::Error::from)
            .and_then(|()| self.capabilities.apply())
            .and_then(|()| crate::process::forbid_inspection());
        // Going on as another user would open files with the wrong rights.
        if restored.is_err() {
            std::process::abort();
        }
    }
}

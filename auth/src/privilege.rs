//! How this process holds its privilege, and that it holds no more than it needs.

use crate::refusal::{Code, Refusal};
use nunbird_files::identity::Caller;
use nunbird_host::{Here, Rights};
pub(crate) use nunbird_requests::Privileges as Source;
use nunbird_sys::capabilities::{self, CAP_SETGID, CAP_SETUID, Capabilities};
use nunbird_sys::kernel::{Kernel, Linux};
use nunbird_sys::process;
use nunbird_sys::rlimits::{self, Limits};
use std::io;

/// A uid and gid that no account has and no file belongs to: below 2^31, far above what sites assign.
pub(crate) const NOBODY_AT_ALL: u32 = 2_147_483_632;

/// The saved uid with file capabilities: one that no account has, neither the verifiers' nor a shepherd's.
///
/// With the runner's uid as all three of its own the program's resource limits could be set by the runner while it works:
/// prlimit(2) asks for equal ids, whatever capabilities the other process holds.
const UNREACHABLE: u32 = NOBODY_AT_ALL - 2;
/// The least that a file may grow to, in bytes: audit files, and copies of scripts in memory.
const FILE_SIZE: u64 = 1 << 30;
/// "Leave this id alone" to setresuid(2).
const UNCHANGED: u32 = u32::MAX;

/// The process's privilege and who called it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Privilege {
    pub(crate) source: Source,
    /// Real uid and gid.
    pub(crate) caller: Caller,
}

impl Privilege {
    /// Finds out, raises the limits that could stop this program half-way, and gives up every capability but the two that
    /// change ids. The limits are the caller's, for the job.
    ///
    /// # Errors
    /// A system refusal when the kernel does not answer, for a state in which a later drop would not be one, and for limits
    /// that are too low and cannot be raised.
    pub(crate) fn establish() -> Result<(Self, Limits), Refusal> {
        let refuse = |detail: &dyn std::fmt::Display| {
            Refusal::system(Code::Privilege, "nunbird-auth was started in a state it does not accept", detail)
        };
        let failed = |e: io::Error| refuse(&format!("ids or capabilities cannot be read or reduced: {e}"));
        let [real, effective, saved] = Linux.uids().map_err(failed)?;
        let [gid, ..] = Linux.gids().map_err(failed)?;
        let held = Capabilities::current().map_err(failed)?;
        // With NO_SETUID_FIXUP or KEEP_CAPS a change of uid would keep capabilities (capabilities(7)).
        let securebits = capabilities::securebits().map_err(failed)?;
        if securebits != 0 {
            return Err(refuse(&format!(
                "securebits are {securebits:#x}, not 0: start the runner without them"
            )));
        }
        let needed = (1 << CAP_SETUID) | (1 << CAP_SETGID);
        let able = held.permits(CAP_SETUID) && held.permits(CAP_SETGID);
        let source = match (real, effective) {
            (0, 0) if able => Source::Root,
            (_, 0) if real != 0 && able => Source::Setuid,
            (_, e) if e == real && real != 0 && saved == real && able => Source::FileCapabilities,
            (_, e) if e == real && real != 0 && saved == real && held.permitted == 0 => Source::None,
            _ => {
                let detail = format!(
                    "uid {real}, euid {effective}, suid {saved}, permitted capabilities {:#x}: \
                     neither root, nor setuid-root, nor CAP_SETUID with CAP_SETGID, nor an ordinary user",
                    held.permitted
                );
                return Err(refuse(&detail));
            }
        };
        if source == Source::FileCapabilities {
            // They may be permitted alone.
            Capabilities { effective: held.permitted, ..held }.apply().map_err(failed)?;
            // Before the limits are looked at: from here on only root can change them.
            Linux.set_uids(UNCHANGED, UNCHANGED, UNREACHABLE).map_err(failed)?;
            process::forbid_inspection().map_err(failed)?;
        }
        // With every capability that there is: a setuid-root program may raise hard limits.
        let limits = rlimits::raise_limits()
            .and_then(|limits| rlimits::check_file_size(FILE_SIZE).map(|()| limits))
            .map_err(|e| {
                Refusal::system(Code::Process, "nunbird-auth could not be started on this host", e)
            })?;
        capabilities::clear_ambient().map_err(failed)?;
        let kept = if source == Source::None { 0 } else { needed };
        Capabilities { effective: kept, permitted: kept, inheritable: 0 }.apply().map_err(failed)?;
        Ok((Privilege { source, caller: Caller { uid: real, gid } }, limits))
    }

    /// Gives everything up, for a call that needs no privilege.
    ///
    /// # Errors
    /// When the kernel does not let the process be its caller's.
    pub(crate) fn renounce() -> io::Result<()> {
        let ([uid, ..], [gid, ..]) = (Linux.uids()?, Linux.gids()?);
        Linux.set_gids(gid, gid, gid)?;
        Linux.set_uids(uid, uid, uid)?;
        Linux.clear_capabilities()?;
        Linux.clear_ambient()
    }

    /// As whom Nunbird's own files are opened: root, or the user itself.
    pub(crate) fn keeper(self) -> Caller {
        if self.source.is_privileged() { Caller { uid: 0, gid: 0 } } else { self.caller }
    }

    /// What it means for the judgement of a job.
    pub(crate) fn rights(self) -> Rights {
        Rights {
            privileged: self.source.is_privileged(),
            can_change_user: self.source.is_privileged(),
            keeper: self.keeper(),
            caller: self.caller,
            reads_shadow: matches!(self.source, Source::Root | Source::Setuid),
        }
    }

    /// This host, for the judgement of a job.
    pub(crate) fn here(self) -> Here {
        Here(self.rights())
    }

    /// Uids whose files are trusted.
    pub(crate) fn trusted_owners(self) -> Vec<u32> {
        self.rights().trusted_owners()
    }
}

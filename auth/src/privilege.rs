//! How this process holds its privilege, and that it holds no more than it needs.

use crate::refusal::{Code, Refusal};
use nunbird_sys::capabilities::{self, CAP_SETGID, CAP_SETUID, Capabilities};
use nunbird_sys::foreign::Caller;
use nunbird_sys::kernel::{Kernel, Linux};
use nunbird_sys::process;
use std::io;

/// Where the privilege comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The runner is root.
    Root,
    /// The file is setuid-root, the runner is not root.
    Setuid,
    /// The file has capabilities, the runner is not root.
    FileCapabilities,
    /// There is none: the runner's own user, `downscope = "none"` alone.
    None,
}

impl Source {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Source::Root => "root",
            Source::Setuid => "setuid",
            Source::FileCapabilities => "file-capabilities",
            Source::None => "none",
        }
    }

    pub(crate) fn is_privileged(self) -> bool {
        self != Source::None
    }
}

/// The process's privilege and who called it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Privilege {
    pub(crate) source: Source,
    /// Real uid and gid.
    pub(crate) caller: Caller,
}

impl Privilege {
    /// Finds out, and gives up every capability but the two that change ids.
    ///
    /// # Errors
    /// A system refusal when the kernel does not answer, or for a state in which a later drop would not be one.
    pub(crate) fn establish() -> Result<Self, Refusal> {
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
        capabilities::clear_ambient().map_err(failed)?;
        let kept = if source == Source::None { 0 } else { needed };
        Capabilities { effective: kept, permitted: kept, inheritable: 0 }.apply().map_err(failed)?;
        Ok(Privilege { source, caller: Caller { uid: real, gid } })
    }

    /// As whom Nunbird's own files are opened: root, or the user itself.
    pub(crate) fn keeper(self) -> Caller {
        if self.source.is_privileged() { Caller { uid: 0, gid: 0 } } else { self.caller }
    }

    /// Uids whose files are trusted.
    pub(crate) fn trusted_owners(self) -> Vec<u32> {
        if self.source.is_privileged() { vec![0] } else { vec![0, self.caller.uid] }
    }

    /// Why there may be no privilege where the configuration wants some.
    pub(crate) fn explain_lack(self) -> &'static str {
        if process::has_no_new_privileges() {
            "no_new_privs is set (a container, or NoNewPrivileges= of a unit), so setuid and file capabilities are inert"
        } else {
            "nunbird-auth is neither setuid-root (mode 4750) nor has it cap_setuid and cap_setgid, or its file system is mounted nosuid"
        }
    }
}

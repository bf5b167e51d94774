//! What a site takes away from jobs beyond their account's rights.

use nunbird_wire::layout;

/// The switches, each off unless the site sets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Isolation {
    /// Setuid bits and file capabilities of the job's programs are inert (prctl(2), `PR_SET_NO_NEW_PRIVS`).
    pub no_new_privileges: bool,
    /// `TIOCSTI` and `TIOCLINUX` fail with `EPERM`.
    pub block_tty_injection: bool,
    /// The setuid(2) family fails with `EPERM` for ids that are not the job's.
    pub limit_setuid: bool,
}

layout!(Isolation { no_new_privileges, block_tty_injection, limit_setuid });

//! As whom files are opened and children run.

use nunbird_sys::foreign::Caller;

/// What the process that judges may do, and for which `nunbird-auth` it judges.
#[derive(Debug, Clone, Copy)]
pub struct Rights {
    /// Whether `nunbird-auth` has privilege here: then only root's files count.
    pub privileged: bool,
    /// Whether this process can become another user.
    pub can_change_user: bool,
    /// As whom Nunbird's own files are opened: root, or the user itself.
    pub keeper: Caller,
    /// The account that runs gitlab-runner.
    pub caller: Caller,
    /// Whether shadow(5) is read: root and a setuid-root program can, file capabilities cannot.
    pub reads_shadow: bool,
}

impl Rights {
    /// Uids whose files are trusted.
    pub fn trusted_owners(self) -> Vec<u32> {
        if self.privileged { vec![0] } else { vec![0, self.caller.uid] }
    }
}

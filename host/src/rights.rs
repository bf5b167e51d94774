//! As whom files are opened and children run.

use nunbird_files::foreign::Caller;
use nunbird_sys::users;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

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

/// Where the keeper of records keeps something: root's own directory, which the package makes, or one below the home directory of a
/// runner without privilege, which is made.
///
/// # Errors
/// As for the user database and mkdir(2).
pub fn state_directory(rights: Rights, privileged: &str, unprivileged: &str) -> io::Result<PathBuf> {
    let path = state_path(rights, privileged, unprivileged)?;
    if !rights.privileged {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
    }
    Ok(path)
}

/// The same directory, which need not be there.
///
/// # Errors
/// As for the user database and realpath(3).
pub fn state_path(rights: Rights, privileged: &str, unprivileged: &str) -> io::Result<PathBuf> {
    if rights.privileged {
        return Ok(PathBuf::from(privileged));
    }
    let user = users::by_uid(rights.caller.uid)?.ok_or(io::ErrorKind::NotFound)?;
    // The home may be reached by a link (/home -> /data/home): it is the user's own, so follow it.
    Ok(user.home.canonicalize()?.join(unprivileged))
}

//! As whom files are opened and children run.

use nunbird_accounts::users;
use nunbird_files::directory::Directory;
use nunbird_files::identity::{Caller, acting_as};
use nunbird_files::trusted::open_trusted_directory;
use std::fmt::Display;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

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

/// Opens such a directory, which must be the keeper's alone (mode 0700). `privileged` is where the package makes it.
///
/// # Errors
/// Why it cannot be used, for the admin.
pub fn open_state(path: &Path, rights: Rights, privileged: &str) -> Result<Directory, String> {
    let keeper = rights.keeper;
    let explain = |e: &dyn Display| format!("{}: {e}", path.display());
    let fd = acting_as(keeper, || open_trusted_directory(path, &rights.trusted_owners()))
        .map_err(|e| explain(&e))?
        .map_err(|e| format!("{e} (the package makes {privileged}, mode 0700)"))?;
    let directory = Directory::new(fd);
    let (uid, _, mode) = directory.owner().map_err(|e| explain(&e))?;
    if uid != keeper.uid || mode & 0o077 != 0 {
        return Err(explain(&format!("owned by uid {uid}, mode {mode:04o}; it must be mode 0700")));
    }
    Ok(directory)
}

//! The person, and where everything of the runner's lies in the home directory.

use crate::output::CtlError;
use nunbird_accounts::users;
use std::path::{Path, PathBuf};

/// The units, in the order in which they are started.
pub(super) const RUNNER: &str = "nunbird-runner.service";
pub(super) const KEYS: &str = "nunbird-keys.service";
pub(super) const KEYS_TIMER: &str = "nunbird-keys.timer";
pub(super) const PRUNE: &str = "nunbird-prune.service";
pub(super) const PRUNE_TIMER: &str = "nunbird-prune.timer";

/// The caller, who is not root.
pub(super) struct Person {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) home: PathBuf,
}

impl Person {
    pub(super) fn caller() -> Result<Person, CtlError> {
        let uid = nix::unistd::getuid().as_raw();
        if uid == 0 || nix::unistd::geteuid().is_root() {
            return Err(CtlError::new(
                "this is for a runner without root, and no job runs as root; run it as the account whose jobs are to run, or see docs/admin-guide.md",
            ));
        }
        let failed = |why: &dyn std::fmt::Display| CtlError::new(format!("uid {uid}: {why}"));
        let entry = users::by_uid(uid)
            .map_err(|e| failed(&e))?
            .ok_or_else(|| failed(&"this host has no account with this id"))?;
        if !entry.home.is_absolute() || !entry.home.is_dir() {
            return Err(failed(&format!("there is no home directory {}", entry.home.display())));
        }
        Ok(Person { name: entry.name, uid, home: entry.home })
    }

    /// Nunbird's configuration for this person's jobs.
    pub(super) fn policy(&self) -> PathBuf {
        self.home.join(".config/nunbird/config.toml")
    }

    /// gitlab-runner's, with the tokens.
    pub(super) fn runners(&self) -> PathBuf {
        self.home.join(".config/nunbird/runner.toml")
    }

    pub(super) fn unit(&self, name: &str) -> PathBuf {
        self.home.join(".config/systemd/user").join(name)
    }

    pub(super) fn state(&self) -> PathBuf {
        self.home.join(".local/state/nunbird")
    }

    pub(super) fn keys(&self) -> PathBuf {
        self.state().join("keys")
    }

    /// What `setup` has made.
    pub(super) fn manifest(&self) -> PathBuf {
        self.state().join("own-runner.json")
    }

    /// The runtime directory, which the person's user manager has its sockets in.
    pub(super) fn runtime(&self) -> PathBuf {
        PathBuf::from(format!("/run/user/{}", self.uid))
    }
}

/// A program in the directories that units of systemd search, and in the caller's PATH.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from);
    let places = std::env::split_paths(&path).filter(|place| place.is_absolute()).chain(usual);
    places.map(|place| place.join(name)).find(|file| executable(file))
}

/// Whether the caller can execute it.
pub(super) fn executable(file: &Path) -> bool {
    file.is_file() && nix::unistd::access(file, nix::unistd::AccessFlags::X_OK).is_ok()
}

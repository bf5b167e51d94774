//! Files of which each names the GitLab user of an account, as this host remembers it.
//!
//! `/var/lib/nunbird/people`, root's alone; for programs without privilege the runner's own
//! `~/.local/state/nunbird/people`. One file for each account and server, so that a lookup reads one line, and that the
//! first of two jobs at once is decided by link(2).

use crate::rights::{Rights, open_state, state_directory, state_path};
use nunbird_files::directory::Directory;
use nunbird_files::identity::{Caller, acting_as};
use nunbird_wire::layout;
use std::io;
use std::path::PathBuf;

/// Where root keeps them.
pub const PEOPLE_DIR: &str = "/var/lib/nunbird/people";
/// Below the home directory, for programs without privilege.
pub const UNPRIVILEGED_PEOPLE_DIR: &str = ".local/state/nunbird/people";
/// The longest line, in bytes: names of 32 and 64 characters, a number of 20 digits.
const MAX_LINE: u64 = 128;

/// One file of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PersonFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its content.
    pub bytes: Vec<u8>,
}

layout!(PersonFile { path, bytes });

/// The store, opened.
#[derive(Debug)]
pub(crate) struct People {
    directory: Directory,
    keeper: Caller,
    path: PathBuf,
}

impl People {
    /// Opens the store.
    pub(crate) fn open(rights: Rights) -> Result<Self, String> {
        let path = state_directory(rights, PEOPLE_DIR, UNPRIVILEGED_PEOPLE_DIR);
        Self::at(path.map_err(|e| no_directory(rights, &e))?, rights)
    }

    /// The content of a file, without making a directory that is not there yet.
    pub(crate) fn known(rights: Rights, name: &str) -> Result<Option<PersonFile>, String> {
        let path = state_path(rights, PEOPLE_DIR, UNPRIVILEGED_PEOPLE_DIR);
        let path = path.map_err(|e| no_directory(rights, &e))?;
        let found = || acting_as(rights.keeper, || path.symlink_metadata());
        if !rights.privileged && matches!(found(), Ok(Err(e)) if e.kind() == io::ErrorKind::NotFound) {
            return Ok(None);
        }
        Self::at(path, rights)?.find(name)
    }

    fn at(path: PathBuf, rights: Rights) -> Result<Self, String> {
        let directory = open_state(&path, rights, PEOPLE_DIR)?;
        Ok(People { directory, keeper: rights.keeper, path })
    }

    fn find(&self, name: &str) -> Result<Option<PersonFile>, String> {
        check(name)?;
        let explain = |e: &dyn std::fmt::Display| format!("{}: {e}", self.path.join(name).display());
        let (bytes, owner, mode) = match self.as_keeper(|d| d.read(name, MAX_LINE)) {
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(explain(&e)),
        };
        if owner != self.keeper.uid || mode & 0o022 != 0 {
            return Err(explain(&format!("owned by uid {owner}, mode {mode:04o}; it must be mode 0600")));
        }
        Ok(Some(PersonFile { path: self.path.join(name), bytes }))
    }

    /// Writes a file, unless it is there already. Whether it is new.
    pub(crate) fn remember(&self, name: &str, line: &[u8]) -> Result<bool, String> {
        check(name)?;
        self.as_keeper(|d| d.create(name, line))
            .map_err(|e| format!("{} cannot be written: {e}", self.path.join(name).display()))
    }

    fn as_keeper<T>(&self, act: impl FnOnce(&Directory) -> io::Result<T>) -> io::Result<T> {
        acting_as(self.keeper, || act(&self.directory))?
    }
}

/// `server:account`: no path, and none of the store's own temporary files.
fn check(name: &str) -> Result<(), String> {
    let allowed =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b':' | b'-' | b'_' | b'.');
    let plain = name.bytes().all(allowed) && !name.starts_with('.') && name.contains(':');
    if plain { Ok(()) } else { Err("the account or its server has no usable name".to_owned()) }
}

fn no_directory(rights: Rights, error: &io::Error) -> String {
    format!("{UNPRIVILEGED_PEOPLE_DIR} of uid {}: {error}", rights.keeper.uid)
}

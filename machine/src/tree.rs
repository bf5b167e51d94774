//! The tree of a machine: root's, found by a name, and kept from removal while the machine runs.

use crate::Trouble;
use crate::places::{OWNERS, TREES, is_plain, opened};
use nix::fcntl::{Flock, FlockArg};
use nunbird_files::trusted::{Distrust, open_trusted};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The link to the version that jobs get which name none.
const CURRENT: &str = "current";

/// An open tree.
#[derive(Debug)]
pub(crate) struct Tree {
    path: PathBuf,
    pub(crate) name: String,
    pub(crate) version: String,
    _held: Flock<File>,
}

impl Tree {
    /// Opens a version of a tree and locks it against removal.
    pub(crate) fn open(name: &str, version: Option<&str>) -> Result<Self, Trouble> {
        // A version that is removed or replaced meanwhile is looked up again.
        for is_last in [false, false, true] {
            if let Some(tree) = Self::try_open(name, version, is_last)? {
                return Ok(tree);
            }
        }
        Err(Trouble::new(format!("{TREES}/{name}: its versions go as fast as they are opened")))
    }

    /// Nothing where it is removed meanwhile.
    fn try_open(name: &str, version: Option<&str>, is_last: bool) -> Result<Option<Self>, Trouble> {
        if !is_plain(name) || version.is_some_and(|version| !is_plain(version)) {
            return Err(Trouble::new("the name of the tree or its version is malformed"));
        }
        let of_name = Path::new(TREES).join(name);
        opened(&of_name)?;
        let version = match version {
            Some(version) => version.to_owned(),
            None => {
                let link = of_name.join(CURRENT);
                let target = fs::read_link(&link).map_err(Trouble::of(&link.to_string_lossy()))?;
                let target = target.to_str().filter(|target| is_plain(target));
                target
                    .ok_or_else(|| Trouble::new(format!("{}: no link to a version", link.display())))?
                    .to_owned()
            }
        };
        let of_version = of_name.join(&version);
        let lock = of_version.join("lock");
        let file = match open_trusted(&lock, &OWNERS) {
            // `current` may lead to another version by now.
            Err(Distrust::Open(_, e)) if e.kind() == ErrorKind::NotFound && !is_last => return Ok(None),
            other => other.map_err(|e| Trouble::new(e.to_string()))?,
        };
        let held = match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(held) => held,
            // It is being removed.
            Err((_, nix::Error::EWOULDBLOCK)) => {
                std::thread::sleep(std::time::Duration::from_millis(50));
                return Ok(None);
            }
            Err((_, e)) => return Err(Trouble::of(&lock.to_string_lossy())(e.into())),
        };
        // Another file of this name says nothing: a version that has been removed can have been made again.
        let (of_path, of_held) = (fs::symlink_metadata(&lock), held.metadata());
        match (of_path, of_held.map_err(Trouble::of(&lock.to_string_lossy()))?) {
            (Ok(named), held) if (named.dev(), named.ino()) == (held.dev(), held.ino()) => {}
            (Err(e), _) if e.kind() != ErrorKind::NotFound => {
                return Err(Trouble::of(&lock.to_string_lossy())(e));
            }
            _ => return Ok(None),
        }
        let tree = Tree { path: of_version.join("tree"), name: name.to_owned(), version, _held: held };
        tree.directory()?;
        Ok(Some(tree))
    }

    /// Its directory, by the mounts that this process has now: no copy is made of a mount of another namespace.
    pub(crate) fn directory(&self) -> Result<OwnedFd, Trouble> {
        opened(&self.path)
    }
}

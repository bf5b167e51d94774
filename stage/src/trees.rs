//! Directories below the account's own: entered and removed without following a symbolic link, while the job's processes
//! may still change them.

use crate::StageError;
use crate::directory::{Directory, is};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Instant;

/// Deeper trees than this do not hold file variables; each level costs a descriptor.
const DEEPEST: usize = 128;
/// How often a directory is emptied that a live process fills again.
const ATTEMPTS: usize = 5;

/// Removes this name with everything below it.
pub fn remove_tree(parent: &Directory, name: &OsStr) -> Result<(), StageError> {
    remove(parent, name, 0, None).map(drop)
}

/// As [`remove_tree`], with an error if `deadline` passes first.
pub fn remove_tree_until(parent: &Directory, name: &OsStr, deadline: Instant) -> Result<(), StageError> {
    remove(parent, name, 0, Some(deadline)).map(drop)
}

/// The directory at `path`, opened from `root` down; `None` if a part of the path is missing.
pub fn descend(root: &Directory, prefix: &Path, path: &Path) -> Result<Option<Directory>, StageError> {
    let way = path.strip_prefix(prefix).map_err(|e| refuse(path, &e.to_string()))?;
    let mut names = way.components();
    let first = names.next().ok_or_else(|| refuse(path, "it is the top directory"))?;
    let mut directory = root.child(first.as_os_str())?;
    for name in names {
        let Some(parent) = directory else { return Ok(None) };
        directory = parent.child(name.as_os_str())?;
    }
    Ok(directory)
}

/// Removes this name with everything below it. False if there was nothing.
pub fn remove(
    parent: &Directory,
    name: &OsStr,
    depth: usize,
    deadline: Option<Instant>,
) -> Result<bool, StageError> {
    let path = parent.path().join(name);
    let failed =
        |e: Errno| StageError::at("cannot remove", &path, e, "remove it by hand: it may hold credentials");
    for _ in 0..ATTEMPTS {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(failed(Errno::ETIME));
        }
        match parent.stat(name) {
            Err(Errno::ENOENT) => return Ok(false),
            Err(e) => return Err(failed(e)),
            Ok(stat) if !is(&stat, SFlag::S_IFDIR) => match parent.unlink(name) {
                Ok(()) => return Ok(true),
                // It has been replaced by a directory since.
                Err(Errno::EISDIR) => continue,
                Err(e) => return Err(failed(e)),
            },
            Ok(_) => {}
        }
        if depth == DEEPEST {
            return Err(failed(Errno::ENAMETOOLONG));
        }
        // None: another cleanup was faster, or the job replaced it; the next iteration shows which.
        if let Some(directory) = parent.child(name)? {
            empty(&directory, depth, deadline)?;
        }
        match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(true),
            // A live process has put something into it, or a file in its place.
            Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
            Err(e) => return Err(failed(e)),
        }
    }
    Err(failed(Errno::ENOTEMPTY))
}

fn empty(directory: &Directory, depth: usize, deadline: Option<Instant>) -> Result<(), StageError> {
    for name in names(directory)? {
        remove(directory, &name, depth + 1, deadline)?;
    }
    Ok(())
}

/// The entries of the directory.
pub fn names(directory: &Directory) -> Result<Vec<OsString>, StageError> {
    let failed = |e: Errno| {
        StageError::at("cannot read", directory.path(), e, "remove it by hand: it may hold credentials")
    };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut listing = Dir::openat(directory.as_fd(), ".", flags, Mode::empty()).map_err(failed)?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        let name = entry.map_err(failed)?.file_name().to_bytes().to_owned();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

fn refuse(path: &Path, cause: &str) -> StageError {
    StageError::at("refusing to clean up", path, cause, "report it to the administrators")
}

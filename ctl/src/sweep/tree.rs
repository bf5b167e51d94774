//! Removes a tree by descriptors: one component at a time, without following symbolic links or
//! leaving the file system.

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};
use nunbird_files::directory::Directory;
use nunbird_files::identity::{Caller, acting_as};
use nunbird_housekeeping::Housekeeping;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Deeper trees than this do not come from a runner; each level costs a descriptor.
const DEEPEST: usize = 64;

/// The mtime of a directory, in seconds since the epoch.
pub(super) fn changed(directory: &Directory) -> io::Result<Vec<i64>> {
    directory.times()
}

/// Touches files as this account where this process is root; any other process is that account.
pub(super) fn as_account<T>((uid, gid): (u32, u32), act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    if geteuid().is_root() { acting_as(Caller { uid, gid }, act).flatten() } else { act() }
}

/// Opens a directory, not a link to one.
pub(super) fn open_directory(parent: &OwnedFd, name: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// Removes this name with everything below it; a missing one is not an error.
///
/// # Errors
/// As unlinkat(2); `EPERM` for a directory of another owner, `EXDEV` for one of another file system.
pub(super) fn remove(parent: &OwnedFd, name: &str, owner: u32) -> io::Result<()> {
    let device = fstat(parent)?.st_dev;
    remove_below(parent, name.as_bytes(), owner, device, 0)
}

fn remove_below(
    parent: &OwnedFd,
    name: &[u8],
    owner: u32,
    device: libc::dev_t,
    depth: usize,
) -> io::Result<()> {
    let stat = match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => return Ok(()),
        other => other?,
    };
    if stat.st_mode & libc::S_IFMT != libc::S_IFDIR {
        return gone(unlinkat(parent, name, UnlinkatFlags::NoRemoveDir));
    }
    if depth == DEEPEST {
        return Err(Errno::ENAMETOOLONG.into());
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())?;
    judge(&fstat(&directory)?, owner, device)?;
    // Names cannot be removed from a directory without write permission, not even by its owner.
    fchmod(&directory, Mode::S_IRWXU)?;
    let mut names = Vec::new();
    for entry in Dir::openat(directory.as_fd(), ".", flags, Mode::empty())?.iter() {
        let name = entry?.file_name().to_bytes().to_owned();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    for name in names {
        remove_below(&directory, &name, owner, device, depth + 1)?;
    }
    gone(unlinkat(parent, name, UnlinkatFlags::RemoveDir))
}

/// On what was opened: the name may have referred to another file before.
fn judge(stat: &FileStat, owner: u32, device: libc::dev_t) -> io::Result<()> {
    if stat.st_uid != owner {
        return Err(Errno::EPERM.into());
    }
    if stat.st_dev != device { Err(Errno::EXDEV.into()) } else { Ok(()) }
}

fn gone(removed: nix::Result<()>) -> io::Result<()> {
    match removed {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

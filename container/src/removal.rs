//! Removal of trees that processes of the account may change meanwhile: by descriptors, never through a link, never into another
//! file system, at any depth, and with an end.

use crate::partial::unique;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, openat, renameat};
use nix::libc::dev_t;
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::cell::Cell;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Instant;

/// What lies deeper is moved to the top of the tree first: each level costs two descriptors.
const DEEPEST: usize = 64;
/// How often a directory is emptied that a live process fills again.
const ATTEMPTS: usize = 5;
/// How often the top is emptied of what has been moved there.
const ROUNDS: usize = 10_000;

const OPEN: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Removes a file, or a directory with all that is in it, which may lack its owner's permissions. Nothing there is no error; false if
/// `end` has come first.
pub(crate) fn remove(path: &Path, end: Option<Instant>) -> io::Result<bool> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let name = std::ffi::CString::new(name.as_bytes())?;
    let parent = match open(parent, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) {
        Ok(parent) => parent,
        Err(Errno::ENOENT) => return Ok(true),
        Err(e) => return Err(e.into()),
    };
    let device = fstat(&parent)?.st_dev;
    if is_over(end) {
        return Ok(false);
    }
    if unlinked(parent.as_fd(), &name)? {
        return Ok(true);
    }
    let top = match open_directory(parent.as_fd(), &name, device) {
        Err(Errno::ENOENT) => return Ok(true),
        other => other?,
    };
    let removal = Removal { top, device, end, has_moved: Cell::new(false) };
    let mut attempts = ATTEMPTS;
    for _ in 0..ROUNDS {
        removal.has_moved.set(false);
        if !removal.empty(&removal.top, 0)? {
            return Ok(false);
        }
        match unlinkat(&parent, name.as_c_str(), UnlinkatFlags::RemoveDir) {
            // Another one was faster.
            Ok(()) | Err(Errno::ENOENT) => return Ok(true),
            Err(Errno::ENOTEMPTY | Errno::EEXIST) if removal.has_moved.get() => {}
            Err(Errno::ENOTEMPTY | Errno::EEXIST) if attempts > 0 => attempts -= 1,
            Err(e) => return Err(e.into()),
        }
    }
    Err(Errno::ENOTEMPTY.into())
}

fn is_over(end: Option<Instant>) -> bool {
    end.is_some_and(|end| Instant::now() >= end)
}

/// Removes a name that is no directory; false for a directory.
fn unlinked(parent: BorrowedFd<'_>, name: &CStr) -> nix::Result<bool> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(true),
        Err(Errno::EISDIR) => Ok(false),
        Err(e) => Err(e),
    }
}

/// One tree.
struct Removal {
    top: OwnedFd,
    device: dev_t,
    end: Option<Instant>,
    has_moved: Cell<bool>,
}

impl Removal {
    /// Whether all that is in this directory has gone before the time is over.
    fn empty(&self, directory: &OwnedFd, depth: usize) -> nix::Result<bool> {
        // Not a list of all names: there can be millions.
        let mut listing = Dir::openat(directory.as_fd(), ".", OPEN, Mode::empty())?;
        for entry in listing.iter() {
            let entry = entry?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            if is_over(self.end) || !self.remove(directory, name, depth)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn remove(&self, parent: &OwnedFd, name: &CStr, depth: usize) -> nix::Result<bool> {
        for _ in 0..ATTEMPTS {
            if unlinked(parent.as_fd(), name)? {
                return Ok(true);
            }
            let directory = match open_directory(parent.as_fd(), name, self.device) {
                // Replaced since; the next attempt shows by what.
                Err(Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR) => continue,
                other => other?,
            };
            if depth == DEEPEST {
                let at_top = format!(".deep-{}", unique().map_err(|_| Errno::EIO)?);
                renameat(parent, name, &self.top, at_top.as_str())?;
                self.has_moved.set(true);
                return Ok(true);
            }
            if !self.empty(&directory, depth + 1)? {
                return Ok(false);
            }
            match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => return Ok(true),
                // A live process has put something into it, or a file in its place.
                Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
                Err(e) => return Err(e),
            }
        }
        Err(Errno::ENOTEMPTY)
    }
}

/// A directory on this device, with all permissions of its owner.
fn open_directory(parent: BorrowedFd<'_>, name: &CStr, device: dev_t) -> nix::Result<OwnedFd> {
    let directory = match openat(parent, name, OPEN, Mode::empty()) {
        Err(Errno::EACCES) => open_unreadable(parent, name, device),
        other => other,
    }?;
    let stat = fstat(&directory)?;
    if stat.st_dev != device {
        return Err(Errno::EXDEV);
    }
    if stat.st_mode & 0o700 != 0o700 {
        fchmod(&directory, Mode::S_IRWXU)?;
    }
    Ok(directory)
}

/// The mode is changed by the descriptor's link in /proc, which leads to the directory itself whatever has its name: fchmod(2)
/// refuses such a descriptor.
fn open_unreadable(parent: BorrowedFd<'_>, name: &CStr, device: dev_t) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let shut = openat(parent, name, flags, Mode::empty())?;
    if fstat(&shut)?.st_dev != device {
        return Err(Errno::EXDEV);
    }
    let link = format!("/proc/self/fd/{}", shut.as_raw_fd());
    fchmodat(AT_FDCWD, link.as_str(), Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
    openat(&shut, c".", OPEN, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::{OPEN, open_directory, open_unreadable, remove};
    use nix::errno::Errno;
    use nix::fcntl::{OFlag, open, openat};
    use nix::sys::stat::{Mode, fstat, mkdirat};
    use std::fs::{self, File, Permissions};
    use std::os::fd::AsFd;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::time::Instant;

    #[test]
    fn a_tree_of_any_depth_goes_and_what_links_lead_to_stays() {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(root.path().join("mine/part")).expect("directories");
        fs::set_permissions(root.path().join("mine"), Permissions::from_mode(0o555)).expect("a mode");
        let tree = root.path().join("tree");
        fs::create_dir(&tree).expect("a directory");
        symlink("../mine", tree.join("link")).expect("a link");
        // Longer than any path may be, and deeper than there are descriptors.
        let mut deep = open(&tree, OPEN, Mode::empty()).expect("a directory");
        for n in 0..1200 {
            mkdirat(&deep, "part", Mode::S_IRWXU).expect("a directory");
            let next = openat(&deep, "part", OPEN, Mode::empty()).expect("a directory");
            if n % 400 == 399 {
                let flags = OFlag::O_CREAT | OFlag::O_WRONLY;
                drop(openat(&next, "file", flags, Mode::S_IRWXU).expect("a file"));
            }
            deep = next;
        }
        drop(deep);
        assert!(!remove(&tree, Some(Instant::now())).expect("nothing is done"));
        assert!(remove(&tree, None).expect("removed") && !tree.exists());
        assert!(remove(&tree, None).expect("nothing to remove"));
        assert!(root.path().join("mine/part").exists());
        assert_eq!(fs::metadata(root.path().join("mine")).expect("a directory").mode() & 0o777, 0o555);
        symlink("mine", &tree).expect("a link");
        assert!(remove(&tree, None).expect("removed") && !tree.is_symlink());
        assert!(root.path().join("mine/part").exists());
    }

    #[test]
    fn a_link_in_the_place_of_a_directory_and_another_file_system_are_not_entered() {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir(root.path().join("mine")).expect("a directory");
        symlink("mine", root.path().join("link")).expect("a link");
        let parent = File::open(root.path()).expect("a directory");
        let device = fstat(&parent).expect("a directory").st_dev;
        open_directory(parent.as_fd(), c"mine", device).expect("a directory");
        for opened in [
            open_directory(parent.as_fd(), c"link", device),
            open_unreadable(parent.as_fd(), c"link", device),
        ] {
            assert!(matches!(opened, Err(Errno::ELOOP | Errno::ENOTDIR)), "{opened:?}");
        }
        for opened in [
            open_directory(parent.as_fd(), c"mine", device ^ 1),
            open_unreadable(parent.as_fd(), c"mine", device ^ 1),
        ] {
            assert_eq!(opened.expect_err("another device"), Errno::EXDEV);
        }
    }
}

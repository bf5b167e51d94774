//! Directories of the account, opened one component at a time.
//!
//! A path alone is not reliable: between a check of it and its use, a process may put a symbolic
//! link in its place. So each directory is opened relative to the one above, never through a link,
//! and checked by its descriptor: it must belong to the account. The only link allowed is
//! `data_dir` itself, for users who keep their data on another file system; it must belong to the
//! user, and so must the directory that it leads to.
//!
//! A job may take its own permissions away (`chmod 000`); they are restored for the owner on
//! whatever is opened here, through a descriptor of the directory that was checked.

use crate::error::shown;
use crate::{StageError, print_message};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

const OPEN: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
const PERMISSIONS: u32 = 0o777;
/// Access for the owner only.
pub const PRIVATE: u32 = 0o700;
/// Access for the owner; its group may read.
pub const GROUP: u32 = 0o750;

/// An open directory that belongs to the account.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    path: PathBuf,
    owner: u32,
}

impl Directory {
    /// Opens the account's `data_dir`; `None` if it does not exist.
    pub fn data_dir(path: &Path, owner: u32) -> Result<Option<Self>, StageError> {
        let opened = match open(path, OPEN | OFlag::O_NOFOLLOW, Mode::empty()) {
            Err(Errno::ELOOP | Errno::ENOTDIR) => follow_own_link(path, owner)?,
            Err(Errno::EACCES) => open_unreadable(AT_FDCWD, path, owner),
            other => other,
        };
        Self::check_owner(opened, path.to_owned(), owner)
    }

    /// Opens the directory of this name; `None` if it does not exist.
    pub fn child(&self, name: &OsStr) -> Result<Option<Self>, StageError> {
        let path = self.path.join(name);
        let opened = match openat(&self.fd, name, OPEN | OFlag::O_NOFOLLOW, Mode::empty()) {
            Err(Errno::EACCES) => open_unreadable(self.fd.as_fd(), Path::new(name), self.owner),
            other => other,
        };
        if matches!(opened, Err(Errno::ELOOP | Errno::ENOTDIR)) {
            let cause = if self.stat(name).is_ok_and(|stat| is(&stat, SFlag::S_IFLNK)) {
                "is a symbolic link, and none is followed below the data directory"
            } else {
                "is not a directory"
            };
            return Err(StageError::at("refusing to use", &path, cause, "remove it, or move it away"));
        }
        Self::check_owner(opened, path, self.owner)
    }

    /// Opens the directory of this name, creates it if it is missing, and makes sure that it is
    /// private.
    pub fn make_child(&self, name: &OsStr) -> Result<Self, StageError> {
        self.make_child_with(name, PRIVATE)
    }

    /// As [`Directory::make_child`], with these permissions.
    pub fn make_child_with(&self, name: &OsStr, permissions: u32) -> Result<Self, StageError> {
        let path = self.path.join(name);
        make(self.fd.as_fd(), name, &path)?;
        let child = self.child(name)?.ok_or_else(|| {
            StageError::at("cannot keep", &path, "something removes it at the same time", "run the job again")
        })?;
        child.set_permissions(permissions)?;
        Ok(child)
    }

    /// Sets exactly these permissions, and reports which permissions other users lose.
    pub fn set_permissions(&self, permissions: u32) -> Result<(), StageError> {
        let help = &format!("give it these permissions yourself (chmod {permissions:04o})");
        let mode = fstat(&self.fd).map_err(|e| self.trouble("cannot inspect", e, help))?.st_mode;
        if mode & PERMISSIONS == permissions {
            return Ok(());
        }
        // The set-group-id bit stays: sites use it for quotas, and it gives no access.
        let wanted = Mode::from_bits_truncate(mode & 0o7000 | permissions);
        fchmod(&self.fd, wanted).map_err(|e| self.trouble("cannot change the mode of", e, help))?;
        if mode & 0o077 & !permissions != 0 {
            let others = if permissions == PRIVATE { "no other user" } else { "nobody outside your group" };
            print_message(&format!(
                "changed the mode of {} from {:04o} to {permissions:04o}, so that {others} can read your jobs' files",
                shown(&self.path),
                mode & PERMISSIONS
            ));
        }
        Ok(())
    }

    /// Gives the owner all permissions, without a message.
    fn make_accessible(&self) -> nix::Result<()> {
        let mode = fstat(&self.fd)?.st_mode;
        if mode & PRIVATE == PRIVATE {
            return Ok(());
        }
        fchmod(&self.fd, Mode::from_bits_truncate(mode & 0o7777 | PRIVATE))
    }

    /// Writes and removes a file, so that a full or read-only file system is reported before the
    /// job begins.
    pub fn test_writable(&self) -> Result<(), StageError> {
        let name = format!(".nunbird-trial-{}", std::process::id());
        // A file that a killed process with the same pid left.
        self.unlink(OsStr::new(&name)).map_err(|e| self.not_writable(e))?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.fd, name.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR);
        let mut file = File::from(file.map_err(|e| self.not_writable(e))?);
        // Quotas and network file systems report an error only when data reaches the disk.
        let written = file.write_all(&[0; 4096]).and_then(|()| file.sync_data());
        let removed = self.unlink(OsStr::new(&name));
        written.map_err(|e| self.not_writable(e))?;
        removed.map_err(|e| self.not_writable(e))
    }

    /// The metadata of this name, without following a link.
    pub fn stat(&self, name: &OsStr) -> nix::Result<FileStat> {
        fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    /// Removes a name that is not a directory; a missing one is not an error.
    pub fn unlink(&self, name: &OsStr) -> nix::Result<()> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// The path for messages. It is never opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn check_owner(
        opened: nix::Result<OwnedFd>,
        path: PathBuf,
        owner: u32,
    ) -> Result<Option<Self>, StageError> {
        let help = "make sure that it is a directory of yours that you can enter and read";
        let fd = match opened {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return Ok(None),
            Err(e) => return Err(StageError::at("cannot open", &path, e, help)),
        };
        let stat = fstat(&fd).map_err(|e| StageError::at("cannot inspect", &path, e, help))?;
        if stat.st_uid != owner {
            let cause = format!("it belongs to uid {}, but the job runs as uid {owner}", stat.st_uid);
            let help = "ask its owner to remove it, or the administrators for another `data_dir`";
            return Err(StageError::at("refusing to use", &path, cause, help));
        }
        let directory = Directory { fd, path, owner };
        directory.make_accessible().map_err(|e| directory.trouble("cannot change the mode of", e, help))?;
        Ok(Some(directory))
    }

    fn trouble(&self, what: &str, cause: impl std::fmt::Display, help: &str) -> StageError {
        StageError::at(what, &self.path, cause, help)
    }

    fn not_writable(&self, cause: impl std::fmt::Display) -> StageError {
        let help = "free some space or quota there; if the file system is read-only, report it to the administrators";
        self.trouble("cannot write in", cause, help)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Creates a directory of mode 0700; an existing one is not an error.
pub fn make(parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<(), StageError> {
    match mkdirat(parent, name, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(e) => {
            let help =
                "make sure that the directory above it is yours, writable and has space and quota left";
            Err(StageError::at("cannot make", path, e, help))
        }
    }
}

/// Opens a directory that the owner may not read, after restoring the owner's permission; `EACCES`
/// for a directory of another account.
///
/// The mode is changed through the descriptor's link in /proc, which leads to the directory itself
/// whatever its name now refers to: fchmod(2) refuses such a descriptor, and older kernels lack
/// fchmodat2(2).
fn open_unreadable(parent: BorrowedFd<'_>, name: &Path, owner: u32) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let shut = openat(parent, name, flags, Mode::empty())?;
    let stat = fstat(&shut)?;
    if stat.st_uid != owner || stat.st_mode & PRIVATE == PRIVATE {
        return Err(Errno::EACCES);
    }
    let link = format!("/proc/self/fd/{}", shut.as_raw_fd());
    let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777 | PRIVATE);
    fchmodat(AT_FDCWD, link.as_str(), mode, FchmodatFlags::FollowSymlink)?;
    openat(&shut, ".", OPEN | OFlag::O_NOFOLLOW, Mode::empty())
}

/// The directory behind a link of the owner's; the caller checks where it leads.
fn follow_own_link(path: &Path, owner: u32) -> Result<nix::Result<OwnedFd>, StageError> {
    let refuse = |cause: &str, help: &str| Err(StageError::at("refusing to use", path, cause, help));
    let stat = nix::sys::stat::lstat(path);
    let stat = stat.map_err(|e| StageError::at("cannot inspect", path, e, "run the job again"))?;
    if !is(&stat, SFlag::S_IFLNK) {
        return refuse("it is not a directory", "remove it, or move it away");
    }
    if stat.st_uid != owner {
        return refuse("it is a symbolic link that another user owns", "make the link yourself");
    }
    match open(path, OPEN, Mode::empty()) {
        Err(Errno::ENOENT) => {
            let target = readlinkat(AT_FDCWD, path).unwrap_or_default();
            let cause =
                format!("it is a symbolic link to {}, which does not exist", shown(Path::new(&target)));
            refuse(&cause, "make that directory, or remove the link")
        }
        other => Ok(other),
    }
}

/// Whether this is a file of that kind.
pub fn is(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == kind
}

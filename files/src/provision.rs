//! A user's directory where the user cannot make one: in a directory of root's.
//!
//! `nunbird-auth` calls this with privilege, under root's filesystem ids. It holds no capability over files, so it cannot give
//! a file away (chown(2)). What makes the directory is therefore a forked child that has the user's filesystem ids and, for its
//! only group, the group of the directory above, which must be allowed to write there: the kernel makes the new
//! directory the user's. The child does nothing else. No symbolic link is followed on the way.

use crate::identity::{Caller, acting_as};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, setgroups};
use nunbird_sys::fork::{Ended, fork_into};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

/// Makes the directory, mode 0700, where it is missing in one of root's. The directories above it are the site's and are
/// never made: one that is missing is more likely not mounted. Says whether it was made.
///
/// # Errors
/// For a symbolic link on the way, a directory that is not root's or that everybody may write in, and
/// one whose group may not write in it.
pub fn make_for(path: &Path, owner: Caller) -> io::Result<bool> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    };
    let mut walked = PathBuf::from("/");
    let mut directory = open(AT_FDCWD, OsStr::new("/")).map_err(|e| at(&walked, e))?;
    for component in parent.components() {
        let next = match component {
            Component::RootDir => continue,
            Component::Normal(name) => name,
            _ => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
        };
        judge(&walked, &fstat(&directory)?)?;
        walked.push(next);
        directory = match open(&directory, next) {
            Ok(directory) => directory,
            // The launcher reports it to the user.
            Err(Errno::ENOENT) => return Ok(false),
            Err(e) => return Err(at(&walked, e)),
        };
    }
    let above = fstat(&directory)?;
    judge(&walked, &above)?;
    walked.push(name);
    match open(&directory, name) {
        // Whose it is, the launcher sees as the user.
        Ok(_) => Ok(false),
        Err(Errno::ENOENT) => {
            make(&directory, name, owner, above.st_gid).map_err(|e| refused(&walked, &e))?;
            Ok(true)
        }
        Err(e) => Err(at(&walked, e)),
    }
}

fn open(directory: impl std::os::fd::AsFd, name: &OsStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(directory, name, flags, Mode::empty())
}

fn judge(path: &Path, stat: &FileStat) -> io::Result<()> {
    let trouble = |text: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    if stat.st_uid != 0 {
        return trouble(format!("{} belongs to uid {}, not to root", path.display(), stat.st_uid));
    }
    if stat.st_mode & 0o002 != 0 && stat.st_mode & libc::S_ISVTX == 0 {
        return trouble(format!(
            "{} is writable by everybody (mode {:04o})",
            path.display(),
            stat.st_mode & 0o7777
        ));
    }
    Ok(())
}

fn make(parent: &OwnedFd, name: &OsStr, owner: Caller, group: u32) -> io::Result<()> {
    let child = fork_into(|| {
        let made = || -> io::Result<()> {
            setgroups(&[Gid::from_raw(group)])?;
            Ok(acting_as(owner, || mkdirat(parent, name, Mode::S_IRWXU))??)
        };
        made().map_or_else(|e| e.raw_os_error().unwrap_or(libc::EIO), |()| 0)
    })?;
    match child.wait()? {
        Ended::Exited(0) => {}
        // Another job of the user was faster.
        Ended::Exited(libc::EEXIST) => {}
        Ended::Exited(errno) => return Err(io::Error::from_raw_os_error(errno)),
        Ended::Killed(_) => return Err(io::Error::from_raw_os_error(libc::EINTR)),
    }
    let stat = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let is_directory = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
    if is_directory && stat.st_uid == owner.uid {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::EPERM))
    }
}

fn at(path: &Path, e: Errno) -> io::Error {
    let text = match e {
        Errno::ENOTDIR | Errno::ELOOP => {
            "is a symbolic link or no directory; name the directory itself".to_owned()
        }
        other => other.desc().to_owned(),
    };
    io::Error::new(io::Error::from(e).kind(), format!("{}: {text}", path.display()))
}

fn refused(path: &Path, e: &io::Error) -> io::Error {
    let help = match e.kind() {
        io::ErrorKind::PermissionDenied => {
            "; let the group of the directory above write in it (chgrp root and chmod g+w)"
        }
        _ => "",
    };
    io::Error::new(e.kind(), format!("cannot make {}: {e}{help}", path.display()))
}

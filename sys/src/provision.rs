//! A user's directory where the user cannot make one: in a directory of root's.
//!
//! `nunbird-auth` calls this with privilege, under root's filesystem ids. It holds no capability over files, so it cannot give
//! a file away (chown(2)). What makes the directory is therefore a forked child that has the user's filesystem ids and, for its
//! only group, the group of the directory above, which must be allowed to write there: the kernel makes the new
//! directory the user's. The child does nothing else. No symbolic link is followed on the way.

use crate::fork::{Ended, fork_into};
use crate::identity::FileIdentity;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, setgroups};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

/// Whose directory it is.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    /// Login name.
    pub name: &'a str,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
}

/// Makes the first directory of `path` that is missing, mode 0700, where it lies in a directory of root's and bears the
/// user's name. The rest of the way is the user's own. Says what was made.
///
/// A directory without the user's name is never made: it is the site's, and more likely not mounted.
///
/// # Errors
/// For a symbolic link on the way, a directory that is neither root's nor the user's or that everybody may write in, and
/// one whose group may not write in it.
pub fn make_for(path: &Path, owner: Owner<'_>) -> io::Result<Option<PathBuf>> {
    let mut walked = PathBuf::from("/");
    let mut directory = open(AT_FDCWD, OsStr::new("/")).map_err(|e| at(&walked, e))?;
    for component in path.components() {
        let name = match component {
            Component::RootDir => continue,
            Component::Normal(name) => name,
            _ => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
        };
        let above = fstat(&directory)?;
        if above.st_uid == owner.uid {
            return Ok(None);
        }
        judge(&walked, &above)?;
        walked.push(name);
        match open(&directory, name) {
            Ok(next) => directory = next,
            Err(Errno::ENOENT) if name.to_str().is_some_and(|name| name.contains(owner.name)) => {
                make(&directory, name, owner, above.st_gid).map_err(|e| refused(&walked, &e))?;
                return Ok(Some(walked));
            }
            Err(Errno::ENOENT) => return Ok(None),
            Err(e) => return Err(at(&walked, e)),
        }
    }
    Ok(None)
}

fn open(directory: impl std::os::fd::AsFd, name: &OsStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(directory, name, flags, Mode::empty())
}

fn judge(path: &Path, stat: &FileStat) -> io::Result<()> {
    let trouble = |text: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    if stat.st_uid != 0 {
        return trouble(format!(
            "{} belongs to uid {}, neither to root nor to the user",
            path.display(),
            stat.st_uid
        ));
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

fn make(parent: &OwnedFd, name: &OsStr, owner: Owner<'_>, group: u32) -> io::Result<()> {
    let child = fork_into(|| {
        let made = || -> io::Result<()> {
            setgroups(&[Gid::from_raw(group)])?;
            let _user = FileIdentity::assume(owner.uid, owner.gid)?;
            Ok(mkdirat(parent, name, Mode::S_IRWXU)?)
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

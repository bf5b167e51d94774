//! Files that only trusted users can have written.
//!
//! A path is walked directory by directory without following a symbolic link, and each step is judged on
//! the opened descriptor: an account that could replace a directory on the way could replace the file
//! (CVE-2021-23239 and CVE-2015-5602 in sudo are races between a check and a use by name).

use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

/// Why a file was not trusted.
#[derive(Debug)]
pub enum Distrust {
    /// It, or a directory on the way, could not be opened. `ELOOP` and `ENOTDIR` mean a symbolic link.
    Open(PathBuf, io::Error),
    /// Not absolute, or with `..` in it.
    Path(PathBuf),
    /// Owned by this uid, which is not trusted.
    Owner(PathBuf, u32),
    /// Writable by its group or by everybody: the mode.
    Writable(PathBuf, u32),
    /// The directory that holds it lets everybody make files in it: the mode.
    Shared(PathBuf, u32),
    /// Not a regular file.
    Kind(PathBuf),
    /// Larger than the limit, in bytes.
    Size(PathBuf, u64),
}

impl std::fmt::Display for Distrust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Distrust::Open(path, e) if matches!(e.raw_os_error(), Some(libc::ELOOP)) => {
                write!(f, "{}: is a symbolic link; name the file itself", path.display())
            }
            Distrust::Open(path, e) => write!(f, "{}: cannot be opened: {e}", path.display()),
            Distrust::Path(path) => write!(f, "{}: must be absolute and without `..`", path.display()),
            Distrust::Owner(path, uid) => {
                write!(f, "{}: owned by uid {uid}; make it root's (chown root)", path.display())
            }
            Distrust::Writable(path, mode) => {
                let path = path.display();
                write!(f, "{path}: writable by others (mode {mode:04o}); take that away (chmod go-w)")
            }
            Distrust::Shared(path, mode) => {
                let path = path.display();
                write!(
                    f,
                    "{path}: others can make files in it (mode {mode:04o}), so what lies in it may be anybody's; move that to \
                     a directory in which only root can (mode 0755)"
                )
            }
            Distrust::Kind(path) => write!(f, "{}: not a regular file", path.display()),
            Distrust::Size(path, limit) => write!(f, "{}: larger than {limit} bytes", path.display()),
        }
    }
}

impl std::error::Error for Distrust {}

/// Opens a regular file for reading.
///
/// The file and every directory on the way must belong to one of `owners` (uid 0 is always one for the
/// directories) and be writable by nobody else. A sticky directory (`/tmp`) may be on the way, where what leads on is a
/// directory of theirs, but not hold the file: who makes a name in it first has it.
///
/// # Errors
/// See [`Distrust`].
pub fn open_trusted(path: &Path, owners: &[u32]) -> Result<File, Distrust> {
    let (parent, name) = split(path)?;
    let directory = open_trusted_directory(parent, owners)?;
    // Looked at before it is opened: opening a device acts on it, as closing does (a watchdog would reboot the
    // host). Only a trusted user could put another file there in between.
    let seen = fstatat(&directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(|e| Distrust::Open(path.into(), e.into()))?;
    match SFlag::from_bits_truncate(seen.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => {}
        SFlag::S_IFLNK => return Err(Distrust::Open(path.into(), nix::Error::ELOOP.into())),
        _ => return Err(Distrust::Kind(path.into())),
    }
    // O_NONBLOCK: a FIFO put in the file's place must not hang the program before it is refused.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let fd =
        openat(&directory, name, flags, Mode::empty()).map_err(|e| Distrust::Open(path.into(), e.into()))?;
    let stat = judge(path, &fd, owners)?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(Distrust::Kind(path.into()));
    }
    Ok(File::from(fd))
}

/// Opens a directory, judged like [`open_trusted`]: nobody else can make files in it, nor give it to somebody else.
///
/// # Errors
/// See [`Distrust`].
pub fn open_trusted_directory(path: &Path, owners: &[u32]) -> Result<OwnedFd, Distrust> {
    if !path.is_absolute() {
        return Err(Distrust::Path(path.into()));
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut walked = PathBuf::from("/");
    let open_error = |walked: &Path, e: nix::Error| {
        // With O_DIRECTORY the kernel calls a symbolic link "not a directory"; say what it is.
        let link = e == nix::Error::ENOTDIR && walked.is_symlink();
        Distrust::Open(walked.into(), if link { nix::Error::ELOOP.into() } else { e.into() })
    };
    let mut directory =
        openat(AT_FDCWD, &walked, flags, Mode::empty()).map_err(|e| open_error(&walked, e))?;
    judge_directory(&walked, &directory, owners)?;
    for component in path.components() {
        let name = match component {
            Component::RootDir => continue,
            Component::Normal(name) => name,
            _ => return Err(Distrust::Path(path.into())),
        };
        walked.push(name);
        directory = openat(&directory, name, flags, Mode::empty()).map_err(|e| open_error(&walked, e))?;
        judge_directory(&walked, &directory, owners)?;
    }
    // What is on the way is judged by its owner, but nobody may judge so what lies in the last one: its caller may take
    // another owner's, or what is missing there for an answer.
    let stat = fstat(&directory).map_err(|e| open_error(&walked, e))?;
    if stat.st_mode & 0o022 != 0 {
        return Err(Distrust::Shared(walked, stat.st_mode & 0o7777));
    }
    Ok(directory)
}

fn split(path: &Path) -> Result<(&Path, &std::ffi::OsStr), Distrust> {
    path.parent().zip(path.file_name()).ok_or_else(|| Distrust::Path(path.into()))
}

fn judge_directory(path: &Path, fd: &OwnedFd, owners: &[u32]) -> Result<(), Distrust> {
    let stat = fstat(fd).map_err(|e| Distrust::Open(path.into(), e.into()))?;
    // A sticky directory (/tmp) lets nobody replace another's entry, and the entry's owner is judged next.
    let sticky = stat.st_mode & libc::S_ISVTX != 0;
    judge_stat(path, &stat, owners, true, sticky)
}

fn judge(path: &Path, fd: &OwnedFd, owners: &[u32]) -> Result<FileStat, Distrust> {
    let stat = fstat(fd).map_err(|e| Distrust::Open(path.into(), e.into()))?;
    judge_stat(path, &stat, owners, false, false)?;
    Ok(stat)
}

fn judge_stat(
    path: &Path,
    stat: &FileStat,
    owners: &[u32],
    directory: bool,
    sticky: bool,
) -> Result<(), Distrust> {
    let trusted = owners.contains(&stat.st_uid) || (directory && stat.st_uid == 0);
    if !trusted {
        return Err(Distrust::Owner(path.into(), stat.st_uid));
    }
    if stat.st_mode & 0o022 != 0 && !sticky {
        return Err(Distrust::Writable(path.into(), stat.st_mode & 0o7777));
    }
    Ok(())
}

#[cfg(test)]
#[path = "trusted_tests.rs"]
mod tests;

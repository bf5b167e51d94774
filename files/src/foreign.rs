//! Files that the caller names: opened as the caller, judged on the descriptor.

use crate::identity::{Caller, acting_as};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nunbird_sys::effective::EffectiveUser;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// What a private directory of the caller is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectoryId {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

/// Opens a regular file of the caller's own for reading, as the caller.
///
/// # Errors
/// As open(2); `ELOOP` for a symbolic link, `EINVAL` for anything but a regular file, `EPERM` for a file of
/// somebody else.
pub fn open_for_reading(path: &Path, caller: Caller) -> io::Result<File> {
    open_as(path, caller, OFlag::O_RDONLY)
}

/// Opens or creates (mode 0600) a regular file of the caller's own for writing, and makes this its content, all as
/// the caller.
///
/// # Errors
/// As [`open_for_reading`], and as write(2).
pub fn open_with_content(path: &Path, caller: Caller, content: &[u8]) -> io::Result<File> {
    let mut file = open_as(path, caller, OFlag::O_WRONLY | OFlag::O_CREAT)?;
    nunbird_sys::exec::blocking(&file)?;
    as_caller(caller, || file.set_len(0).and_then(|()| file.write_all(content)))?;
    Ok(file)
}

fn open_as(path: &Path, caller: Caller, how: OFlag) -> io::Result<File> {
    // O_NONBLOCK: a FIFO must not hang the program; O_NOCTTY: nor must a terminal become its own.
    let flags = how | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let fd = as_caller(caller, || Ok(open(path, flags, Mode::S_IRUSR | Mode::S_IWUSR)?))?;
    let stat = fstat(&fd)?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    owned(&stat, caller)?;
    Ok(File::from(fd))
}

/// Looks at a directory that must be the caller's alone (mode 0700), as the caller.
///
/// # Errors
/// As open(2); `ENOTDIR` or `ELOOP` for a symbolic link, `EPERM` for a directory of somebody else or one that others can enter.
pub fn private_directory(path: &Path, caller: Caller) -> io::Result<DirectoryId> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = as_caller(caller, || Ok(open(path, flags, Mode::empty())?))?;
    let stat = fstat(&fd)?;
    owned(&stat, caller)?;
    if stat.st_mode & 0o077 != 0 {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    Ok(DirectoryId { device: stat.st_dev, inode: stat.st_ino })
}

/// The gid first: it needs a capability that the effective user has not, and goes back last for the same reason.
fn as_caller<T>(caller: Caller, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    acting_as(caller, || {
        let _user = EffectiveUser::assume(caller.uid)?;
        act()
    })?
}

fn owned(stat: &FileStat, caller: Caller) -> io::Result<()> {
    if stat.st_uid == caller.uid { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EPERM)) }
}

//! A file by which a user says something about themselves, read as that user.
//!
//! To be called by a process that is the user for good: then links, network file systems and permissions are the user's own
//! business, and no privilege is ever used on the way.

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, stat};
use nunbird_wire::choice;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Why such a file does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// The directory that everything lies in is not there, or cannot be looked at.
    Home,
    /// It, or a directory on the way, cannot be opened or read.
    Unreadable,
    /// Not a regular file.
    Kind,
    /// It, or a directory on the way, belongs to somebody else.
    Owner,
    /// It, or a directory on the way, can be written by others.
    Writable,
    /// Longer than the limit.
    Size,
}

choice!(Doubt { 0 => Home, 1 => Unreadable, 2 => Kind, 3 => Owner, 4 => Writable, 5 => Size });

/// The content of `home/directories…/name`; none where there is no such file.
///
/// The file and every directory from `home` on must be the user's (directories: or root's) and writable by nobody else.
///
/// # Errors
/// See [`Doubt`].
pub(crate) fn read(home: &Path, inside: &Path, uid: u32, limit: u64) -> Result<Option<Vec<u8>>, Doubt> {
    judge(&stat(home).map_err(|_| Doubt::Home)?, uid, true)?;
    let mut path = home.to_path_buf();
    for part in inside.parent().into_iter().flat_map(Path::components) {
        path.push(part);
        match stat(&path) {
            Ok(found) => judge(&found, uid, true)?,
            Err(nix::Error::ENOENT) => return Ok(None),
            Err(_) => return Err(Doubt::Unreadable),
        }
    }
    // Neither a FIFO nor a terminal may hold this process up or become its own.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let fd = match open(&home.join(inside), flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(nix::Error::ENOENT) => return Ok(None),
        Err(_) => return Err(Doubt::Unreadable),
    };
    let found = fstat(&fd).map_err(|_| Doubt::Unreadable)?;
    if SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(Doubt::Kind);
    }
    judge(&found, uid, false)?;
    let mut bytes = Vec::new();
    let read = File::from(fd).take(limit.saturating_add(1)).read_to_end(&mut bytes);
    let length: io::Result<u64> = read.map(|n| u64::try_from(n).unwrap_or(u64::MAX));
    match length {
        Err(_) => Err(Doubt::Unreadable),
        Ok(length) if length > limit => Err(Doubt::Size),
        Ok(_) => Ok(Some(bytes)),
    }
}

fn judge(found: &FileStat, uid: u32, directory: bool) -> Result<(), Doubt> {
    if found.st_uid != uid && !(directory && found.st_uid == 0) {
        return Err(Doubt::Owner);
    }
    if found.st_mode & 0o022 != 0 { Err(Doubt::Writable) } else { Ok(()) }
}

//! Small files in the account's own directories: written whole or not at all, read without trust.
//!
//! The account's programs can put a link or a FIFO in the place of a file, and open(2) would wait for
//! a writer of the FIFO forever, with all requests to cancel blocked.

use crate::StageError;
use crate::directory::Directory;
use crate::error::shown;
use nunbird_handover::Handover;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path};

/// Does not follow a link, and fails on a FIFO that nothing reads (open(2)). Regular files ignore
/// the second flag.
pub const NEITHER_LINK_NOR_PIPE: i32 = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;

/// Opens a regular file for reading.
///
/// # Errors
/// As open(2); anything else than a regular file.
pub fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(NEITHER_LINK_NOR_PIPE).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

/// At most `limit` bytes from its beginning.
///
/// # Errors
/// As [`open_file`] and read(2).
pub fn beginning(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_file(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// For a file of mode 0600 that is written.
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600).custom_flags(NEITHER_LINK_NOR_PIPE);
    options
}

/// Writes the file so that it is complete or absent, even after a crash of the host.
///
/// # Errors
/// As open(2), write(2), fsync(2) and rename(2).
pub fn write(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    put(path, parts, true)
}

/// The same, as long as the host lives.
///
/// # Errors
/// As open(2), write(2) and rename(2).
pub fn replace(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    put(path, parts, false)
}

fn put(path: &Path, parts: &[&[u8]], synced: bool) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut new = name.to_owned();
    new.push(".new");
    let new = parent.join(new);
    let mut file = options().create(true).truncate(true).open(&new)?;
    for part in parts {
        file.write_all(part)?;
    }
    if synced {
        file.sync_all()?;
    }
    fs::rename(&new, path)?;
    if synced { File::open(parent)?.sync_all() } else { Ok(()) }
}

/// A directory below `data_dir`, or `data_dir` itself, opened component by component; made where
/// `make` is set, else `None` if it is missing.
///
/// # Errors
/// A path that is not below `data_dir`; what opening or making the directories meets.
pub fn directory(handover: &Handover, path: &Path, make: bool) -> Result<Option<Directory>, StageError> {
    let data_dir = &handover.workspace.data_dir;
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let way = path.strip_prefix(data_dir).ok().filter(|_| plain).ok_or_else(|| {
        let cause = format!("it must lie below {}, without `..`", shown(data_dir));
        StageError::at("refusing to use", path, cause, "report it to the administrators")
    })?;
    let Some(mut directory) = Directory::data_dir(data_dir, handover.account.uid)? else {
        if !make {
            return Ok(None);
        }
        let help = "run the job again; its prepare stage makes it";
        return Err(StageError::at("cannot use", data_dir, "it is missing", help));
    };
    for name in way.components() {
        if make {
            directory = directory.make_child(name.as_os_str())?;
        } else if let Some(child) = directory.child(name.as_os_str())? {
            directory = child;
        } else {
            return Ok(None);
        }
    }
    Ok(Some(directory))
}

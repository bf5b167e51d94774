//! A file by the directory that has it, opened once.
//!
//! Root changes gitlab-runner's file, whose directory may belong to the account that runs gitlab-runner. No link is followed on the
//! way, and a link that the account puts in the file's place is replaced, not followed: what is written stays in that directory.

use crate::output::CtlError;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstatat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};
use nunbird_files::trusted::{Distrust, open_trusted_directory};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bytes of a file at most.
const LARGEST: u64 = 16 << 20;

#[derive(Debug)]
pub(super) struct Place {
    directory: OwnedFd,
    name: OsString,
    file: PathBuf,
}

impl Place {
    /// Opens the directory of a file, which need not exist.
    ///
    /// # Errors
    /// For a path with a link in it, and for a directory that others than root and one account can change.
    pub(super) fn open(file: &Path) -> Result<Place, CtlError> {
        let wrong = |e: &dyn std::fmt::Display| CtlError::new(format!("{}: {e}", file.display()));
        let whole = std::path::absolute(file).map_err(|e| wrong(&e))?;
        let (Some(parent), Some(name)) = (whole.parent(), whole.file_name()) else {
            return Err(wrong(&"not a file"));
        };
        let owner = parent.symlink_metadata().map_err(|e| wrong(&e))?.uid();
        let directory = open_trusted_directory(parent, &[0, owner]).map_err(|e| match e {
            Distrust::Open(path, e) => {
                CtlError::new(format!("{}: {e}; name the file without links", path.display()))
            }
            other => CtlError::new(other),
        })?;
        Ok(Place { directory, name: name.to_owned(), file: whole.clone() })
    }

    /// Whether root alone can change the file and its directory.
    pub(super) fn is_roots(&self) -> bool {
        nunbird_files::trusted::open_trusted(&self.file, &[0]).is_ok()
    }

    /// The bytes of the file; none where it does not exist.
    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, CtlError> {
        let wrong = |e: &dyn std::fmt::Display| CtlError::new(format!("{}: {e}", self.file.display()));
        match self.stat() {
            Ok(None) => return Ok(None),
            Ok(Some(_)) => {}
            Err(e) => return Err(wrong(&e)),
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fd =
            openat(&self.directory, self.name.as_os_str(), flags, Mode::empty()).map_err(|e| wrong(&e))?;
        let mut bytes = Vec::new();
        File::from(fd).take(LARGEST + 1).read_to_end(&mut bytes).map_err(|e| wrong(&e))?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST) {
            return Err(wrong(&"larger than 16 MiB"));
        }
        Ok(Some(bytes))
    }

    /// What the name is; an error for anything but a regular file.
    fn stat(&self) -> io::Result<Option<FileStat>> {
        let stat = match fstatat(&self.directory, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::ENOENT) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => Ok(Some(stat)),
            SFlag::S_IFLNK => Err(io::Error::other("a symbolic link; name the file itself")),
            _ => Err(io::Error::other("not a regular file")),
        }
    }

    /// Puts a new file in its place, with the mode and the owner of the old one, or 0644.
    pub(super) fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let old = self.stat()?;
        let mut beside = OsString::from(format!(".{}.", std::process::id()));
        beside.push(&self.name);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&self.directory, beside.as_os_str(), flags, Mode::from_bits_truncate(0o600))?;
        let done = fill(File::from(fd), bytes, old.as_ref()).and_then(|()| {
            renameat(&self.directory, beside.as_os_str(), &self.directory, self.name.as_os_str())?;
            self.sync()
        });
        if done.is_err() {
            let _may_be_gone = unlinkat(&self.directory, beside.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
        done
    }

    /// Removes the file, if it is there.
    pub(super) fn remove(&self) -> io::Result<()> {
        match unlinkat(&self.directory, self.name.as_os_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => self.sync(),
            Err(e) => Err(e.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        Ok(nix::unistd::fsync(&self.directory)?)
    }
}

fn fill(mut file: File, bytes: &[u8], old: Option<&FileStat>) -> io::Result<()> {
    file.write_all(bytes)?;
    let mode = old.map_or(0o644, |old| old.st_mode & 0o777);
    if let Some(old) = old {
        fchown(file.as_fd(), Some(Uid::from_raw(old.st_uid)), Some(Gid::from_raw(old.st_gid)))?;
    }
    fchmod(file.as_fd(), Mode::from_bits_truncate(mode))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::Place;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_link_in_the_files_place_is_neither_read_nor_written_through() {
        let scratch = tempfile::tempdir().unwrap();
        let (file, target) = (scratch.path().join("config.toml"), scratch.path().join("target"));
        fs::write(&file, "one").unwrap();
        fs::write(&target, "precious").unwrap();
        let place = Place::open(&file).unwrap();
        assert_eq!(place.read().unwrap().as_deref(), Some("one".as_bytes()));
        fs::remove_file(&file).unwrap();
        symlink(&target, &file).unwrap();
        assert!(format!("{:?}", place.read().unwrap_err()).contains("symbolic link"));
        place.replace(b"two").unwrap_err();
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2, "nothing is left");
    }

    #[test]
    fn a_directory_that_is_swapped_for_a_link_is_not_where_the_file_goes() {
        let scratch = tempfile::tempdir().unwrap();
        let (directory, elsewhere) = (scratch.path().join("runner"), scratch.path().join("etc"));
        for made in [&directory, &elsewhere] {
            fs::create_dir(made).unwrap();
            fs::write(made.join("config.toml"), "one").unwrap();
        }
        let place = Place::open(&directory.join("config.toml")).unwrap();
        fs::rename(&directory, scratch.path().join("moved")).unwrap();
        symlink(&elsewhere, &directory).unwrap();
        place.replace(b"two").unwrap();
        assert_eq!(fs::read_to_string(elsewhere.join("config.toml")).unwrap(), "one");
        assert_eq!(fs::read_to_string(scratch.path().join("moved/config.toml")).unwrap(), "two");
        assert!(Place::open(&directory.join("config.toml")).is_err(), "a link on the way");
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Place::open(&scratch.path().join("config.toml")).is_err());
    }
}

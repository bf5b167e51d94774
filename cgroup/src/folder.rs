//! A group's directory, held open.

use super::Trouble;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, fstatfs};
use nix::unistd::{UnlinkatFlags, unlinkat};
use nunbird_files::trusted::open_trusted_directory;
use nunbird_started::attribute;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// More than any file of a group that is read, in bytes; one that lists ten thousand processes is shorter.
const MOST: u64 = 1 << 20;

/// A directory on a cgroup file system.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens a group's directory: every part of the path belongs to root or `owner`, and none is a link.
    ///
    /// # Errors
    /// [`Trouble::File`]; `ENOTDIR` for a directory that is on no cgroup file system.
    pub fn open(path: &Path, owner: u32) -> Result<Self, Trouble> {
        let failed = |e: io::Error| Trouble::File(path.to_path_buf(), "cannot be opened", e);
        let fd = open_trusted_directory(path, &[owner]).map_err(|distrust| match distrust {
            nunbird_files::trusted::Distrust::Open(_, e) => failed(e),
            other => failed(io::Error::new(io::ErrorKind::PermissionDenied, other.to_string())),
        })?;
        let kind = fstatfs(&fd).map_err(|e| failed(e.into()))?.filesystem_type();
        if kind != CGROUP_SUPER_MAGIC && kind != CGROUP2_SUPER_MAGIC {
            return Err(failed(io::Error::from_raw_os_error(libc::ENOTDIR)));
        }
        Ok(Folder { fd, path: path.to_path_buf() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn trouble(&self, name: &str, what: &'static str, e: impl Into<io::Error>) -> Trouble {
        Trouble::File(self.path.join(name), what, e.into())
    }

    /// Makes a group below this one.
    ///
    /// # Errors
    /// As mkdir(2), `EEXIST` too: a group that is there already has another's processes or limits.
    pub(super) fn make(&self, name: &str) -> Result<(), Trouble> {
        let mode = Mode::from_bits_truncate(0o755);
        mkdirat(&self.fd, name, mode).map_err(|e| self.trouble(name, "cannot be made", e))?;
        // Whatever the umask: a job may read its own limits, and the shepherd reads what was used without privilege.
        let made = self.file(name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        fchmod(&made, mode).map_err(|e| self.trouble(name, "cannot be opened to readers", e))
    }

    /// Removes a group below this one; one that is not there is fine.
    ///
    /// # Errors
    /// As rmdir(2).
    pub(super) fn remove(&self, name: &str) -> Result<(), Trouble> {
        match unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(self.trouble(name, "cannot be removed", e)),
        }
    }

    /// A file of the group, open for as long as it is needed.
    ///
    /// # Errors
    /// As open(2).
    pub(super) fn file(&self, name: &str, flags: OFlag) -> Result<File, Trouble> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&self.fd, name, flags, Mode::empty());
        fd.map(File::from).map_err(|e| self.trouble(name, "cannot be opened", e))
    }

    /// The text of a file, without the space around it.
    ///
    /// # Errors
    /// As open(2) and read(2).
    pub(super) fn read(&self, name: &str) -> Result<String, Trouble> {
        let file = self.file(name, OFlag::O_RDONLY)?;
        let mut text = String::new();
        file.take(MOST).read_to_string(&mut text).map_err(|e| self.trouble(name, "cannot be read", e))?;
        Ok(text.trim().to_owned())
    }

    /// Writes a value. The kernel takes it as a whole or not at all.
    ///
    /// # Errors
    /// As open(2) and write(2).
    pub(super) fn write(&self, name: &str, value: &str) -> Result<(), Trouble> {
        let mut file = self.file(name, OFlag::O_WRONLY)?;
        file.write_all(value.as_bytes()).map_err(|e| self.trouble(name, "cannot be written", e))
    }

    /// Whether systemd has left what is below this group to others (systemd's `CGROUP_DELEGATION.md`). It marks the group
    /// for everybody to read since version 251, on kernels since 5.7; a mark that cannot be read is none.
    ///
    /// # Errors
    /// As open(2).
    pub(super) fn is_delegated(&self) -> Result<bool, Trouble> {
        let directory = self.file(".", OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        let mut value = [0_u8; 1];
        let length = attribute::read(&directory, DELEGATED, &mut value).ok();
        Ok(length == Some(1) && value == *b"1")
    }

    /// Process ids in the group.
    ///
    /// # Errors
    /// As open(2) and read(2).
    pub(super) fn processes(&self) -> Result<Vec<i32>, Trouble> {
        let text = self.read("cgroup.procs")?;
        // 0 is a process of another pid namespace, which cannot be named here and is counted all the same.
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Process ids in the group and in all groups below it. One that goes meanwhile has none.
    ///
    /// # Errors
    /// As open(2) and read(2).
    pub(super) fn all_processes(&self, found: &mut Vec<i32>) -> Result<(), Trouble> {
        found.extend(self.processes()?);
        let mut entries = Dir::openat(&self.fd, ".", DIRECTORY, Mode::empty())
            .map_err(|e| self.trouble("", "cannot be listed", e))?;
        for entry in entries.iter() {
            let entry = entry.map_err(|e| self.trouble("", "cannot be listed", e))?;
            let name = entry.file_name();
            if entry.file_type() != Some(Type::Directory) || [c".", c".."].contains(&name) {
                continue;
            }
            let path = self.path.join(OsStr::from_bytes(name.to_bytes()));
            let below = match openat(&self.fd, name, DIRECTORY, Mode::empty()) {
                Ok(fd) => Folder { fd, path }.all_processes(found),
                Err(e) => Err(Trouble::File(path, "cannot be opened", e.into())),
            };
            match below {
                Err(Trouble::File(_, _, e)) if went(&e) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Whether there are groups below it.
    ///
    /// # Errors
    /// As open(2) and readdir(3).
    pub(super) fn has_groups(&self) -> Result<bool, Trouble> {
        let mut entries = Dir::openat(&self.fd, ".", DIRECTORY, Mode::empty())
            .map_err(|e| self.trouble("", "cannot be listed", e))?;
        let mut entries = entries.iter().flatten();
        Ok(entries.any(|entry| {
            entry.file_type() == Some(Type::Directory) && ![c".", c".."].contains(&entry.file_name())
        }))
    }
}

/// What systemd's `cgroup_xattr_apply` sets to `1`, beside `trusted.delegate`, which takes `CAP_SYS_ADMIN` to read (xattr(7)).
const DELEGATED: &CStr = c"user.delegate";

const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Whether a group was removed under one's hands: its files are not there, or say that they have no device.
pub(super) fn went(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

#[cfg(test)]
mod tests {
    use super::Folder;
    use std::path::Path;

    #[test]
    fn a_directory_that_is_no_control_group_is_refused() {
        for path in ["/", "/proc", "/usr"] {
            assert!(Folder::open(Path::new(path), 0).is_err(), "{path}");
        }
    }
}

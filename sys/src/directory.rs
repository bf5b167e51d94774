//! A directory held open: its files by name, nothing outside it.

use crate::lines::Lines;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// A directory; names passed to its functions must be one component.
#[derive(Debug)]
pub struct Directory(OwnedFd);

/// Held as long as the value lives.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "dropping it releases the lock")] Flock<OwnedFd>);

impl Directory {
    /// Takes over an open directory.
    pub fn new(fd: OwnedFd) -> Self {
        Directory(fd)
    }

    /// Owner's uid, group's gid and permission bits.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn owner(&self) -> io::Result<(u32, u32, u32)> {
        let stat = fstat(&self.0)?;
        Ok((stat.st_uid, stat.st_gid, stat.st_mode & 0o7777))
    }

    /// The content of a file of at most `limit` bytes, and its owner's uid and permission bits.
    ///
    /// # Errors
    /// As open(2) and read(2); `EFBIG` for a longer file, `EINVAL` for a name that is no single component.
    pub fn read(&self, name: &str, limit: u64) -> io::Result<(Vec<u8>, u32, u32)> {
        let file = self.open(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
        let stat = fstat(&file)?;
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
        Ok((bytes, stat.st_uid, stat.st_mode & 0o7777))
    }

    /// Writes a file so that its name leads to the old content or the new, never to a part (mode 0600).
    ///
    /// # Errors
    /// As open(2), write(2), fsync(2) and rename(2); the old content stays.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = format!(".{name}.new");
        // One that a killed process left is nobody's any more: callers hold the lock.
        self.remove(&temporary)?;
        let mut file = self.open(&temporary, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_data());
        let renamed =
            written.and_then(|()| Ok(renameat(&self.0, temporary.as_str(), &self.0, component(name)?)?));
        if renamed.is_err() {
            self.remove(&temporary)?;
        }
        renamed
    }

    /// Opens a file of lines for appending, mode 0640 where it has to be made.
    ///
    /// # Errors
    /// As open(2); `EPERM` for a file that does not belong to `owner` or that others can write, `EINVAL` for anything but a
    /// regular file.
    pub fn lines(&self, name: &str, owner: u32) -> io::Result<Lines> {
        let flags = OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IRGRP;
        let file = File::from(openat(&self.0, component(name)?, flags | OFlag::O_CLOEXEC, mode)?);
        let stat = fstat(&file)?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        if stat.st_uid != owner || stat.st_mode & 0o022 != 0 {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        Ok(Lines::new(file))
    }

    /// Appends one byte to a file of the caller's own, mode 0600 where it has to be made, and gives its size then.
    ///
    /// Each of several callers at once gets a size of its own, because they append in turn (`O_APPEND`, write(2)), and none
    /// can hold up another.
    ///
    /// # Errors
    /// As open(2) and write(2); `EPERM` for a file of another account.
    pub fn count(&self, name: &str) -> io::Result<u64> {
        let mut file =
            self.open(name, OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_NONBLOCK)?;
        let stat = fstat(&file)?;
        if stat.st_uid != self.owner()?.0 || stat.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        file.write_all(b".")?;
        file.stream_position()
    }

    /// The size of a file, in bytes; a link is not followed.
    ///
    /// # Errors
    /// As stat(2).
    pub fn size(&self, name: &str) -> io::Result<u64> {
        let stat = fstatat(&self.0, component(name)?, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        u64::try_from(stat.st_size).map_err(io::Error::other)
    }

    /// Removes a file; one that is not there is fine.
    ///
    /// # Errors
    /// As unlink(2).
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.0, component(name)?, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Names of the files in it that do not begin with a dot.
    ///
    /// # Errors
    /// As readdir(3); an error for a name that is not UTF-8, so that no file is passed over.
    pub fn names(&self) -> io::Result<Vec<String>> {
        self.list(|name| !name.starts_with(b"."))
    }

    /// Names of the files in it that begin with a dot, but `.` and `..`.
    ///
    /// # Errors
    /// As [`Directory::names`].
    pub fn hidden_names(&self) -> io::Result<Vec<String>> {
        self.list(|name| name.starts_with(b"."))
    }

    /// Names of everything in it that are text, but `.` and `..`.
    ///
    /// # Errors
    /// As readdir(3).
    pub fn text_names(&self) -> io::Result<Vec<String>> {
        let names = self.each()?.into_iter().filter_map(|name| String::from_utf8(name).ok());
        Ok(names.collect())
    }

    /// When its entries were last changed, in seconds since the epoch; links are not followed.
    ///
    /// # Errors
    /// As readdir(3).
    pub fn times(&self) -> io::Result<Vec<i64>> {
        let stat = |name: Vec<u8>| fstatat(&self.0, name.as_slice(), AtFlags::AT_SYMLINK_NOFOLLOW).ok();
        Ok(self.each()?.into_iter().filter_map(stat).map(|stat| stat.st_mtime).collect())
    }

    fn list(&self, wanted: impl Fn(&[u8]) -> bool) -> io::Result<Vec<String>> {
        let names = self.each()?.into_iter().filter(|name| wanted(name));
        names.map(|name| String::from_utf8(name).map_err(io::Error::other)).collect()
    }

    fn each(&self) -> io::Result<Vec<Vec<u8>>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut names = Vec::new();
        for entry in Dir::openat(self.0.as_fd(), ".", flags, Mode::empty())?.iter() {
            let name = entry?.file_name().to_bytes().to_owned();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Takes the directory's lock, waiting at most this long.
    ///
    /// # Errors
    /// As flock(2); `ETIMEDOUT` when another process holds it too long.
    pub fn lock(&self, patience: Duration) -> io::Result<Lock> {
        let deadline = Instant::now() + patience;
        let mut fd = OwnedFd::from(self.open(".lock", OFlag::O_RDWR | OFlag::O_CREAT)?);
        loop {
            match Flock::lock(fd, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Lock(lock)),
                Err((_, Errno::EAGAIN)) if Instant::now() >= deadline => {
                    return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT));
                }
                Err((again, Errno::EAGAIN | Errno::EINTR)) => fd = again,
                Err((_, e)) => return Err(e.into()),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn open(&self, name: &str, flags: OFlag) -> io::Result<File> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(File::from(openat(&self.0, component(name)?, flags, Mode::S_IRUSR | Mode::S_IWUSR)?))
    }
}

fn component(name: &str) -> io::Result<&str> {
    let single = !name.is_empty() && name != "." && name != ".." && !name.contains('/');
    if single { Ok(name) } else { Err(io::Error::from_raw_os_error(libc::EINVAL)) }
}

//! A directory held open: its files by name, nothing outside it.

use crate::lines::Lines;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fchmod, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, fsync, linkat, unlinkat};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// A directory; names passed to its functions must be one component.
#[derive(Debug)]
pub struct Directory(OwnedFd);

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

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

    /// Writes a file so that its name leads to the old content or the new, never to a part (mode 0600). Until it is whole it is
    /// called `temporary`, a name that nobody else uses at the same time; what has that name goes first.
    ///
    /// # Errors
    /// As open(2), write(2), fsync(2) and rename(2); the old content stays.
    pub fn replace(&self, name: &str, temporary: &str, bytes: &[u8]) -> io::Result<()> {
        self.remove(temporary)?;
        let mut file = self.open(temporary, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_data());
        let renamed = written.and_then(|()| Ok(renameat(&self.0, temporary, &self.0, component(name)?)?));
        if renamed.is_err() {
            self.remove(temporary)?;
        }
        renamed
    }

    /// Writes a whole file, mode 0600, unless a file has the name already: then the answer is false. The disk has it afterwards.
    ///
    /// A process that is killed leaves nothing, but for a draft on file systems without files that have no name.
    ///
    /// # Errors
    /// As [`Directory::unnamed`] and [`Directory::name_file`].
    pub fn create(&self, name: &str, bytes: &[u8]) -> io::Result<bool> {
        match self.unnamed(bytes).map_err(|e| (e.raw_os_error(), e)) {
            Ok(file) => self.name_file(&file, name),
            Err((Some(libc::EOPNOTSUPP | libc::EISDIR), _)) => self.publish(&self.draft(bytes)?, name),
            Err((_, e)) => Err(e),
        }
    }

    /// Writes a whole file that has no name yet (mode 0600) and waits until the disk has it; [`Directory::name_file`] gives it one.
    /// Nothing is left of one whose process is killed.
    ///
    /// # Errors
    /// As open(2) with `O_TMPFILE`, write(2) and fsync(2); `EOPNOTSUPP`, or `EISDIR` from kernels that do not know the flag, where the file
    /// system has no such files.
    fn unnamed(&self, bytes: &[u8]) -> io::Result<File> {
        let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&self.0, ".", flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        file.write_all(bytes)?;
        file.sync_all()?;
        Ok(file)
    }

    /// Gives a file of [`Directory::unnamed`] its name, unless a file has that name already: then the answer is false.
    ///
    /// # Errors
    /// As link(2), fsync(2) of the directory, and where `/proc` is not mounted.
    fn name_file(&self, file: &File, name: &str) -> io::Result<bool> {
        // The way that takes no capability (open(2), `O_TMPFILE`).
        let own = format!("/proc/self/fd/{}", file.as_raw_fd());
        match linkat(AT_FDCWD, own.as_str(), &self.0, component(name)?, AtFlags::AT_SYMLINK_FOLLOW) {
            Ok(()) => self.sync().map(|()| true),
            Err(Errno::EEXIST) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Writes a whole file under a hidden name of its own (mode 0600) and waits until the disk has it; [`Directory::publish`] gives
    /// it its name. One that a killed process leaves has a name that ends in `.draft`.
    ///
    /// # Errors
    /// As open(2), write(2) and fsync(2); nothing is left then.
    pub fn draft(&self, bytes: &[u8]) -> io::Result<String> {
        let mut random = [0; 16];
        nunbird_sys::random::fill(&mut random)?;
        let name = format!(".{:032x}.draft", u128::from_ne_bytes(random));
        let mut file = self.open(&name, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if written.is_err() {
            self.remove(&name)?;
        }
        written.map(|()| name)
    }

    /// Gives a draft its name, unless a file has that name already: then the draft goes, and the answer is false.
    ///
    /// # Errors
    /// As link(2) and fsync(2) of the directory; the draft goes then, too.
    pub fn publish(&self, draft: &str, name: &str) -> io::Result<bool> {
        // link(2) fails where the name is taken, unlike rename(2): of two processes one wins.
        let linked = component(name).and_then(|name| {
            match linkat(&self.0, component(draft)?, &self.0, name, AtFlags::empty()) {
                Ok(()) => Ok(true),
                Err(Errno::EEXIST) => Ok(false),
                Err(e) => Err(e.into()),
            }
        });
        self.remove(draft)?;
        let linked = linked?;
        if linked {
            self.sync()?;
        }
        Ok(linked)
    }

    /// Waits until the disk has the names.
    ///
    /// # Errors
    /// As fsync(2).
    pub fn sync(&self) -> io::Result<()> {
        Ok(fsync(&self.0)?)
    }

    /// Opens a file of lines for appending, mode 0640 where it has to be made.
    ///
    /// # Errors
    /// As open(2); `EPERM` for a file that does not belong to `owner` or that others can write, `EINVAL` for anything but a
    /// regular file.
    pub fn lines(&self, name: &str, owner: u32) -> io::Result<Lines> {
        let flags =
            OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IRGRP;
        let name = component(name)?;
        let made = match openat(&self.0, name, flags | OFlag::O_CREAT | OFlag::O_EXCL, mode) {
            // The umask, which keeps all else from the group, has taken its bit away.
            Ok(made) => fchmod(&made, mode).map(|()| made),
            Err(Errno::EEXIST) => openat(&self.0, name, flags, Mode::empty()),
            Err(e) => Err(e),
        };
        let file = File::from(made?);
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
        let names = self.each()?.into_iter().filter(|name| !name.starts_with(b"."));
        names.map(|name| String::from_utf8(name).map_err(io::Error::other)).collect()
    }

    /// Names of everything in it that are text, but `.` and `..`.
    ///
    /// # Errors
    /// As readdir(3).
    pub fn text_names(&self) -> io::Result<Vec<String>> {
        let names = self.each()?.into_iter().filter_map(|name| String::from_utf8(name).ok());
        Ok(names.collect())
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

    /// Gives a file another name; a file that has that name goes.
    ///
    /// # Errors
    /// As rename(2).
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.0, component(from)?, &self.0, component(to)?)?)
    }

    /// Gives a file a second name.
    ///
    /// # Errors
    /// As link(2): `EEXIST` where a file has that name.
    pub fn link(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(linkat(&self.0, component(from)?, &self.0, component(to)?, AtFlags::empty())?)
    }

    /// Makes a file with this content and its lock, which this process holds from before anybody can see the content. What
    /// has the name goes first. It is not synced: use it for what a restart of the host makes void.
    ///
    /// # Errors
    /// As open(2), flock(2) and write(2).
    pub fn create_locked(&self, name: &str, bytes: &[u8]) -> io::Result<Lock> {
        self.remove(name)?;
        let file = self.open(name, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?;
        let lock = Flock::lock(OwnedFd::from(file.try_clone()?), FlockArg::LockExclusiveNonblock);
        let lock = lock.map_err(|(_, e)| io::Error::from(e))?;
        let written = (&file).write_all(bytes);
        if written.is_err() {
            self.remove(name)?;
        }
        written.map(|()| Lock(lock))
    }

    /// The lock of a file that is there; none while another process holds it.
    ///
    /// # Errors
    /// As open(2) and flock(2).
    pub fn try_lock(&self, name: &str) -> io::Result<Option<Lock>> {
        let fd = OwnedFd::from(self.open(name, OFlag::O_RDWR | OFlag::O_NONBLOCK)?);
        match Flock::lock(fd, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(Lock(lock))),
            Err((_, Errno::EAGAIN)) => Ok(None),
            Err((_, e)) => Err(e.into()),
        }
    }

    /// Takes the lock of a file that is made where it is missing, waiting at most this long.
    ///
    /// # Errors
    /// As flock(2); `ETIMEDOUT` when another process holds it too long.
    pub fn lock(&self, name: &str, patience: Duration) -> io::Result<Lock> {
        let deadline = Instant::now() + patience;
        let mut fd = OwnedFd::from(self.open(name, OFlag::O_RDWR | OFlag::O_CREAT)?);
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

/// A name that is one component, nothing else.
///
/// # Errors
/// `EINVAL` for any other.
pub fn component(name: &str) -> io::Result<&str> {
    let single = !name.is_empty() && name != "." && name != ".." && !name.contains('/');
    if single { Ok(name) } else { Err(io::Error::from_raw_os_error(libc::EINVAL)) }
}

#[cfg(test)]
mod tests {
    use super::{Directory, File};
    use std::os::fd::OwnedFd;

    #[test]
    fn a_file_without_a_name_leaves_nothing_until_it_gets_one_that_is_free() {
        let path = std::env::temp_dir().join(format!("nbt_unnamed_{}", std::process::id()));
        std::fs::create_dir(&path).expect("a directory");
        let directory = Directory::new(OwnedFd::from(File::open(&path).expect("opened")));
        let all = || directory.text_names().expect("names");
        match directory.unnamed(b"first\n") {
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                std::fs::remove_dir(&path).expect("removed");
                nunbird_skip::skip!("no files without names on the file system of {}", path.display());
            }
            file => {
                let file = file.expect("written");
                assert!(all().is_empty(), "nothing is left where the process is killed now");
                assert!(directory.name_file(&file, "a").expect("named"));
            }
        }
        let second = directory.unnamed(b"second\n").expect("written");
        assert!(!directory.name_file(&second, "a").expect("asked"), "the name is taken");
        assert_eq!(directory.read("a", 100).expect("read").0, b"first\n");
        assert_eq!(all(), ["a"]);
        std::fs::remove_dir_all(&path).expect("removed");
    }
}

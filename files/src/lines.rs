//! A file of lines that several processes append to, held open.
//!
//! A process that has opened it may give up every right to it and append all the same.

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::fstat;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Others hold the lock for a look and a write; an account that can read the file can hold it for longer (flock(2)).
const PATIENCE: Duration = Duration::from_secs(1);

/// An open file of lines: see [`crate::directory::Directory::lines`].
#[derive(Debug)]
pub struct Lines(File);

impl Lines {
    /// Takes over a file that was opened for reading and appending.
    pub(crate) fn new(file: File) -> Self {
        Lines(file)
    }

    /// Appends one line, which must end with a line feed and hold no other.
    ///
    /// It begins on a line of its own also where somebody's write was cut short before. One write, so that lines of processes
    /// at the same time do not mix (`O_APPEND`, write(2)). The look before it is under the file's lock: a write that crosses a
    /// page shows its first part to others, and would count as cut short. Without the lock, which a file system may not have and a reader may
    /// keep, the line is written all the same, after an empty one at worst.
    ///
    /// # Errors
    /// As write(2); `ENOENT` when the file was removed while it was open, `WriteZero` when a part was written.
    pub fn append(&self, line: &[u8]) -> io::Result<()> {
        let _lock = self.lock();
        let stat = fstat(&self.0)?;
        if stat.st_nlink == 0 {
            return Err(io::Error::from_raw_os_error(libc::ENOENT));
        }
        let mut last = [b'\n'];
        if let Some(before_end) = u64::try_from(stat.st_size).ok().and_then(|size| size.checked_sub(1)) {
            self.0.read_at(&mut last, before_end)?;
        }
        let whole = if last == [b'\n'] { line.to_vec() } else { [b"\n", line].concat() };
        let written = (&self.0).write(&whole)?;
        if written == whole.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// The lock of the open file, through a second descriptor for it; dropping it releases the lock.
    fn lock(&self) -> Option<Flock<File>> {
        let deadline = Instant::now() + PATIENCE;
        let mut file = self.0.try_clone().ok()?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Some(lock),
                Err((again, Errno::EAGAIN | Errno::EINTR)) if Instant::now() < deadline => file = again,
                Err(_) => return None,
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits until everything appended is on the file system's device.
    ///
    /// # Errors
    /// As fdatasync(2).
    pub fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

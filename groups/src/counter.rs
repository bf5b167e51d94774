//! The open files that count what a group's processes use.
//!
//! They are opened by `nunbird-limits` and read by it, and by the shepherd, which has no privilege and whose user must not be able to make
//! it wait: a file that is on no control group file system is none of these, but for the event of version 1. What is in them
//! `nunbird-decide` alone understands, by `nunbird-gauges`.

use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, FsType, fstatfs};
use nunbird_sys::answer;
use std::fs::File;
use std::io::{self, PipeReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// More than any of these files has, in bytes, but for disks without number, of which the first count.
const MOST: usize = 16 << 10;
/// Of eventfd(2) and its like: `ANON_INODE_FS_MAGIC` (linux/magic.h).
const ANON_INODE: FsType = FsType(0x0904_1934);

/// An open counter.
#[derive(Debug)]
pub struct Counter(File);

impl Counter {
    /// A counter in this file.
    ///
    /// # Errors
    /// As fstatfs(2); `EINVAL` for a file that is neither on a control group file system nor one of the kernel's without a name.
    pub fn new(file: File) -> io::Result<Self> {
        let known = [CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, ANON_INODE];
        if !known.contains(&fstatfs(&file)?.filesystem_type()) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Counter(file))
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.0
    }

    /// What is in it now; nothing where it cannot be read. Of an eventfd(2), which has no offset, its counter, which is read once.
    pub fn content(&self) -> Vec<u8> {
        let mut bytes = vec![0; MOST];
        let length = match self.0.read_at(&mut bytes, 0) {
            Err(e) if e.kind() == io::ErrorKind::NotSeekable => return self.event().unwrap_or_default(),
            other => other.unwrap_or(0),
        };
        bytes.truncate(length);
        bytes
    }

    fn event(&self) -> io::Result<Vec<u8>> {
        answer::what_is_there(PipeReader::from(OwnedFd::from(self.0.try_clone()?)), size_of::<u64>())
    }
}

#[cfg(test)]
mod tests {
    use super::Counter;
    use std::fs::File;

    #[test]
    fn a_file_that_is_no_control_groups_is_no_counter() {
        for path in ["/dev/null", "/proc/self/stat", "/etc/passwd"] {
            assert!(Counter::new(File::open(path).expect(path)).is_err(), "{path}");
        }
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        assert!(Counter::new(File::from(std::os::fd::OwnedFd::from(reader))).is_err());
    }
}

//! An image in the making: a directory of its own, which is never taken for an image, and which is
//! removed also when its maker has died.
//!
//! Beside it lies a file that the maker holds locked. It is locked before the directory is made, so
//! that a directory whose lock is free has no live maker.

use crate::copies::is_older;
use crate::removal::remove;
use nix::fcntl::{Flock, FlockArg};
use nunbird_sys::random;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What its name begins with.
const NEW: &str = ".new-";
/// What the name of something that is being removed begins with.
const OLD: &str = ".old-";
/// The end of the name of its lock.
const LOCK: &str = ".lock";
/// How long it stays where locks do not work, so that it is not known whether its maker lives.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How long the removal of what others have left may hold a stage, in all: an image can have millions of files. The rest goes with
/// later jobs.
const WHILE: Duration = Duration::from_secs(20);

/// The end of such a while that begins now.
pub(crate) fn a_while() -> Instant {
    Instant::now() + WHILE
}

/// The directory, removed on drop.
#[derive(Debug)]
pub(crate) struct Partial {
    path: PathBuf,
    image: PathBuf,
    lock: PathBuf,
    _held: Option<Flock<File>>,
}

impl Partial {
    /// Makes one in this directory; `end` is the end of the name of the image in it.
    pub(crate) fn make(place: &Path, end: &str) -> io::Result<Self> {
        let name = format!("{NEW}{}", unique()?);
        let (path, lock) = (place.join(&name), place.join(format!("{name}{LOCK}")));
        let held = hold(&lock)?;
        let image = path.join("copy").join(format!("image{end}"));
        let partial = Partial { path, image, lock, _held: held };
        for directory in [&partial.path, &partial.path.join("copy")] {
            DirBuilder::new().mode(0o700).create(directory)?;
        }
        Ok(partial)
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the image comes: in a directory without anything else.
    pub(crate) fn image(&self) -> PathBuf {
        self.image.clone()
    }

    /// Has all of it on the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        Ok(nix::unistd::syncfs(File::open(&self.path)?)?)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        drop(remove(&self.path, None));
        drop(fs::remove_file(&self.lock));
    }
}

/// A locked file of this name; `None` where locks do not work.
fn hold(path: &Path) -> io::Result<Option<Flock<File>>> {
    loop {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match Flock::lock(file, FlockArg::LockExclusive) {
            // Not one that was removed before it was locked.
            Ok(lock) if is_there(&lock, path) => return Ok(Some(lock)),
            Ok(_) => {}
            Err((_, nix::errno::Errno::EINTR)) => {}
            Err(_) => return Ok(None),
        }
    }
}

fn is_there(file: &File, path: &Path) -> bool {
    let same =
        |one: &fs::Metadata, other: &fs::Metadata| one.ino() == other.ino() && one.dev() == other.dev();
    matches!((file.metadata(), path.symlink_metadata()), (Ok(one), Ok(other)) if same(&one, &other))
}

/// Removes what makers and removers that have died left in this directory, until `end`.
pub(crate) fn remove_leftovers(place: &Path, end: Instant) {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    for name in entries.filter_map(|entry| entry.file_name().into_string().ok()) {
        let path = place.join(&name);
        // Files of others that merely begin so are none of ours.
        let is_ours = |begin: &str| {
            name.strip_prefix(begin).is_some_and(|rest| {
                let digits = rest.strip_suffix(LOCK).unwrap_or(rest);
                digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
            })
        };
        if is_ours(OLD) {
            drop(remove(&path, Some(end)));
        } else if is_ours(NEW) {
            let (path, lock) = match name.strip_suffix(LOCK) {
                Some(name) => (place.join(name), path),
                None => (path, place.join(format!("{name}{LOCK}"))),
            };
            if let Some(_held) = free(&path, &lock)
                && remove(&path, Some(end)).unwrap_or(false)
            {
                drop(fs::remove_file(&lock));
            }
        }
    }
}

/// The lock of something whose maker is dead; `None` if the maker lives, or may live.
fn free(path: &Path, lock: &Path) -> Option<Option<Flock<File>>> {
    let file = match OpenOptions::new().write(true).open(lock) {
        Ok(file) => file,
        // Its maker removes the lock last.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Some(None),
        Err(_) => return None,
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(held) => Some(Some(held)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => None,
        Err(_) => is_older(path, LONGEST).then_some(None),
    }
}

/// 16 hexadecimal digits from the kernel's random numbers.
pub(crate) fn unique() -> io::Result<String> {
    let mut bytes = [0; 16];
    random::fill(&mut bytes)?;
    Ok(bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::{LOCK, Partial, a_while, remove_leftovers};
    use crate::removal::remove;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::time::Instant;

    #[test]
    fn what_is_being_made_stays_and_what_its_maker_has_left_goes() {
        let root = tempfile::tempdir().expect("a directory");
        let count = || fs::read_dir(root.path()).expect("a directory").count();
        let partial = Partial::make(root.path(), ".sif").expect("a directory");
        assert!(partial.image().parent().is_some_and(|parent| parent.is_dir()));
        remove_leftovers(root.path(), a_while());
        assert_eq!(count(), 2);
        drop(partial);
        assert_eq!(count(), 0);
        // As after SIGKILL: nothing holds the lock, or there is none any more.
        let path = |begin: &str, n: u64, end: &str| root.path().join(format!("{begin}{n:016x}{end}"));
        fs::create_dir_all(path(".new-", 1, "/copy")).expect("a directory");
        fs::write(path(".new-", 1, LOCK), "").expect("a file");
        fs::create_dir_all(path(".new-", 2, "/copy")).expect("a directory");
        fs::write(path(".new-", 3, LOCK), "").expect("a file");
        fs::create_dir_all(path(".old-", 4, "/etc")).expect("a directory");
        fs::create_dir(root.path().join(".old-things")).expect("a directory of somebody");
        remove_leftovers(root.path(), a_while());
        assert_eq!(count(), 1);
    }

    #[test]
    fn what_takes_too_long_to_remove_is_left_to_the_next_one() {
        let root = tempfile::tempdir().expect("a directory");
        let path = |begin: &str, end: &str| root.path().join(format!("{begin}{:016x}{end}", 1));
        for tree in [path(".old-", ""), path(".new-", "")] {
            fs::create_dir_all(tree.join("a/b/c")).expect("directories");
            fs::write(tree.join("a/b/file"), "").expect("a file");
            fs::set_permissions(tree.join("a/b"), Permissions::from_mode(0o000)).expect("a mode");
        }
        fs::write(path(".new-", LOCK), "").expect("a file");
        remove_leftovers(root.path(), Instant::now());
        assert_eq!(fs::read_dir(root.path()).expect("a directory").count(), 3);
        remove_leftovers(root.path(), a_while());
        assert_eq!(fs::read_dir(root.path()).expect("a directory").count(), 0);
    }

    #[test]
    fn directories_without_permissions_are_removed() {
        let root = tempfile::tempdir().expect("a directory");
        let tree = root.path().join("tree");
        fs::create_dir_all(tree.join("a/b/c")).expect("directories");
        fs::write(tree.join("a/b/c/file"), "").expect("a file");
        for path in ["a/b/c", "a/b", "a"] {
            fs::set_permissions(tree.join(path), Permissions::from_mode(0o000)).expect("a mode");
        }
        assert!(remove(&tree, None).expect("removed"));
        assert!(!tree.exists());
        assert!(remove(&tree, None).expect("nothing to remove"));
    }
}

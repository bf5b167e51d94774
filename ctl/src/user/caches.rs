//! The caches of the person's jobs, kept below a quota: the files that were not used for the longest time go first.
//!
//! Names come from jobs, and containers of jobs that run have the caches' directory writable: a directory may become a link at any
//! time. So everything below it is reached by descriptors, one name at a time without following links, and what is no regular file stays.

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A file that was touched so recently may be of a job that runs.
const FRESH: Duration = Duration::from_secs(3600);
/// The deepest that caches lie: project, key, archive, and some more. Each level costs a descriptor.
const DEPTH: usize = 32;

struct Cached {
    used: SystemTime,
    /// What it takes on the disk.
    size: u64,
    /// Below the caches' directory.
    path: PathBuf,
    /// Device and inode: another file of the same name is not this one.
    identity: (u64, u64),
}

/// What was removed, or would be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pruned {
    pub(super) before: u64,
    pub(super) after: u64,
    pub(super) removed: Vec<PathBuf>,
    pub(super) failed: Vec<String>,
}

pub(super) fn prune(directory: &Path, quota: u64, now: SystemTime, dry_run: bool) -> Pruned {
    let mut pruned = Pruned::default();
    // The directory itself is bound into containers, which cannot put a link in its place.
    let top = match open(directory, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::ENOENT) => return pruned,
        Err(e) => {
            pruned.failed.push(format!("{}: {e}", directory.display()));
            return pruned;
        }
    };
    let mut found = Vec::new();
    collect(&top, Path::new(""), DEPTH, &mut found);
    found.sort_by(|one, other| (one.used, &one.path).cmp(&(other.used, &other.path)));
    pruned.before = found.iter().fold(0_u64, |sum, one| sum.saturating_add(one.size));
    pruned.after = pruned.before;
    for one in found {
        let fresh = now.duration_since(one.used).map_or(true, |age| age < FRESH);
        if pruned.after <= quota || fresh {
            break;
        }
        let path = directory.join(&one.path);
        match if dry_run { Ok(()) } else { remove(&top, &one) } {
            Ok(()) => {
                pruned.after -= one.size;
                pruned.removed.push(path);
            }
            // Jobs change their caches meanwhile: what is gone takes no place, and what is new stays.
            Err(Errno::ENOENT) => pruned.after -= one.size,
            Err(Errno::ESTALE) => {}
            Err(e) => pruned.failed.push(format!("{}: {e}", path.display())),
        }
    }
    pruned
}

/// Opens a directory, not a link to one.
fn enter(parent: &OwnedFd, name: &OsStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

fn names(directory: &OwnedFd) -> nix::Result<Vec<OsString>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut names = Vec::new();
    for entry in Dir::openat(directory.as_fd(), ".", flags, Mode::empty())?.iter() {
        let name = entry?.file_name().to_bytes().to_owned();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn collect(directory: &OwnedFd, path: &Path, depth: usize, found: &mut Vec<Cached>) {
    for name in names(directory).unwrap_or_default() {
        // Of the link, not of what it leads to.
        let Ok(stat) = fstatat(directory, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
        let path = path.join(&name);
        match kind(&stat) {
            SFlag::S_IFDIR if depth > 0 => {
                if let Ok(below) = enter(directory, &name) {
                    collect(&below, &path, depth - 1, found);
                }
            }
            SFlag::S_IFREG => found.push(Cached {
                used: time(stat.st_mtime.max(stat.st_atime)),
                size: u64::try_from(stat.st_blocks).unwrap_or(0) * 512,
                path,
                identity: (stat.st_dev, stat.st_ino),
            }),
            _ => {}
        }
    }
}

/// Removes this very file, and the directories above it that have become empty, up to the caches' own.
fn remove(top: &OwnedFd, cached: &Cached) -> nix::Result<()> {
    let mut names: Vec<&OsStr> = cached.path.iter().collect();
    let Some(name) = names.pop() else { return Ok(()) };
    let mut way = vec![top.try_clone().map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0)))?];
    for name in &names {
        way.push(enter(way.last().unwrap_or(top), name)?);
    }
    let parent = way.last().unwrap_or(top);
    let stat = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if (stat.st_dev, stat.st_ino) != cached.identity {
        return Err(Errno::ESTALE);
    }
    unlinkat(parent, name, UnlinkatFlags::NoRemoveDir)?;
    for (above, name) in way.iter().zip(&names).rev() {
        if unlinkat(above, *name, UnlinkatFlags::RemoveDir).is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Cached, DEPTH, collect, prune, remove};
    use nix::errno::Errno;
    use std::fs::{self, File, FileTimes};
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    fn file(path: &Path, now: SystemTime, hours: u64) {
        fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        fs::write(path, vec![1; 1 << 20]).expect("a file");
        let time = now - Duration::from_secs(hours * 3600);
        let times = FileTimes::new().set_modified(time).set_accessed(time);
        File::options().write(true).open(path).expect("a file").set_times(times).expect("times");
    }

    #[test]
    fn the_least_recently_used_caches_go_and_links_and_fresh_ones_stay() {
        let place = tempfile::tempdir().expect("a directory");
        let (cache, outside) = (place.path().join("cache"), place.path().join("outside"));
        let now = SystemTime::now();
        file(&outside, now, 900);
        let at = |name: &str| cache.join(name);
        for (name, hours) in
            [("p/old/cache.zip", 50), ("p/older/cache.zip", 90), ("q/new/cache.zip", 2), ("r/x", 0)]
        {
            file(&at(name), now, hours);
        }
        symlink(&outside, at("link")).expect("a link");
        symlink(place.path(), at("linked")).expect("a link");
        let shown = prune(&cache, 3 << 20, now, true);
        assert_eq!(shown.removed, [at("p/older/cache.zip")]);
        assert!(at("p/older/cache.zip").exists(), "a dry run removes nothing");
        assert_eq!(prune(&cache, 3 << 20, now, false).removed, shown.removed);
        assert!(!at("p/older").exists() && at("p/old/cache.zip").exists());
        let all = prune(&cache, 0, now, false);
        assert_eq!(all.removed, [at("p/old/cache.zip"), at("q/new/cache.zip")]);
        assert!(at("r/x").exists() && at("link").is_symlink() && outside.exists(), "{all:?}");
        assert!(!at("p").exists() && cache.exists());
    }

    /// The caches as they were found, before somebody changes them.
    fn found(cache: &Path) -> (OwnedFd, Vec<Cached>) {
        let top = OwnedFd::from(File::open(cache).expect("a directory"));
        let mut found = Vec::new();
        collect(&top, Path::new(""), DEPTH, &mut found);
        (top, found)
    }

    #[test]
    fn a_directory_that_becomes_a_link_meanwhile_is_not_entered() {
        let place = tempfile::tempdir().expect("a directory");
        let (cache, outside) = (place.path().join("cache"), place.path().join("outside"));
        let now = SystemTime::now();
        file(&cache.join("p/k/cache.zip"), now, 50);
        let (top, found) = found(&cache);
        // The same file, so that the link alone keeps it.
        fs::rename(cache.join("p"), &outside).expect("moved");
        symlink(&outside, cache.join("p")).expect("a link");
        remove(&top, &found[0]).expect_err("a link on the way");
        assert!(outside.join("k/cache.zip").exists());
    }

    #[test]
    fn another_file_of_the_same_name_stays() {
        let place = tempfile::tempdir().expect("a directory");
        let cache = place.path().join("cache");
        let now = SystemTime::now();
        file(&cache.join("p/cache.zip"), now, 50);
        let (top, found) = found(&cache);
        file(&cache.join("p/new"), now, 0);
        fs::rename(cache.join("p/new"), cache.join("p/cache.zip")).expect("replaced");
        assert_eq!(remove(&top, &found[0]), Err(Errno::ESTALE));
        assert!(cache.join("p/cache.zip").exists());
    }
}

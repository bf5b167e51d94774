//! Directories below the account's own: entered and removed without following a symbolic link, while the job's processes
//! may still change them.
//!
//! What is removed is of one file system. A user may mount another one in a directory of a job (FUSE needs no privilege), and what is there
//! is not the job's: such a directory stays, with the directories that lead to it, and is an error.

use crate::StageError;
use crate::directory::{Directory, is};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Instant;

/// Deeper trees than this do not hold file variables; each level costs a descriptor.
const DEEPEST: usize = 128;
/// For trees of which all is to go: the usual limit of descriptors is 1,024.
const AS_DEEP_AS_DESCRIPTORS_REACH: usize = 900;
/// How often a directory is emptied that a live process fills again.
const ATTEMPTS: usize = 5;

/// Removes this name with everything below it.
pub fn remove_tree(parent: &Directory, name: &OsStr) -> Result<(), StageError> {
    was_removed(parent, name).map(drop)
}

/// As [`remove_tree`]; false if there was nothing.
pub fn was_removed(parent: &Directory, name: &OsStr) -> Result<bool, StageError> {
    remove(parent, name, Bounds { levels: DEEPEST, deadline: None })
}

/// As [`remove_tree`], for trees that are deeper.
pub fn remove_deep_tree(parent: &Directory, name: &OsStr) -> Result<(), StageError> {
    remove(parent, name, Bounds { levels: AS_DEEP_AS_DESCRIPTORS_REACH, deadline: None }).map(drop)
}

/// As [`remove_tree`], with an error if `deadline` passes first.
pub fn remove_tree_until(parent: &Directory, name: &OsStr, deadline: Instant) -> Result<(), StageError> {
    remove(parent, name, Bounds { levels: DEEPEST, deadline: Some(deadline) }).map(drop)
}

/// The directory at `path`, opened from `root` down; `None` if a part of the path is missing.
pub fn descend(root: &Directory, prefix: &Path, path: &Path) -> Result<Option<Directory>, StageError> {
    let way = path.strip_prefix(prefix).map_err(|e| refuse(path, &e.to_string()))?;
    let mut names = way.components();
    let first = names.next().ok_or_else(|| refuse(path, "it is the top directory"))?;
    let mut directory = root.child(first.as_os_str())?;
    for name in names {
        let Some(parent) = directory else { return Ok(None) };
        directory = parent.child(name.as_os_str())?;
    }
    Ok(directory)
}

/// What a removal may take.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Levels of directories below.
    levels: usize,
    deadline: Option<Instant>,
}

impl Bounds {
    fn is_late(self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

fn remove(parent: &Directory, name: &OsStr, bounds: Bounds) -> Result<bool, StageError> {
    let path = parent.path().join(name);
    let failed =
        |e: Errno| StageError::at("cannot remove", &path, e, "remove it by hand: it may hold credentials");
    for _ in 0..ATTEMPTS {
        if bounds.is_late() {
            return Err(failed(Errno::ETIME));
        }
        let stat = match parent.stat(name) {
            Err(Errno::ENOENT) => return Ok(false),
            Err(e) => return Err(failed(e)),
            Ok(stat) if !is(&stat, SFlag::S_IFDIR) => match parent.unlink(name) {
                Ok(()) => return Ok(true),
                // It has been replaced by a directory since.
                Err(Errno::EISDIR) => continue,
                Err(e) => return Err(failed(e)),
            },
            Ok(stat) => stat,
        };
        if bounds.levels == 0 {
            return Err(failed(Errno::ENAMETOOLONG));
        }
        let device = fstat(parent).map_err(failed)?.st_dev;
        // Before it is opened, which gives its owner permissions, and again of what was opened: it may have been mounted in between.
        if stat.st_dev != device {
            return Err(mounted(&path));
        }
        // None: another cleanup was faster, or the job replaced it; the next iteration shows which.
        if let Some(directory) = parent.child(name)? {
            if fstat(&directory).map_err(failed)?.st_dev != device {
                return Err(mounted(&path));
            }
            empty(&directory, Bounds { levels: bounds.levels - 1, ..bounds })?;
        }
        match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(true),
            // A live process has put something into it, or a file in its place.
            Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
            Err(e) => return Err(failed(e)),
        }
    }
    Err(failed(Errno::ENOTEMPTY))
}

fn mounted(path: &Path) -> StageError {
    let help = "unmount it (`fusermount -u`, or ask the administrators): nothing of it is removed";
    StageError::at("cannot remove", path, "another file system is mounted there", help)
}

/// Removes all that can be removed, so that a mount or another account's file saves nothing beside it; the first error is given.
fn empty(directory: &Directory, bounds: Bounds) -> Result<(), StageError> {
    let mut all = Ok(());
    for name in names(directory)? {
        let one = remove(directory, &name, bounds).map(drop);
        all = all.and(one);
        if all.is_err() && bounds.is_late() {
            break;
        }
    }
    all
}

/// The entries of the directory.
pub fn names(directory: &Directory) -> Result<Vec<OsString>, StageError> {
    let failed = |e: Errno| {
        StageError::at("cannot read", directory.path(), e, "remove it by hand: it may hold credentials")
    };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut listing = Dir::openat(directory.as_fd(), ".", flags, Mode::empty()).map_err(failed)?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        let name = entry.map_err(failed)?.file_name().to_bytes().to_owned();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

fn refuse(path: &Path, cause: &str) -> StageError {
    StageError::at("refusing to clean up", path, cause, "report it to the administrators")
}

#[cfg(test)]
mod tests {
    use super::{remove_deep_tree, remove_tree};
    use crate::directory::Directory;
    use std::ffi::OsStr;
    use std::fs;
    use std::path::Path;
    use std::process::{Command, Output};

    fn own(path: &Path) -> Directory {
        let uid = nix::unistd::geteuid().as_raw();
        Directory::data_dir(path, uid).expect("opens").expect("is there")
    }

    /// Names the test that runs in a mount namespace of its own.
    const INSIDE: &str = "NBT_IN_MOUNT_NAMESPACE";

    #[test]
    fn what_is_mounted_in_a_tree_is_not_removed_and_all_beside_it_is() {
        match std::env::var_os(INSIDE) {
            Some(_) => remove_around_a_mount(),
            None => {
                let inner =
                    alone("trees::tests::what_is_mounted_in_a_tree_is_not_removed_and_all_beside_it_is");
                let said = String::from_utf8_lossy(&inner.stderr).into_owned();
                if said.contains("unshare: ") {
                    nunbird_skip::skip!("no mount namespace: {said}");
                }
                assert!(inner.status.success(), "{said}{}", String::from_utf8_lossy(&inner.stdout));
            }
        }
    }

    /// Runs a test where nothing is mounted for anybody else, and nothing stays mounted.
    fn alone(test: &str) -> Output {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private"]);
        if !nix::unistd::geteuid().is_root() {
            unshare.args(["--user", "--map-root-user"]);
        }
        unshare.arg(std::env::current_exe().expect("own path")).args(["--exact", test, "--nocapture"]);
        unshare.env(INSIDE, "1").output().expect("unshare")
    }

    fn remove_around_a_mount() {
        let scratch = tempfile::tempdir().expect("a directory");
        let mount = scratch.path().join("tree/b/mounted");
        fs::create_dir_all(&mount).expect("directories");
        fs::create_dir_all(scratch.path().join("tree/a/more")).expect("directories");
        let mounted = |at: &Path, type_: &[&str]| {
            assert!(Command::new("mount").args(type_).arg(at).status().expect("mount").success());
        };
        mounted(&mount, &["-t", "tmpfs", "tmpfs"]);
        fs::create_dir(mount.join("inner")).expect("a directory");
        for file in ["b/mounted/inner/precious", "a/more/x", "b/before", "b/z", "z"] {
            fs::write(scratch.path().join("tree").join(file), "the user's").expect("a file");
        }
        let top = own(scratch.path());
        for remove in [remove_tree, remove_deep_tree] {
            let refused = remove(&top, OsStr::new("tree")).expect_err("it is mounted").to_string();
            assert!(refused.contains("tree/b/mounted: another file system is mounted there"), "{refused}");
            assert!(mount.join("inner/precious").exists());
        }
        let left = |at: &str| fs::read_dir(scratch.path().join(at)).expect("a directory").count();
        assert_eq!((left("tree"), left("tree/b")), (1, 1), "what is beside it stays");
        // The tree itself.
        let refused = remove_tree(&own(&scratch.path().join("tree/b")), OsStr::new("mounted"));
        assert!(refused.is_err() && mount.join("inner/precious").exists());
        assert!(Command::new("umount").arg(&mount).status().expect("umount").success());
        remove_tree(&top, OsStr::new("tree")).expect("removed");
        assert!(!scratch.path().join("tree").exists());
    }

    #[test]
    fn a_tree_is_as_deep_as_its_removal_allows() {
        let scratch = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(scratch.path().join("tree").join("d/".repeat(200))).expect("directories");
        let top = own(scratch.path());
        remove_tree(&top, OsStr::new("tree")).expect_err("deeper than file variables are");
        remove_deep_tree(&top, OsStr::new("tree")).expect("removed");
        assert!(!scratch.path().join("tree").exists());
        remove_deep_tree(&top, OsStr::new("tree")).expect("nothing to remove");
    }
}

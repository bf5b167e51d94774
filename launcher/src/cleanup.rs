//! The cleanup stage: file variables and git credentials of the job go, however it ended.
//!
//! gitlab-runner removes them itself only when a job ends in order ([`credentials`]); a cancelled
//! or timed-out job leaves keys and tokens behind. The stage may run several times for one job, beside itself and
//! beside a stage that has not ended yet, and when nothing was ever made. It never follows a symbolic link.
//! What it prints goes to gitlab-runner's own log. Build directories are kept and removed by `upkeep`.

use crate::directory::{Directory, is};
use crate::fled::Mark;
use crate::{Patience, Trouble, Verdict, credentials, upkeep};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag};
use nix::unistd::{UnlinkatFlags, unlinkat};
use nunbird_handover::{Handover, Task};
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Instant;

/// Deeper trees than this are nobody's file variables; each level costs a descriptor.
const DEEPEST: usize = 128;
/// How often a directory is emptied that a live process fills again.
const ATTEMPTS: usize = 5;

/// Removes credentials, then what the site's rules say of build directories.
pub(crate) fn cleanup(handover: &Handover) -> Result<Verdict, Trouble> {
    let workspace = &handover.workspace;
    let Some(root) = Directory::data_dir(&workspace.builds_root, handover.account.uid)? else {
        return Ok(Verdict::Success);
    };
    if handover.task == Task::Tidy {
        upkeep::tidy(&root, handover);
        return Ok(Verdict::Success);
    }
    credentials::remove_all(&root, workspace)?;
    upkeep::release(&root, handover);
    Ok(Verdict::Success)
}

/// Ends what the job left running on this host and carries this mark.
pub(crate) fn end_processes(mark: &Mark, patience: Patience) {
    let (found, left) = mark.end(patience);
    match (found, left) {
        (0, _) => {}
        (_, 0) => tell(&format!("ended {found} processes that the job left")),
        _ => tell(&format!(
            "{left} processes that the job left do not end, not even by KILL; they may wait for a file system that does not \
             answer"
        )),
    }
}

/// Says something to gitlab-runner's own log. What is done is done, whether or not somebody reads about it.
pub(crate) fn tell(message: &str) {
    drop(std::io::stdout().write_all(format!("nunbird: {message}\n").as_bytes()));
}

/// Removes what is behind the name, with all below it.
pub(crate) fn remove_tree(parent: &Directory, name: &OsStr) -> Result<(), Trouble> {
    remove(parent, name, 0, None).map(drop)
}

/// As [`remove_tree`], and an error when `deadline` comes first.
pub(crate) fn remove_tree_until(parent: &Directory, name: &OsStr, deadline: Instant) -> Result<(), Trouble> {
    remove(parent, name, 0, Some(deadline)).map(drop)
}

/// The directory at `path`, from `root` down; none when a part of the way is missing.
pub(crate) fn descend(root: &Directory, prefix: &Path, path: &Path) -> Result<Option<Directory>, Trouble> {
    let way = path.strip_prefix(prefix).map_err(|e| refuse(path, &e.to_string()))?;
    let mut names = way.components();
    let first = names.next().ok_or_else(|| refuse(path, "it is the directory that all others lie in"))?;
    let mut directory = root.child(first.as_os_str())?;
    for name in names {
        let Some(parent) = directory else { return Ok(None) };
        directory = parent.child(name.as_os_str())?;
    }
    Ok(directory)
}

/// Removes what is behind the name, with all below it. False when there was nothing.
pub(crate) fn remove(
    parent: &Directory,
    name: &OsStr,
    depth: usize,
    deadline: Option<Instant>,
) -> Result<bool, Trouble> {
    let path = parent.path().join(name);
    let failed =
        |e: Errno| Trouble::at("cannot remove", &path, e, "remove it by hand: it may hold credentials");
    for _ in 0..ATTEMPTS {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(failed(Errno::ETIME));
        }
        match parent.stat(name) {
            Err(Errno::ENOENT) => return Ok(false),
            Err(e) => return Err(failed(e)),
            Ok(stat) if !is(&stat, SFlag::S_IFDIR) => match parent.unlink(name) {
                Ok(()) => return Ok(true),
                // Replaced by a directory since.
                Err(Errno::EISDIR) => continue,
                Err(e) => return Err(failed(e)),
            },
            Ok(_) => {}
        }
        if depth == DEEPEST {
            return Err(failed(Errno::ENAMETOOLONG));
        }
        // None: another cleanup was faster, or the job replaced it; the next look tells.
        if let Some(directory) = parent.child(name)? {
            empty(&directory, depth, deadline)?;
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

fn empty(directory: &Directory, depth: usize, deadline: Option<Instant>) -> Result<(), Trouble> {
    for name in names(directory)? {
        remove(directory, &name, depth + 1, deadline)?;
    }
    Ok(())
}

/// What is in the directory.
pub(crate) fn names(directory: &Directory) -> Result<Vec<OsString>, Trouble> {
    let failed = |e: Errno| {
        Trouble::at("cannot read", directory.path(), e, "remove it by hand: it may hold credentials")
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

fn refuse(path: &Path, cause: &str) -> Trouble {
    Trouble::at("refusing to clean up", path, cause, "tell the administrators")
}

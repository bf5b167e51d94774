//! Where a job works: a numbered directory of the account's on this host, which no other job by hand has at the same time.

use crate::failure::Failure;
use nix::fcntl::{Flock, FlockArg};
use nunbird_handover::Workspace;
use nunbird_stage::error::shown;
use nunbird_sys::process::short_host_name;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

/// The most jobs by hand of one account on one host.
const MOST: usize = 100;

/// A directory that is this job's while the value lives.
#[derive(Debug)]
pub(crate) struct Place {
    /// As the launcher has it.
    pub(crate) workspace: Workspace,
    _lock: Flock<File>,
}

impl Place {
    /// Takes the first that is free below `data_dir`, for a project of this path.
    ///
    /// # Errors
    /// When the directories cannot be made, or all are taken.
    pub(crate) fn take(data_dir: &Path, project: &str) -> Result<Place, Failure> {
        let help = "name another directory by --directory: your own, with space left";
        let all = data_dir.join("exec").join(short_host_name());
        let failed = |e: io::Error| Failure::new(format!("cannot use {}: {e}", shown(&all))).help(help);
        DirBuilder::new().recursive(true).mode(0o700).create(&all).map_err(failed)?;
        for number in 0..MOST {
            let path = all.join(format!("{number}.lock"));
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o600)
                .open(path)
                .map_err(failed)?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => {
                    let builds_dir = all.join(number.to_string());
                    let inside =
                        project.split('/').filter(|part| !part.is_empty() && *part != "." && *part != "..");
                    let project_dir = builds_dir.join(inside.collect::<PathBuf>());
                    let workspace = Workspace {
                        data_dir: data_dir.to_owned(),
                        builds_root: data_dir.to_owned(),
                        cache_dir: data_dir.join("cache"),
                        builds_dir,
                        project_dir,
                    };
                    return Ok(Place { workspace, _lock: lock });
                }
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => {}
                Err((_, e)) => return Err(failed(e.into())),
            }
        }
        Err(Failure::new(format!("{MOST} jobs work in {} at once", shown(&all))).help("wait for one of them"))
    }

    /// Removes the project's directory. What a job has made unreadable is made readable first.
    ///
    /// # Errors
    /// As unlink(2) and rmdir(2).
    pub(crate) fn clear(&self) -> io::Result<()> {
        let directory = &self.workspace.builds_dir;
        match fs::remove_dir_all(directory) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                open_up(directory)?;
                fs::remove_dir_all(directory)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Gives the owner's permissions back to each directory; a link is not followed.
fn open_up(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

/// An absolute path without `.` and `..` and links; it need not exist.
///
/// # Errors
/// For one that is not UTF-8: the launcher's message is JSON.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let path =
        std::path::absolute(path).map_err(|e| Failure::new(format!("cannot use {}: {e}", shown(path))))?;
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if path.to_str().is_none() || !plain {
        return Err(
            Failure::new(format!("cannot use {}", shown(&path))).help("name it without `..`, in UTF-8")
        );
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::Place;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn two_at_once_have_two_directories_and_the_next_has_the_first_again() {
        let data = tempfile::tempdir().expect("a directory");
        let one = Place::take(data.path(), "group/project").expect("a place");
        let two = Place::take(data.path(), "../../x").expect("a place");
        assert!(one.workspace.project_dir.ends_with("0/group/project"));
        assert!(two.workspace.project_dir.ends_with("1/x"));
        drop(one);
        let again = Place::take(data.path(), "a").expect("a place");
        assert!(again.workspace.project_dir.ends_with("0/a"));
    }

    #[test]
    fn what_a_job_has_made_unreadable_is_removed() {
        let data = tempfile::tempdir().expect("a directory");
        let place = Place::take(data.path(), "p").expect("a place");
        let inner = place.workspace.project_dir.join("inner");
        fs::create_dir_all(inner.join("more")).expect("directories");
        fs::set_permissions(&inner, Permissions::from_mode(0o000)).expect("a mode");
        place.clear().expect("removed");
        assert!(!place.workspace.builds_dir.exists());
        place.clear().expect("nothing to remove");
    }
}

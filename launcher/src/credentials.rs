//! The secrets of a job that gitlab-runner keeps in the builds directory: file variables, the job
//! token, git credentials.
//!
//! They are in a directory beside the work tree, with the same name and `.tmp` appended. The work
//! tree is `<project>`, or `<project>-empty` with `GIT_STRATEGY: empty`, or wherever
//! `GIT_CLONE_PATH` points. The runner removes them when a job ends normally; after a cancel or a
//! timeout they stay. So the whole slot is searched: each directory that is not a work tree, for
//! each `*.tmp` that contains a file by which the runner's own can be recognized.

use nix::sys::stat::SFlag;
use nunbird_handover::Workspace;
use nunbird_stage::directory::{Directory, is};
use nunbird_stage::error::shown;
use nunbird_stage::trees::{descend, names, was_removed};
use nunbird_stage::{StageError, log_to_runner};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const SUFFIX: &str = ".tmp";
const GIT: &str = ".git";
/// What gitlab-runner writes into such a directory before anything of the job (shells/abstract.go,
/// shells/bash.go).
const MARKS: [&str; 4] = ["gitlab_runner_env", ".gitlab-runner.ext.conf", "git-template", "masking.db"];
/// GitLab nests groups 20 deep; `GIT_CLONE_PATH` may add some.
const DEEPEST: usize = 32;
/// A builds directory holds a few groups and projects. More directories than this are a job's own
/// files.
const MOST_DIRECTORIES: usize = 10_000;

/// Removes all of them from the builds directory.
pub(crate) fn remove_all(root: &Directory, workspace: &Workspace) -> Result<(), StageError> {
    remove_within(root, workspace, MOST_DIRECTORIES)
}

/// The same, limited to this number of directories.
fn remove_within(root: &Directory, workspace: &Workspace, most: usize) -> Result<(), StageError> {
    let Workspace { builds_root, builds_dir, project_dir, .. } = workspace;
    let Some(builds) = descend(root, builds_root, builds_dir)? else { return Ok(()) };
    // The project's own directories are removed first, whatever they contain: the runner may have
    // been interrupted early. A link or another account's directory on the way to them is an error;
    // elsewhere it is skipped.
    let project = project_dir.file_name().zip(project_dir.parent());
    if let Some((name, parent)) = project
        && let Some(parent) = descend(root, builds_root, parent)?
    {
        for middle in ["", "-empty"] {
            let mut own = OsString::from(name);
            own.push(middle);
            own.push(SUFFIX);
            removed(&parent, &own)?;
        }
    }
    let mut search = Search { project_dir, left: most };
    search.directory(&builds, 0)?;
    if search.left == 0 {
        log_to_runner(&format!(
            "{} has {most} directories or more outside of work trees: not all of them were searched for credentials",
            shown(builds_dir)
        ));
    }
    Ok(())
}

/// Removes the configurations of git of a work tree that is kept, its submodules' as well: older releases of gitlab-runner have the job token
/// in the URL of the remote. Newer ones remove these files themselves.
pub(crate) fn remove_git_configs(root: &Directory, workspace: &Workspace) -> Result<(), StageError> {
    let Some(project) = descend(root, &workspace.builds_root, &workspace.project_dir)? else { return Ok(()) };
    let git = OsStr::new(GIT);
    match project.stat(git) {
        Ok(stat) if is(&stat, SFlag::S_IFDIR) => match project.child(git)? {
            Some(git) => forget_config(&git, 0),
            None => Ok(()),
        },
        // A file that names a directory elsewhere, which is not the runner's.
        _ => Ok(()),
    }
}

/// Of one repository, and of those of its submodules.
fn forget_config(git: &Directory, depth: usize) -> Result<(), StageError> {
    for name in ["config", "config.worktree"] {
        git.unlink(OsStr::new(name)).map_err(|e| {
            let path = git.path().join(name);
            StageError::at("cannot remove", &path, e, "remove it by hand: it may hold credentials")
        })?;
    }
    let modules = OsStr::new("modules");
    match git.stat(modules) {
        Ok(stat) if is(&stat, SFlag::S_IFDIR) => match git.child(modules)? {
            Some(modules) => forget_configs_below(&modules, depth + 1),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Names of submodules are paths: a directory is a repository or leads to some.
fn forget_configs_below(directory: &Directory, depth: usize) -> Result<(), StageError> {
    if depth > DEEPEST {
        let cause = "its directories are too deep";
        return Err(StageError::at(
            "cannot look for credentials in",
            directory.path(),
            cause,
            "remove it by hand",
        ));
    }
    for name in names(directory)? {
        if !directory.stat(&name).is_ok_and(|stat| is(&stat, SFlag::S_IFDIR)) {
            continue;
        }
        let Some(child) = directory.child(&name)? else { continue };
        match child.stat(OsStr::new("HEAD")) {
            Ok(_) => forget_config(&child, depth + 1)?,
            Err(_) => forget_configs_below(&child, depth + 1)?,
        }
    }
    Ok(())
}

/// Removes it and reports it.
fn removed(directory: &Directory, name: &OsStr) -> Result<(), StageError> {
    if was_removed(directory, name)? {
        log_to_runner(&format!("removed {}", shown(&directory.path().join(name))));
    }
    Ok(())
}

struct Search<'a> {
    project_dir: &'a Path,
    /// How many directories may still be searched.
    left: usize,
}

impl Search<'_> {
    fn directory(&mut self, directory: &Directory, depth: usize) -> Result<(), StageError> {
        for name in names(directory)? {
            if directory.path().join(&name) == self.project_dir || self.left == 0 {
                continue;
            }
            let kind = directory.stat(&name);
            if name.as_bytes().ends_with(SUFFIX.as_bytes()) {
                if kind.is_ok_and(|stat| is(&stat, SFlag::S_IFDIR)) && has_mark(directory, &name) {
                    removed(directory, &name)?;
                }
            } else if depth < DEEPEST && kind.is_ok_and(|stat| is(&stat, SFlag::S_IFDIR)) {
                self.left -= 1;
                // What belongs to another account, or has been removed by now, contains nothing of
                // this job.
                let Ok(Some(child)) = directory.child(&name) else { continue };
                if child.stat(OsStr::new(GIT)).is_err() {
                    self.directory(&child, depth + 1)?;
                }
            }
        }
        Ok(())
    }
}

fn has_mark(parent: &Directory, name: &OsStr) -> bool {
    let Ok(Some(directory)) = parent.child(name) else { return false };
    MARKS.iter().any(|mark| directory.stat(OsStr::new(mark)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::remove_within;
    use nunbird_handover::Workspace;
    use nunbird_stage::directory::Directory;
    use std::fs;

    #[test]
    fn the_projects_own_go_however_many_directories_there_are() {
        let scratch = tempfile::tempdir().expect("a directory");
        let root = scratch.path().to_owned();
        let builds_dir = root.join("builds/node01/0");
        let project_dir = builds_dir.join("group/project");
        for own in ["group/project", "group/project.tmp/x", "group/project-empty.tmp", "group/a/b"] {
            fs::create_dir_all(builds_dir.join(own)).expect("directories");
        }
        let workspace = Workspace {
            data_dir: root.clone(),
            builds_root: root.clone(),
            cache_dir: root.join("cache"),
            builds_dir: builds_dir.clone(),
            project_dir,
        };
        let uid = nix::unistd::geteuid().as_raw();
        let directory = Directory::data_dir(&root, uid).expect("opens").expect("is there");
        remove_within(&directory, &workspace, 1).expect("removed");
        let left = fs::read_dir(builds_dir.join("group")).expect("a directory").flatten();
        let mut left: Vec<_> = left.map(|entry| entry.file_name()).collect();
        left.sort();
        assert_eq!(left, ["a", "project"]);
    }
}

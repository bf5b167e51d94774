//! What gitlab-runner keeps of a job's secrets in the directory for builds: file variables, the job token, git credentials.
//!
//! They lie in a directory beside the work tree, named like it with `.tmp`. The work tree is `<project>`, or `<project>-empty` with
//! `GIT_STRATEGY: empty`, or wherever `GIT_CLONE_PATH` says. The runner removes them when a job ends in order; after a cancel or a timeout they
//! stay. So all of the slot is searched: each directory that is no work tree, for each `*.tmp` that has a file by which the runner's can be told.

use crate::Trouble;
use crate::cleanup::{descend, names, remove, tell};
use crate::directory::{Directory, is};
use crate::trouble::shown;
use nix::sys::stat::SFlag;
use nunbird_handover::Workspace;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const SUFFIX: &str = ".tmp";
/// What gitlab-runner writes into such a directory before anything of the job's (shells/abstract.go, shells/bash.go).
const MARKS: [&str; 4] = ["gitlab_runner_env", ".gitlab-runner.ext.conf", "git-template", "masking.db"];
/// GitLab nests groups 20 deep; `GIT_CLONE_PATH` may add some.
const DEEPEST: usize = 32;
/// A directory for builds holds a few groups and projects. More directories than this are a job's own files.
const MOST_DIRECTORIES: usize = 10_000;

/// Removes them all from the directory for builds.
pub(crate) fn remove_all(root: &Directory, workspace: &Workspace) -> Result<(), Trouble> {
    let Workspace { builds_root, builds_dir, project_dir, .. } = workspace;
    let Some(builds) = descend(root, builds_root, builds_dir)? else { return Ok(()) };
    // A link or another account's directory on the way to the project is an error; elsewhere it is passed over.
    if let Some(parent) = project_dir.parent().filter(|parent| *parent != builds_dir) {
        descend(root, builds_root, parent)?;
    }
    let mut search = Search { project_dir, left: MOST_DIRECTORIES };
    search.directory(&builds, 0)
}

struct Search<'a> {
    project_dir: &'a Path,
    /// How many directories are still looked at.
    left: usize,
}

impl Search<'_> {
    fn directory(&mut self, directory: &Directory, depth: usize) -> Result<(), Trouble> {
        for name in names(directory)? {
            if directory.path().join(&name) == self.project_dir || self.left == 0 {
                continue;
            }
            let kind = directory.stat(&name);
            if name.as_bytes().ends_with(SUFFIX.as_bytes()) {
                // The project's own goes whatever it is: the runner may not have come far.
                let credentials = self.is_projects(directory, &name)
                    || kind.is_ok_and(|stat| is(&stat, SFlag::S_IFDIR)) && has_mark(directory, &name);
                if credentials && remove(directory, &name, 0, None)? {
                    tell(&format!("removed {}", shown(&directory.path().join(&name))));
                }
            } else if depth < DEEPEST && kind.is_ok_and(|stat| is(&stat, SFlag::S_IFDIR)) {
                self.left -= 1;
                // What belongs to another account, or is gone by now, holds nothing of this job's.
                let Ok(Some(child)) = directory.child(&name) else { continue };
                if child.stat(OsStr::new(".git")).is_err() {
                    self.directory(&child, depth + 1)?;
                }
            }
        }
        Ok(())
    }

    fn is_projects(&self, directory: &Directory, name: &OsStr) -> bool {
        let Some(project) = self.project_dir.file_name() else { return false };
        let of_project = |middle: &str| {
            let mut own = OsString::from(project);
            own.push(middle);
            own.push(SUFFIX);
            own == name
        };
        self.project_dir.parent() == Some(directory.path()) && (of_project("") || of_project("-empty"))
    }
}

fn has_mark(parent: &Directory, name: &OsStr) -> bool {
    let Ok(Some(directory)) = parent.child(name) else { return false };
    MARKS.iter().any(|mark| directory.stat(OsStr::new(mark)).is_ok())
}

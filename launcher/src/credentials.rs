//! The secrets of a job that gitlab-runner keeps in the builds directory: file variables, the job
//! token, git credentials.
//!
//! They are in a directory beside the work tree, with the same name and `.tmp` appended. The work
//! tree is `<project>`, or `<project>-empty` with `GIT_STRATEGY: empty`, or wherever
//! `GIT_CLONE_PATH` points. The runner removes them when a job ends normally; after a cancel or a
//! timeout they stay. So the whole slot is searched: each directory that is not a work tree, for
//! each `*.tmp` that contains a file by which the runner's own can be recognized.

use nix::sys::stat::SFlag;
use nunbird_files::directory::Directory as Files;
use nunbird_handover::Workspace;
use nunbird_stage::directory::{Directory, is};
use nunbird_stage::error::shown;
use nunbird_stage::trees::{descend, names, was_removed};
use nunbird_stage::{StageError, log_to_runner};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
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
/// A configuration of git has a few lines for each branch and submodule.
const LONGEST_CONFIG: u64 = 1 << 20;

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

/// Removes what may hold credentials from the configurations of git of all work trees that are kept, their submodules' as well: older releases of
/// gitlab-runner have the job token in the URL of the remote. Newer ones remove these files themselves.
pub(crate) fn strip_git_configs(root: &Directory, workspace: &Workspace) -> Result<(), StageError> {
    strip_within(root, workspace, MOST_DIRECTORIES)
}

/// The same, limited to this number of directories.
fn strip_within(root: &Directory, workspace: &Workspace, most: usize) -> Result<(), StageError> {
    let Workspace { builds_root, builds_dir, .. } = workspace;
    let Some(builds) = descend(root, builds_root, builds_dir)? else { return Ok(()) };
    // `GIT_CLONE_PATH` names any of them.
    strip_work_trees(&builds, 0, &mut { most })
}

fn strip_work_trees(directory: &Directory, depth: usize, left: &mut usize) -> Result<(), StageError> {
    let git = OsStr::new(GIT);
    match directory.stat(git) {
        Ok(stat) if is(&stat, SFlag::S_IFDIR) => {
            return directory.child(git)?.map_or(Ok(()), |git| strip_config(&git, 0));
        }
        // A file that names a directory elsewhere, which is not the runner's.
        Ok(_) => return Ok(()),
        Err(_) => {}
    }
    for name in names(directory)? {
        if !directory.stat(&name).is_ok_and(|stat| is(&stat, SFlag::S_IFDIR)) {
            continue;
        }
        if depth == DEEPEST || *left == 0 {
            let help = "make fewer or flatter directories outside of the work tree";
            return Err(StageError::at(
                "cannot look for credentials in all of",
                directory.path(),
                "it is too large",
                help,
            ));
        }
        *left -= 1;
        // What belongs to another account contains nothing of the runner's.
        let Ok(Some(child)) = directory.child(&name) else { continue };
        strip_work_trees(&child, depth + 1, left)?;
    }
    Ok(())
}

/// Of one repository, and of those of its submodules.
fn strip_config(git: &Directory, depth: usize) -> Result<(), StageError> {
    let failed = |name: &str, e: io::Error| {
        StageError::at(
            "cannot remove credentials from",
            &git.path().join(name),
            e,
            "remove it by hand: it may hold credentials",
        )
    };
    let copy = git.as_fd().try_clone_to_owned().map_err(|e| failed("config", e))?;
    let files = Files::new(copy);
    // One that cannot be read is not used by git either.
    let plain = files.read("config", LONGEST_CONFIG).map(|(text, ..)| without_credentials(&text));
    for name in ["config", "config.worktree"] {
        files.remove(name).map_err(|e| failed(name, e))?;
    }
    if let Ok(plain) = plain {
        files.replace("config", "config.plain", plain.as_bytes()).map_err(|e| failed("config", e))?;
    }
    let modules = OsStr::new("modules");
    match git.stat(modules) {
        Ok(stat) if is(&stat, SFlag::S_IFDIR) => match git.child(modules)? {
            Some(modules) => strip_configs_below(&modules, depth + 1),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// What git needs of a configuration to read the repository: its format, and where a submodule's work tree is. Only plain values of known keys.
fn without_credentials(config: &[u8]) -> String {
    let mut plain = String::new();
    let mut known: &[&str] = &[];
    for line in String::from_utf8_lossy(config).lines() {
        let line = line.trim();
        if line.starts_with('[') {
            known = match line.to_ascii_lowercase().as_str() {
                "[core]" => {
                    &["repositoryformatversion", "filemode", "bare", "symlinks", "ignorecase", "worktree"]
                }
                "[extensions]" => &["objectformat", "compatobjectformat", "refstorage", "partialclone"],
                _ => &[],
            };
            if !known.is_empty() {
                plain.push_str(&format!("{line}\n"));
            }
        } else if let Some((key, value)) = line.split_once('=')
            && known.contains(&key.trim().to_ascii_lowercase().as_str())
        {
            let value = value.trim();
            if value.chars().all(|c| c.is_ascii_alphanumeric() || "._/+-".contains(c)) {
                plain.push_str(&format!("\t{} = {value}\n", key.trim()));
            }
        }
    }
    plain
}

/// Names of submodules are paths: a directory is a repository or leads to some.
fn strip_configs_below(directory: &Directory, depth: usize) -> Result<(), StageError> {
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
            Ok(_) => strip_config(&child, depth + 1)?,
            Err(_) => strip_configs_below(&child, depth + 1)?,
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
    use super::{remove_within, strip_within, without_credentials};
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

    #[test]
    fn every_work_tree_loses_its_credentials_and_can_still_be_read() {
        let scratch = tempfile::tempdir().expect("a directory");
        let root = scratch.path().to_owned();
        let builds_dir = root.join("builds/node01/gitlab-1");
        let workspace = Workspace {
            data_dir: root.clone(),
            builds_root: root.clone(),
            cache_dir: root.join("cache"),
            builds_dir: builds_dir.clone(),
            // `GIT_CLONE_PATH` is another one.
            project_dir: builds_dir.join("group/project"),
        };
        let config = "[core]\n\trepositoryformatversion = 1\n\tsshCommand = hidden\n[extensions]\n\tobjectFormat = sha256\n\
                      [remote \"origin\"]\n\turl = https://gitlab-ci-token:hidden@x/y.git\n[Core]\n\tworktree = ../../../sub\n";
        let repositories = ["mine/clone/.git", "mine/clone/.git/modules/a/sub", "other/.git"];
        for at in repositories {
            fs::create_dir_all(builds_dir.join(at)).expect("directories");
            for (file, text) in
                [("HEAD", "ref: refs/heads/x"), ("config", config), ("config.worktree", config)]
            {
                fs::write(builds_dir.join(at).join(file), text).expect("a file");
            }
        }
        let uid = nix::unistd::geteuid().as_raw();
        let directory = Directory::data_dir(&root, uid).expect("opens").expect("is there");
        strip_within(&directory, &workspace, 1).expect_err("more directories than it looks at");
        strip_within(&directory, &workspace, 100).expect("stripped");
        for at in repositories {
            let left = fs::read_to_string(builds_dir.join(at).join("config")).expect("a configuration");
            let plain = "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tobjectFormat = sha256\n[Core]\n\tworktree = ../../../sub\n";
            assert_eq!(left, plain, "{at}");
            assert!(!builds_dir.join(at).join("config.worktree").exists(), "{at}");
        }
    }

    #[test]
    fn only_plain_values_of_known_keys_stay_in_a_configuration() {
        for (config, plain) in [
            ("[core]\nbare = x \\\n[remote]\nurl = hidden", "[core]\n"),
            ("[core \"bare\"]\nbare = false", ""),
            ("[include]\npath = /x\n[credential]\nhelper = store", ""),
            ("[core]\nworktree = https://a:b@c\nbare", "[core]\n"),
            ("bare = true", ""),
        ] {
            assert_eq!(without_credentials(config.as_bytes()), plain, "{config}");
        }
    }
}

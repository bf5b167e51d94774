//! The prepare stage: makes sure that the job's directories exist and are private and writable,
//! writes the greeting, and makes the job's container.
//!
//! gitlab-runner calls it up to three times for a job, so everything may exist already.

use crate::build_directories;
use crate::greeting::greeting;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nunbird_handover::{Account, Container, Handover, Workspace};
use nunbird_stage::directory::{Directory, GROUP, PRIVATE, make};
use nunbird_stage::signals::Signals;
use nunbird_stage::trees::descend;
use nunbird_stage::{StageError, StageResult, print_message};
use nunbird_sys::process::set_umask;
use std::fs::DirBuilder;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

/// Creates `data_dir`, `builds_dir` and `cache_dir`, tests that they are writable, and writes the
/// greeting.
pub(crate) fn prepare(handover: &Handover) -> Result<StageResult, StageError> {
    set_umask(0o077);
    let workspace = &handover.workspace;
    let group_access = handover.site.upkeep.group_access;
    let permissions = if group_access { GROUP } else { PRIVATE };
    let data_dir = make_root(&workspace.data_dir, &handover.account, permissions)?;
    make_below(&data_dir, &workspace.data_dir, &workspace.cache_dir, permissions)?;
    let root = match workspace.builds_root == workspace.data_dir {
        true => data_dir,
        false => make_root(&workspace.builds_root, &handover.account, permissions)?,
    };
    make_below(&root, &workspace.builds_root, &workspace.builds_dir, permissions)?.test_writable()?;
    reopen(&root, workspace);
    if group_access {
        hide_credentials(&root, workspace, permissions)?;
    }
    build_directories::record_use(&root, handover)?;
    say(&greeting(handover))?;
    match &handover.container {
        Some(container) => prepare_container(handover, container),
        None => Ok(StageResult::Success),
    }
}

/// After the greeting: a pull may take minutes, and the user shall know what for.
fn prepare_container(handover: &Handover, container: &Container) -> Result<StageResult, StageError> {
    let signals = Signals::block().map_err(|e| {
        StageError::new("cannot wait for signals", e, "run the job again, or report it to the administrators")
    })?;
    // A reader that has gone does not keep the container from being made.
    let log = |line: &str| drop(say(&format!("{line}\n")));
    match nunbird_container::prepare(handover, container, &signals, &log) {
        Ok(lines) => {
            lines.iter().for_each(|line| log(line));
            Ok(StageResult::Success)
        }
        Err(failure) => failure.report(print_message),
    }
}

fn say(text: &str) -> Result<(), StageError> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|e| StageError::new("cannot write to the job log", e, "look at gitlab-runner's own log"))
}

/// An earlier job may have taken the owner's permissions from the directories that git and the file
/// variables need. A directory that cannot be opened is left to the stage that needs it, which
/// reports what is wrong.
fn reopen(root: &Directory, workspace: &Workspace) {
    let project = &workspace.project_dir;
    let (Some(parent), Some(name)) = (project.parent(), project.file_name()) else { return };
    let Ok(Some(parent)) = descend(root, &workspace.builds_root, parent) else { return };
    let mut hidden = name.to_owned();
    hidden.push(".tmp");
    for name in [name, &hidden] {
        drop(parent.child(name));
    }
}

/// gitlab-runner makes `<project>.tmp` readable by everybody and relies on the directories above
/// it: it holds file variables and credentials, which the group must not read either.
fn hide_credentials(root: &Directory, workspace: &Workspace, permissions: u32) -> Result<(), StageError> {
    let project = &workspace.project_dir;
    let (Some(parent), Some(name)) = (project.parent(), project.file_name()) else { return Ok(()) };
    let mut hidden = name.to_owned();
    hidden.push(".tmp");
    make_below(root, &workspace.builds_root, parent, permissions)?.make_child(&hidden).map(drop)
}

/// Creates a top directory; an existing one may be reached through a link that the account owns.
fn make_root(path: &Path, account: &Account, permissions: u32) -> Result<Directory, StageError> {
    let directory = match Directory::data_dir(path, account.uid)? {
        Some(directory) => directory,
        None => {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(StageError::at("cannot use", path, "it has no name", "set another `data_dir`"));
            };
            make_parents(parent, account)?;
            let parent = open(parent, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(|e| {
                StageError::at("cannot open", parent, e, "make sure that you can enter it")
            })?;
            make(parent.as_fd(), name, path)?;
            Directory::data_dir(path, account.uid)?.ok_or_else(|| {
                StageError::at(
                    "cannot keep",
                    path,
                    "something removes it at the same time",
                    "run the job again",
                )
            })?
        }
    };
    directory.set_permissions(permissions)?;
    Ok(directory)
}

/// Parents are created inside the account's own directories only: elsewhere a missing directory is
/// more likely a file system that is not mounted.
fn make_parents(parent: &Path, account: &Account) -> Result<(), StageError> {
    if parent.is_dir() {
        return Ok(());
    }
    let home = &account.home;
    if parent.starts_with(home) && !home.is_dir() {
        let cause = "the home directory is missing on this host, or you cannot enter it";
        let help = "log in to this host once, or ask the administrators to make or mount it";
        return Err(StageError::at("cannot use", home, cause, help));
    }
    let nearest = parent.ancestors().find_map(|path| path.metadata().ok());
    if nearest.is_none_or(|nearest| nearest.uid() != account.uid) {
        let cause = "it is missing, and directories are created only inside those that you own";
        return Err(StageError::at(
            "cannot use",
            parent,
            cause,
            "create it, or ask the administrators whether it is mounted",
        ));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(|e| {
        let help = "make sure that the directory above it is writable and has space and quota left";
        StageError::at("cannot make", parent, e, help)
    })
}

/// Creates each directory from `root`, which is `prefix`, down to `path`.
fn make_below(
    root: &Directory,
    prefix: &Path,
    path: &Path,
    permissions: u32,
) -> Result<Directory, StageError> {
    let mut components = path.strip_prefix(prefix).unwrap_or(Path::new("")).components();
    let first = components.next().ok_or_else(|| {
        StageError::at(
            "cannot use",
            path,
            "it is not below the data directory",
            "report it to the administrators",
        )
    })?;
    components.try_fold(root.make_child_with(first.as_os_str(), permissions)?, |directory, name| {
        directory.make_child_with(name.as_os_str(), permissions)
    })
}

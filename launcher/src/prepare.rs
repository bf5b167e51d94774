//! The prepare stage: the job's directories are there, private and writable, and the user is told who runs where.
//!
//! gitlab-runner calls it up to three times for a job, so everything may exist already.

use crate::directory::{Directory, make};
use crate::greeting::greeting;
use crate::{Trouble, Verdict};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nunbird_handover::{Account, Handover};
use nunbird_sys::process::set_umask;
use std::fs::DirBuilder;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Makes `data_dir`, `builds_dir` and `cache_dir`, tries to write, and greets.
pub(crate) fn prepare(handover: &Handover) -> Result<Verdict, Trouble> {
    set_umask(0o077);
    let workspace = &handover.workspace;
    let data_dir = make_data_dir(&workspace.data_dir, &handover.account)?;
    make_below(&data_dir, &workspace.data_dir, &workspace.cache_dir)?;
    make_below(&data_dir, &workspace.data_dir, &workspace.builds_dir)?.trial()?;
    std::io::stdout()
        .write_all(greeting(handover).as_bytes())
        .map_err(|e| Trouble::new("cannot write to the job log", e, "look at gitlab-runner's own log"))?;
    Ok(Verdict::Success)
}

fn make_data_dir(path: &Path, account: &Account) -> Result<Directory, Trouble> {
    let directory = match Directory::data_dir(path, account.uid)? {
        Some(directory) => directory,
        None => {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(Trouble::at("cannot use", path, "it has no name", "set another `data_dir`"));
            };
            make_parents(parent, account)?;
            let parent =
                open(parent, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
                    .map_err(|e| Trouble::at("cannot open", parent, e, "make sure that you can enter it"))?;
            make(parent.as_fd(), name, path)?;
            Directory::data_dir(path, account.uid)?.ok_or_else(|| {
                Trouble::at("cannot keep", path, "something removes it at the same time", "run the job again")
            })?
        }
    };
    directory.make_private()?;
    Ok(directory)
}

/// Parents are made inside the home directory only: elsewhere a missing directory is more likely a file system
/// that is not mounted.
fn make_parents(parent: &Path, account: &Account) -> Result<(), Trouble> {
    if parent.is_dir() {
        return Ok(());
    }
    let home = &account.home;
    if !home.is_dir() {
        let cause = "the home directory is missing on this host, or you cannot enter it";
        let help = "log in to this host once, or ask the administrators to make or mount it";
        return Err(Trouble::at("cannot use", home, cause, help));
    }
    if !parent.starts_with(home) {
        let cause = "it is missing, and only directories inside the home directory are made";
        return Err(Trouble::at(
            "cannot use",
            parent,
            cause,
            "make it, or ask the administrators whether it is mounted",
        ));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(|e| {
        let help = "make sure that your home directory is writable and has space and quota left";
        Trouble::at("cannot make", parent, e, help)
    })
}

/// Makes each directory from `data_dir` down to `path`.
fn make_below(data_dir: &Directory, prefix: &Path, path: &Path) -> Result<Directory, Trouble> {
    let mut components = path.strip_prefix(prefix).unwrap_or(Path::new("")).components();
    let first = components.next().ok_or_else(|| {
        Trouble::at("cannot use", path, "it is not below the data directory", "tell the administrators")
    })?;
    components.try_fold(data_dir.make_child(first.as_os_str())?, |directory, name| {
        directory.make_child(name.as_os_str())
    })
}

//! The first steps: sets up this process, reads the handover, and checks that it is meant for this
//! process.
//!
//! The descriptors are taken before anything else is opened, so that no number can be confused.

use nix::sys::prctl;
use nix::unistd::{getresgid, getresuid};
use nunbird_handover::{
    Account, EXIT_CODE_FD, HANDOVER_FD, Handover, SCRIPT_FD, SUMMARY_FD, SUMMARY_SIZE, Task, Workspace,
};
use nunbird_stage::StageError;
use nunbird_stage::error::shown;
use nunbird_started::inherited;
use nunbird_sys::process;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path};

/// Bound on the handover, which holds a few paths and a site's environment.
const LONGEST_HANDOVER: u64 = 4 << 20;

const STARTED_BY: &str =
    "nunbird-auth starts nunbird; to run jobs, name nunbird-auth in gitlab-runner's config.toml";

/// What `nunbird-auth` passed.
#[derive(Debug)]
pub(crate) struct Inherited {
    pub(crate) handover: Handover,
    /// The stage's script, for [`Task::Run`].
    pub(crate) script: Option<File>,
    /// The runner's exit-code file, if it offers one.
    pub(crate) exit_code: Option<File>,
    /// Where to report the result of the stage in the batch scheduler.
    pub(crate) summary: Option<File>,
}

/// Sets default signals, forbids inspection by other processes of the user, and sets a name for
/// `ps`.
pub(crate) fn set_up_process() -> Result<(), StageError> {
    let order = || -> io::Result<()> {
        process::default_signals()?;
        process::ignore_failed_writes();
        process::forbid_inspection()?;
        Ok(prctl::set_name(c"nunbird")?)
    };
    order().map_err(|e| StageError::new("cannot set up this process", e, "report it to the administrators"))
}

impl Inherited {
    /// Takes the descriptors and reads the handover.
    pub(crate) fn take() -> Result<Self, StageError> {
        let message = inherited::take(HANDOVER_FD);
        let script = inherited::take(SCRIPT_FD).ok();
        let exit_code = inherited::take(EXIT_CODE_FD).ok();
        let summary = inherited::take(SUMMARY_FD).ok().filter(is_for_a_summary);
        let no_handover = |cause: &dyn std::fmt::Display| {
            StageError::new(&format!("no handover behind descriptor {HANDOVER_FD}"), cause, STARTED_BY)
        };
        let bytes = message.and_then(|file| read_whole(&file)).map_err(|e| no_handover(&e))?;
        process::close_on_exec_from(HANDOVER_FD).map_err(|e| no_handover(&e))?;
        let handover = Handover::from_bytes(&bytes).map_err(|e| no_handover(&e))?;
        if handover.exit_code_file && exit_code.is_none() {
            return Err(no_handover(&format!("descriptor {EXIT_CODE_FD} is missing")));
        }
        if matches!(handover.task, Task::Run(_)) && script.is_none() {
            return Err(no_handover(&format!("descriptor {SCRIPT_FD}, the script, is missing")));
        }
        let exit_code = exit_code.filter(|_| handover.exit_code_file);
        Ok(Inherited { handover, script, exit_code, summary })
    }
}

/// Nothing else with this number is written to.
fn is_for_a_summary(file: &File) -> bool {
    file.metadata().is_ok_and(|file| file.is_file() && file.len() == SUMMARY_SIZE as u64)
}

/// Reads from the beginning: the offset is shared with the writer and is at the end.
pub(crate) fn read_whole(file: &File) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    if length > LONGEST_HANDOVER {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Checks that all ids of this process are those of the handover's account, and that it is not
/// root.
pub(crate) fn check_identity(account: &Account) -> Result<(), StageError> {
    let help =
        "nothing was run; report it to the administrators: this is a fault of Nunbird or of its installation";
    let ids = || -> nix::Result<_> { Ok((getresuid()?, getresgid()?)) };
    let (uids, gids) = ids().map_err(|e| StageError::new("cannot read this process's ids", e, help))?;
    let uids = [uids.real, uids.effective, uids.saved].map(nix::unistd::Uid::as_raw);
    let gids = [gids.real, gids.effective, gids.saved].map(nix::unistd::Gid::as_raw);
    if account.uid == 0 || uids.contains(&0) {
        return Err(StageError::new("refusing to run a job", "root runs no jobs", help));
    }
    if uids != [account.uid; 3] || gids != [account.gid; 3] {
        let cause = format!(
            "this process has uids {uids:?} and gids {gids:?}, the job's account has uid {} and gid {}",
            account.uid, account.gid
        );
        return Err(StageError::new("refusing to run a job", cause, help));
    }
    Ok(())
}

/// Checks that the directories are nested as they should be and contain no `..`.
pub(crate) fn check_paths(workspace: &Workspace) -> Result<(), StageError> {
    let Workspace { data_dir, builds_root, builds_dir, cache_dir, project_dir } = workspace;
    for (inner, outer) in [(builds_dir, builds_root), (cache_dir, data_dir), (project_dir, builds_dir)] {
        let below = inner.strip_prefix(outer).is_ok_and(|rest| rest != Path::new(""));
        let plain = |path: &Path| {
            path.is_absolute()
                && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)))
        };
        if !below || !plain(inner) || !plain(outer) {
            let cause = format!("it must lie below {}, without `..`", shown(outer));
            return Err(StageError::at(
                "refusing to use",
                inner,
                cause,
                "set another `data_dir` in the configuration",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Workspace, check_paths};

    fn workspace(data: &str, builds: &str, project: &str) -> Workspace {
        let (data_dir, builds_dir) = (data.into(), builds.into());
        Workspace {
            builds_root: data.into(),
            data_dir,
            builds_dir,
            cache_dir: format!("{data}/cache").into(),
            project_dir: project.into(),
        }
    }

    #[test]
    fn directories_must_lie_in_each_other() {
        assert!(check_paths(&workspace("/h/.n", "/h/.n/builds/x/0", "/h/.n/builds/x/0/g/p")).is_ok());
        for (data, builds, project) in [
            ("/h/.n", "/h/builds", "/h/builds/g/p"),
            ("/h/.n", "/h/.n", "/h/.n/g/p"),
            ("/h/.n", "/h/.n/b", "/h/.n/b"),
            ("/h/.n", "/h/.n/b", "/h/.n/b/../../../etc"),
            ("h/.n", "h/.n/b", "h/.n/b/p"),
            ("/h/../etc", "/h/../etc/b", "/h/../etc/b/p"),
        ] {
            assert!(check_paths(&workspace(data, builds, project)).is_err(), "{data} {builds} {project}");
        }
    }
}

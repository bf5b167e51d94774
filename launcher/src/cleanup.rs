//! The cleanup stage: removes file variables and git credentials of the job, however it ended.
//!
//! gitlab-runner removes them itself only when a job ends normally ([`credentials`]); a cancelled
//! or timed-out job leaves keys and tokens behind. The stage may run several times for one job,
//! beside another cleanup and beside a stage that has not ended yet, and when no directory was ever
//! created. It never follows a symbolic link. gitlab-runner writes its output to its own log.
//! `build_directories` keeps or removes build directories.

use crate::escaped::Mark;
use crate::{build_directories, credentials};
use nunbird_handover::{Handover, Task};
use nunbird_stage::directory::Directory;
use nunbird_stage::{StageError, StageResult, Timeouts, log_to_runner};

/// Removes credentials, then the build directories that the site's rules select.
pub(crate) fn cleanup(handover: &Handover) -> Result<StageResult, StageError> {
    let workspace = &handover.workspace;
    let Some(root) = Directory::data_dir(&workspace.builds_root, handover.account.uid)? else {
        return Ok(StageResult::Success);
    };
    if handover.task == Task::Tidy {
        build_directories::tidy(&root, handover);
        return Ok(StageResult::Success);
    }
    credentials::remove_all(&root, workspace)?;
    build_directories::release(&root, handover);
    Ok(StageResult::Success)
}

/// Removes the job's containers from this host.
pub(crate) fn container(handover: &Handover, timeouts: Timeouts) -> Result<(), StageError> {
    let Some(container) = &handover.container else { return Ok(()) };
    nunbird_container::destroy(handover, container, |name| {
        let mark = Mark::of_container(name);
        let found = mark.count();
        let left = mark.kill(timeouts.abandon);
        if left > 0 {
            log_to_runner(&format!("{left} processes of the job's container do not end, not even by KILL"));
        }
        found
    })
}

/// Ends the processes that the job left on this host and that carry this mark.
pub(crate) fn end_processes(mark: &Mark, timeouts: Timeouts) {
    let (found, left) = mark.end(timeouts);
    match (found, left) {
        (0, _) => {}
        (_, 0) => log_to_runner(&format!("ended {found} processes that the job left behind")),
        _ => log_to_runner(&format!(
            "{left} processes that the job left behind do not end, not even by KILL; they may be \
             waiting for a file system that does not respond"
        )),
    }
}

//! The cleanup stage: file variables and git credentials of the job go, however it ended.
//!
//! gitlab-runner removes them itself only when a job ends in order ([`credentials`]); a cancelled
//! or timed-out job leaves keys and tokens behind. The stage may run several times for one job, beside itself and
//! beside a stage that has not ended yet, and when nothing was ever made. It never follows a symbolic link.
//! What it prints goes to gitlab-runner's own log. Build directories are kept and removed by `upkeep`.

use crate::fled::Mark;
use crate::{credentials, upkeep};
use nunbird_handover::{Handover, Task};
use nunbird_stage::directory::Directory;
use nunbird_stage::{Patience, Trouble, Verdict, tell};

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

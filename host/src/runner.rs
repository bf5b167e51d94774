//! The gitlab-runner that a job belongs to: which processes it is, and whether it is still there.
//!
//! A runner that was killed ends no job, calls no clean-up, and does not come back for either: GitLab gives the job up, and may start it
//! again. Process ids are compared within one boot and one pid namespace alone; what cannot be compared is not gone.

use crate::ancestry::{self, Process};
use nunbird_messages::{Now, Record, Runner, RunnerProcess};
use std::io;

/// The runner that called this process; none where the kernel does not show it.
///
/// # Errors
/// As open(2) and read(2) below /proc.
pub fn calling() -> io::Result<Option<Runner>> {
    let processes: Vec<RunnerProcess> = ancestry::parents_in_session()?
        .into_iter()
        .map(|Process { pid, start }| RunnerProcess { pid, start })
        .collect();
    if processes.is_empty() {
        return Ok(None);
    }
    Ok(Some(Runner { pid_namespace: ancestry::pid_namespace()?, processes }))
}

/// Whether every process of the job's runner has ended. A wrapper that the site has put between the two ends with each call, and alone
/// means nothing.
///
/// # Errors
/// As open(2) and read(2) below /proc.
pub fn is_gone(record: &Record, now: &Now) -> io::Result<bool> {
    let Some(runner) = record.runner.as_ref().filter(|runner| !runner.processes.is_empty()) else {
        return Ok(false);
    };
    if !record.is_of_boot(now) || runner.pid_namespace != ancestry::pid_namespace()? {
        return Ok(false);
    }
    for RunnerProcess { pid, start } in runner.processes.iter().copied() {
        if (Process { pid, start }).is_alive()? {
            return Ok(false);
        }
    }
    Ok(true)
}

//! The batch scheduler of a job's stages.

use crate::refusal::{Code, Refusal};
use nunbird_handover::{Batch, BatchPlan, Scheduler};
use nunbird_policy::{Executor, Job, Policy};
use std::path::PathBuf;

/// The scheduler of these jobs; none where they run on this host. `directory` is the job's own for files of it, and GitLab ends the job at
/// `deadline`, in seconds since the epoch.
///
/// # Errors
/// For a scheduler that the policy does not describe, which it does not let happen.
pub fn of(
    policy: &Policy,
    job: &Job,
    directory: PathBuf,
    deadline: Option<u64>,
) -> Result<Option<BatchPlan>, Refusal> {
    let scheduler = match &job.executor {
        Executor::Shell => return Ok(None),
        Executor::Scheduler(name) => Scheduler::Named(name.clone()),
        Executor::Described(name) => {
            let known = policy.schedulers.get(name);
            let unknown =
                || Refusal::system(Code::Executor, "the job's executor is not configured on this host", name);
            Scheduler::Described(known.ok_or_else(unknown)?.description.clone())
        }
    };
    let small = |seconds: u64| u32::try_from(seconds).unwrap_or(u32::MAX);
    let from = &job.batch;
    let settings = Batch {
        stages: from.stages.clone(),
        scheduler_bin: from.scheduler_bin.clone(),
        environment: from.environment.clone(),
        grace: small(from.grace),
        rules: from.rules.clone(),
        allow_illegal_args: from.allow_illegal_arguments,
        poll_interval: small(from.poll_interval),
        nfs_timeout: small(from.nfs_timeout),
        // GitLab's tokens live as long as the job may.
        deadline,
        ..Batch::new(scheduler, directory)
    };
    Ok(Some(BatchPlan {
        name: job.executor.name().to_owned(),
        settings,
        arguments_variables: from.arguments_variables.clone(),
        job_prefix: from.job_prefix,
    }))
}

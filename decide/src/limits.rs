//! What the job gets: the site's limits with what its user asks for, put in force by `nunbird-auth`.

use crate::call::Call;
use crate::monitor::decider_failed;
use nunbird_handover::{JobLimits, Record};
use nunbird_host::refusal::{Refusal, print_error};
use nunbird_judge::place;
use nunbird_policy::{Limits, RequestRefused};
use nunbird_requests::{Confine, Confined, Reply, Request};

/// The limits of the job, its user's requests included.
///
/// # Errors
/// A denial for requests that are not granted.
pub(crate) fn decide(call: &Call<'_>, limits: Option<&Limits>) -> Result<Option<JobLimits>, Refusal> {
    let Some(limits) = limits else { return Ok(None) };
    let variable = |name: &str| {
        call.monitor.variable(name).map_err(|_| RequestRefused(format!("{name} is no UTF-8 text")))
    };
    let (amounts, notes) = limits.asked(variable).map_err(|e| place::limits_refused(limits, &e))?;
    for line in notes {
        print_error(&format!("nunbird: {line}\n"));
    }
    Ok(Some(JobLimits {
        name: limits.name.clone(),
        amounts,
        rlimits: limits.rlimits,
        standing: limits.standing,
        disks: Vec::new(),
        group: None,
    }))
}

/// Has the limits put in force; why the job runs without them, where it does.
///
/// # Errors
/// The refusal of `nunbird-auth`.
pub(crate) fn establish(
    call: &Call<'_>,
    limits: Option<&Limits>,
    record: &mut Record,
) -> Result<Option<String>, Refusal> {
    let (Some(limits), Some(job)) = (limits, record.limits.as_ref()) else { return Ok(None) };
    let malformed = |e: serde_json::Error| decider_failed(&e);
    let confine = Confine {
        limits: serde_json::to_vec(job).map_err(malformed)?,
        disks: serde_json::to_vec(&limits.disks).map_err(malformed)?,
        way: limits.cgroup_driver.in_record().to_owned(),
        require: limits.require,
        asked: job.amounts != limits.amounts,
        job_id: record.job_id,
        runner_id: call.admitted.as_ref().and_then(|admitted| admitted.runner_id).unwrap_or(0),
        account: record.account.name.clone(),
    };
    match call.monitor.have(&Request::Confine(confine))? {
        Reply::Confined(Confined { limits, unlimited }) => {
            record.limits = Some(serde_json::from_slice(&limits).map_err(malformed)?);
            Ok(unlimited)
        }
        _ => Err(decider_failed(&"another reply than was asked for")),
    }
}

//! What the job gets: the site's limits with what its user asks for, put in force by `nunbird-auth`.

use crate::call::Call;
use crate::monitor::decider_failed;
use nunbird_groups::{Disk, Order};
use nunbird_handover::{Amounts, DiskLimit, JobLimits, Record};
use nunbird_host::refusal::{Refusal, print_error};
use nunbird_judge::place;
use nunbird_policy::{Limits, NotGranted};
use nunbird_requests::{Confine, Confined, Reply, Request, Without};
use nunbird_wire::Message;

/// The limits of the job, its user's requests included.
///
/// # Errors
/// A denial for requests that are not granted.
pub(crate) fn decide(call: &Call<'_>, limits: Option<&Limits>) -> Result<Option<JobLimits>, Refusal> {
    let Some(limits) = limits else { return Ok(None) };
    let variable =
        |name: &str| call.monitor.variable(name).map_err(|_| NotGranted(format!("{name} is no UTF-8 text")));
    let (amounts, notes) = limits.asked(variable).map_err(|e| place::limits_refused(limits, &e))?;
    for line in notes {
        print_error(&format!("nunbird: {line}\n"));
    }
    Ok(Some(JobLimits {
        name: limits.name.clone(),
        amounts,
        rlimits: limits.rlimits,
        standing: limits.standing,
        disks: limits.disks.clone(),
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
        order: order(limits.way.name(), job).to_bytes(),
        without: match () {
            // Without a group such a job is only not counted.
            () if job.amounts == Amounts::default() && job.disks.is_empty() => Without::Uncounted,
            () if limits.require => Without::Refused,
            () if job.amounts != limits.amounts => Without::Denied,
            () => Without::Warned,
        },
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

/// What `nunbird-limits` is to make.
fn order(way: &str, job: &JobLimits) -> Order {
    let Amounts { memory, swap, cpu, pids, io_weight } = job.amounts;
    let disk = |disk: &DiskLimit| Disk {
        device: disk.device.clone(),
        rates: [disk.read, disk.write, disk.read_ops, disk.write_ops],
    };
    let disks = job.disks.iter().map(disk).collect();
    Order { way: way.to_owned(), memory, swap, cpu, pids, io_weight, disks }
}

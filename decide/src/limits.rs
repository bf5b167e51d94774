//! What the job gets: the site's limits with what its user asks for, put in force by `nunbird-auth`.

use crate::call::Call;
use crate::monitor::decider_failed;
use nunbird_groups::{Disk, Order};
use nunbird_handover::{Amounts, DiskLimit, JobLimits, JobSpec, Rlimits};
use nunbird_host::refusal::{Refusal, print_error};
use nunbird_judge::place;
use nunbird_messages::{Group, ProcessLimits};
use nunbird_policy::{Limits, RequestRefused};
use nunbird_requests::{Confine, Confined, Reply, Request, Without};
use nunbird_wire::Message;

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
        disks: limits.disks.clone(),
    }))
}

/// Has the limits put in force: the group that the record keeps, and why the job runs without one, where it does.
///
/// # Errors
/// The refusal of `nunbird-auth`.
pub(crate) fn establish(
    call: &Call<'_>,
    limits: Option<&Limits>,
    spec: &mut JobSpec,
) -> Result<(Option<Group>, Option<String>), Refusal> {
    let (Some(limits), Some(job)) = (limits, spec.limits.as_mut()) else { return Ok((None, None)) };
    let confine = Confine {
        name: job.name.clone(),
        processes: of_processes(job),
        order: order(limits.cgroup_driver.in_record(), job).to_bytes(),
        without: match () {
            // Without a group such a job is only not counted.
            () if job.amounts == Amounts::default() && job.disks.is_empty() => Without::Uncounted,
            () if limits.require => Without::Refused,
            () if job.amounts != limits.amounts => Without::Denied,
            () => Without::Warned,
        },
        job_id: spec.job_id,
        runner_id: call.admitted.as_ref().and_then(|admitted| admitted.runner_id).unwrap_or(0),
        account: spec.account.name.clone(),
    };
    match call.monitor.have(&Request::Confine(confine))? {
        Reply::Confined(Confined { group, unlimited }) => {
            if group.is_none() {
                job.disks.clear();
            }
            Ok((group, unlimited))
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

/// The part of the limits that each process gets by itself.
pub(crate) fn of_processes(job: &JobLimits) -> ProcessLimits {
    let Rlimits { nofile, nproc, fsize, core, stack, stack_hard, memlock, address_space, cpu_time } =
        job.rlimits;
    ProcessLimits {
        rlimits: [nofile, nproc, fsize, core, stack, stack_hard, memlock, address_space, cpu_time],
        nice: job.standing.nice,
        oom_score_adj: job.standing.oom_score_adj,
    }
}

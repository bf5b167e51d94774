//! What the job gets: the site's limits with what its user asks for, put in force by `nunbird-auth`.

use crate::call::Call;
use crate::monitor::decider_failed;
use nunbird_gauges::{Disk, Order};
use nunbird_handover::{Amounts, DiskLimit, JobLimits, JobSpec, Rlimits};
use nunbird_host::refusal::{Code, Refusal, clean, print_error};
use nunbird_judge::place;
use nunbird_messages::{Group, ProcessLimits, Untrusted};
use nunbird_policy::{Limits, RequestRefused};
use nunbird_requests::{Confine, Reply, Request};
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
        job_id: spec.job_id,
        runner_id: call.admitted.as_ref().and_then(|admitted| admitted.runner_id).unwrap_or(0),
        account: spec.account.name.clone(),
    };
    match call.monitor.have(&Request::Confine(confine))? {
        Reply::Confined(Ok(group)) => Ok((Some(group), None)),
        Reply::Confined(Err(trouble)) => {
            let unlimited = without(call, limits, job, &trouble)?;
            job.disks.clear();
            Ok((None, unlimited))
        }
        _ => Err(decider_failed(&"another reply than was asked for")),
    }
}

/// What becomes of a job whose group cannot be made: why it runs without one, where it does, for the admin.
///
/// # Errors
/// A system refusal where the site demands its limits; a denial where amounts that the user asked for cannot be put in force: they must not be a
/// way to run without those of the site.
fn without(
    call: &Call<'_>,
    limits: &Limits,
    job: &JobLimits,
    trouble: &str,
) -> Result<Option<String>, Refusal> {
    let name = &job.name;
    match () {
        // Without a group such a job is only not counted.
        () if job.amounts == Amounts::default() && job.disks.is_empty() => Ok(None),
        () if limits.require => {
            let message = "the limits for this job cannot be put in force on this host";
            Err(Refusal::system(Code::Limits, message, format!("[limits.{name}]: {trouble}")))
        }
        () if job.amounts != limits.amounts => {
            let detail = format!("[limits.{name}], with what the job asks for: {trouble}");
            let message = "the limits that this job asks for cannot be put in force on this host";
            Err(Refusal::denied(Code::Limits, message, detail).help(
                "remove NUNBIRD_MEMORY, NUNBIRD_CPUS and NUNBIRD_PIDS from .gitlab-ci.yml, or ask for less",
            ))
        }
        () => {
            let detail = clean(&format!("runs without [limits.{name}]: {trouble}"));
            warn_of_no_limits(call, name, &detail);
            Ok(Some(detail))
        }
    }
}

/// The job log is the CI user's: where this host's groups are is the admin's to read, in the audit event, or with `-u`.
fn warn_of_no_limits(call: &Call<'_>, name: &str, detail: &str) {
    let name = Untrusted(name);
    let mut text =
        format!("nunbird: warning: this job runs WITHOUT the limits `{name}` of this site [limits]\n");
    if call.start.unobfuscated {
        for line in detail.lines() {
            text.push_str(&format!("  = note: {line}\n"));
        }
    }
    text.push_str(&format!("  = decision: {}\n", call.start.decision_id));
    print_error(&text);
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

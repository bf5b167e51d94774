//! What a job may use: decided and put in force by `config`, entered by every stage, ended and removed by `cleanup`.
//!
//! Everything here happens with privilege, under the filesystem ids of the groups' owner ([`holder_of`]), but for
//! what [`Held`] tells, which the shepherd asks without any. A limit that is demanded and cannot be put in force is a refusal.

use crate::context::Context;
use crate::decider::failed;
use crate::privilege::{Privilege, assume};
use crate::refusal::{Code, Refusal, clean, print_error};
use crate::units;
use nunbird_cgroup::{
    Amounts, DiskAmounts, Entrance, Gauge, JobGroup, Place, Trouble, Units, Usage, Way, disks_of, name_of,
    number_of, parent_of,
};
use nunbird_files::foreign::Caller;
use nunbird_files::identity::FileIdentity;
use nunbird_handover::{DiskLimit, GroupPlace, JobLimits};
use nunbird_messages::{ProcessLimits, Record, Usage as Used};
use nunbird_requests::Confine;
use nunbird_sys::{priority, process, rlimits};
use std::fmt::Display;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// How long the kernel may take to end and to clear away a job's processes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether the kernel lets the job's processes have their limits and their place.
///
/// # Errors
/// A system refusal that names what it does not.
fn check(context: &Context<'_>, job: &JobLimits) -> Result<(), Refusal> {
    let r = job.rlimits;
    let processes = ProcessLimits {
        rlimits: [
            r.nofile,
            r.nproc,
            r.fsize,
            r.core,
            r.stack,
            r.stack_hard,
            r.memlock,
            r.address_space,
            r.cpu_time,
        ],
        nice: job.standing.nice,
        oom_score_adj: job.standing.oom_score_adj,
    };
    bounds(context, &processes).map_err(|e| refused(&job.name, &e))?;
    check_nice(processes.nice).map_err(|why| refused(&job.name, &why))
}

/// Puts the job's limits in force: what the record keeps of them, and why the job runs without, where it does.
///
/// # Errors
/// As [`make_group`], and for an order that cannot be read.
pub(crate) fn establish(
    context: &Context<'_>,
    confine: &Confine,
) -> Result<(Vec<u8>, Option<String>), Refusal> {
    let malformed = |e: serde_json::Error| failed(&format!("limits: {e}"));
    let mut job: JobLimits = serde_json::from_slice(&confine.limits).map_err(malformed)?;
    let disks: Vec<DiskLimit> = serde_json::from_slice(&confine.disks).map_err(malformed)?;
    if job.group.is_some() {
        return Err(failed(&"it asks for limits with a group"));
    }
    check(context, &job)?;
    let unlimited = make_group(context, confine, &disks, &mut job)?;
    Ok((serde_json::to_vec(&job).map_err(malformed)?, unlimited))
}

/// Makes the job's group, or warns that there is none where the site lets jobs run so; the answer is why, for the admin.
///
/// # Errors
/// A system refusal that names what is missing; a denial where amounts that the user asked for cannot be put in force: they
/// must not be a way to run without those of the site.
fn make_group(
    context: &Context<'_>,
    confine: &Confine,
    disks: &[DiskLimit],
    job: &mut JobLimits,
) -> Result<Option<String>, Refusal> {
    let decision = number_of(&context.decision_id).unwrap_or(0);
    let name = name_of(confine.job_id, decision);
    let description = format!("CI job {} of {}", confine.job_id, confine.account);
    let units = Units::of(confine.runner_id, confine.job_id, decision, description);
    let made = find_disks(context.privilege, disks).and_then(|disks| {
        job.disks = disks;
        make(context.privilege, &confine.way, &name, &units, &amounts_of(job))
    });
    match made {
        Ok((way, group)) => {
            let units = (confine.way == "scope").then(|| units::kept(units));
            let (unified, directories) = (way == Way::Unified, group.paths());
            job.group = Some(GroupPlace { unified, directories, units });
            Ok(None)
        }
        // Without a group the job is only not counted.
        Err(_) if amounts_of(job) == Amounts::default() && disks.is_empty() => Ok(None),
        Err(trouble) if confine.require => Err(refused(&job.name, &trouble)),
        Err(trouble) if confine.asked => {
            let detail = format!("[limits.{}], with what the job asks for: {trouble}", job.name);
            let message = "the limits that this job asks for cannot be put in force on this host";
            Err(Refusal::denied(Code::Limits, message, detail).help(
                "remove NUNBIRD_MEMORY, NUNBIRD_CPUS and NUNBIRD_PIDS from .gitlab-ci.yml, or ask for less",
            ))
        }
        Err(trouble) => {
            job.disks.clear();
            let detail = clean(&format!("runs without [limits.{}]: {trouble}", job.name));
            warn_of_no_limits(context, &job.name, &detail);
            Ok(Some(detail))
        }
    }
}

/// The job log is the CI user's: where this host's groups are is the admin's to read, in the audit event, or with `-u`.
fn warn_of_no_limits(context: &Context<'_>, name: &str, detail: &str) {
    let name = nunbird_messages::Untrusted(name);
    let mut text =
        format!("nunbird: warning: this job runs WITHOUT the limits `{name}` of this site [limits]\n");
    if context.unobfuscated {
        for line in detail.lines() {
            text.push_str(&format!("  = note: {line}\n"));
        }
    }
    text.push_str(&format!("  = decision: {}\n", context.decision_id));
    print_error(&text);
}

/// Looks the disks up as the keeper of the configuration: it alone need see the paths.
fn find_disks(privilege: Privilege, disks: &[DiskLimit]) -> Result<Vec<DiskLimit>, Trouble> {
    let _identity = assume(privilege.keeper())?;
    let numbers = disks_of(disks.iter().map(|disk| disk.device.as_path()))?;
    let found = disks.iter().zip(numbers);
    Ok(found.map(|(disk, number)| DiskLimit { number: Some(number), ..disk.clone() }).collect())
}

fn make(
    privilege: Privilege,
    way: &str,
    name: &str,
    units: &Units,
    amounts: &Amounts,
) -> Result<(Way, JobGroup), Trouble> {
    let place = Place::own()?;
    let by = |way| {
        let parent = place.unified.as_ref().filter(|_| way == Way::Unified).map(parent_of);
        let holder = holder_of(privilege, privilege.caller.uid, parent.as_deref());
        let _identity = assume(holder)?;
        JobGroup::make(&place, way, name, holder.uid, amounts).map(|group| (way, group))
    };
    match way {
        "delegated" => by(Way::Unified),
        "v1" => by(Way::Separate),
        "scope" => units::make(privilege, units, amounts),
        _ => match by(Way::Unified) {
            Err(Trouble::Missing(_)) => by(Way::Separate),
            other => other,
        },
    }
}

/// Takes back what [`establish`] made for a job that is not admitted after all.
pub(crate) fn abandon(privilege: Privilege, limits: &[u8]) {
    let limits: Option<JobLimits> = serde_json::from_slice(limits).ok();
    let _the_refusal_is_told_instead = remove_of(privilege, limits.as_ref(), privilege.caller.uid);
}

/// The limits in a record.
fn job_of(record: &Record) -> Result<Option<JobLimits>, Refusal> {
    let read = |bytes: &Vec<u8>| serde_json::from_slice(bytes).map_err(|e| failed(&format!("limits: {e}")));
    record.limits.as_ref().map(read).transpose()
}

/// What a stage's process is put under while it still has privilege.
#[derive(Debug)]
pub(crate) struct Confines {
    /// The way into the job's group, where it has one.
    pub(crate) entrance: Option<Entrance>,
    /// The limits of its processes.
    pub(crate) rlimits: rlimits::Limits,
    /// Their nice value and score.
    pub(crate) processes: ProcessLimits,
}

impl Confines {
    /// Without a group.
    ///
    /// # Errors
    /// When the kernel does not let one go so high.
    pub(crate) fn of(context: &Context<'_>, processes: &ProcessLimits) -> io::Result<Self> {
        let rlimits = match processes {
            ProcessLimits { rlimits: [None, None, None, None, None, None, None, None, None], .. } => {
                context.limits.clone()
            }
            _ => bounds(context, processes)?,
        };
        Ok(Confines { entrance: None, rlimits, processes: *processes })
    }

    /// Enters the job's group and takes the job's place among processes: every process that this one starts has both.
    ///
    /// # Errors
    /// As write(2) to `cgroup.procs`, setpriority(2), and write(2) to `oom_score_adj`.
    pub(crate) fn enter(&self, privilege: Privilege) -> io::Result<()> {
        let entered = self.entrance.as_ref().map_or(Ok(()), Entrance::enter);
        entered.map_err(|trouble| io::Error::other(format!("control group: {trouble}")))?;
        self.take_place(privilege)
    }

    /// Takes the job's place among processes alone.
    ///
    /// # Errors
    /// As [`Confines::enter`].
    pub(crate) fn take_place(&self, privilege: Privilege) -> io::Result<()> {
        if let Some(nice) = self.processes.nice {
            let named = |e| io::Error::other(format!("the nice value {nice}: {e}"));
            priority::set_nice(i32::from(nice)).map_err(named)?;
        }
        let named = |e| io::Error::other(format!("oom_score_adj: {e}"));
        self.take_oom_score(privilege).map_err(named)
    }

    /// Takes the job's nice value alone, for root's processes of its session.
    ///
    /// # Errors
    /// As [`Confines::enter`].
    pub(crate) fn take_place_of_keepers(&self, privilege: Privilege) -> io::Result<()> {
        let processes = ProcessLimits { oom_score_adj: None, ..self.processes };
        Confines { entrance: None, rlimits: self.rlimits.clone(), processes }.take_place(privilege)
    }

    fn take_oom_score(&self, privilege: Privilege) -> io::Result<()> {
        let keeper = privilege.keeper();
        let _identity = FileIdentity::assume(keeper.uid, keeper.gid)?;
        let take =
            || self.processes.oom_score_adj.map_or_else(priority::plain_oom_score, priority::set_oom_score);
        if privilege.source.is_privileged() {
            return take();
        }
        // The file is root's while nobody may look into this process, and here nobody is root. Those who may look
        // meanwhile are processes of the same account, which started this one.
        process::while_inspection_is_allowed(take)
    }
}

/// Whether processes can be given their place: to go before others takes a capability that this program has not.
fn check_nice(wanted: Option<u8>) -> Result<(), String> {
    let (now, wanted) = (priority::nice(), wanted.map(i32::from));
    match wanted.filter(|wanted| *wanted < now) {
        None => Ok(()),
        Some(wanted) => Err(format!(
            "the nice value cannot be {wanted}: that of gitlab-runner is {now}; lower Nice= of its unit"
        )),
    }
}

/// The group while a stage runs.
#[derive(Debug)]
pub(crate) struct Held {
    group: JobGroup,
    gauge: Option<Gauge>,
    /// What the job had used when the stage began.
    before: Usage,
}

/// Opens the job's group for a stage, and makes sure that its limits are still in force.
///
/// # Errors
/// A system refusal when the group is gone or somebody has changed it.
pub(crate) fn hold(privilege: Privilege, record: &Record) -> Result<Option<(Held, Entrance)>, Refusal> {
    let Some(job) = job_of(record)? else { return Ok(None) };
    let failed = |trouble: Trouble| refused(&job.name, &trouble);
    let opened = open_of(privilege, Some(&job), record.runner_uid).map_err(failed)?;
    let Some((_identity, group)) = opened else { return Ok(None) };
    group.verify(&amounts_of(&job)).map_err(failed)?;
    // Step 28c.
    let entrance = match units::entrance(&job) {
        Some(entrance) => entrance,
        None => group.entrance().map_err(failed)?,
    };
    Ok(Some((Held { gauge: group.gauge(), before: group.usage(), group }, entrance)))
}

/// The limits of processes for the job: the runner's, and the site's over them.
///
/// # Errors
/// When the kernel does not let one go so high.
fn bounds(context: &Context<'_>, processes: &ProcessLimits) -> io::Result<rlimits::Limits> {
    let [nofile, nproc, fsize, core, stack, stack_hard, memlock, address_space, cpu_time] = processes.rlimits;
    context.limits.bounded(rlimits::Bounds {
        nofile,
        nproc,
        fsize,
        core,
        stack,
        stack_hard,
        memlock,
        address_space,
        cpu_time,
    })
}

/// Ends every process of the job. Its user's other processes are in other groups.
///
/// # Errors
/// A system refusal when some do not end; the record stays, so that `cleanup` can be called again.
pub(crate) fn end(privilege: Privilege, record: &Record) -> Result<Option<Used>, Refusal> {
    let failed = |trouble: Trouble| left(&trouble);
    let job = job_of(record)?;
    let opened = open_of(privilege, job.as_ref(), record.runner_uid).or_else(gone).map_err(failed)?;
    let Some((_identity, group)) = opened else { return Ok(None) };
    group.kill(record.account.uid, PATIENCE).map_err(failed)?;
    Ok(Some(used(group.usage())))
}

fn used(usage: Usage) -> Used {
    let Usage { memory_peak, cpu_time, throttled, pids_peak, read, written, oom_kills, forks_refused } =
        usage;
    Used { memory_peak, cpu_time, throttled, pids_peak, read, written, oom_kills, forks_refused }
}

/// Removes the group, once it is empty, or has systemd stop it. One that is gone is fine: the host has restarted, or this is the second time.
///
/// # Errors
/// As [`end`].
pub(crate) fn remove(privilege: Privilege, record: &Record) -> Result<(), Refusal> {
    remove_of(privilege, job_of(record)?.as_ref(), record.runner_uid)
}

fn remove_of(privilege: Privilege, limits: Option<&JobLimits>, runner: u32) -> Result<(), Refusal> {
    let failed = |trouble: Trouble| left(&trouble);
    if let Some(stopped) = units::stop(privilege, limits, PATIENCE) {
        return stopped.map_err(failed);
    }
    let opened = open_of(privilege, limits, runner).or_else(gone).map_err(failed)?;
    let Some((_identity, group)) = opened else { return Ok(()) };
    group.remove(PATIENCE).map_err(failed)
}

fn gone(trouble: Trouble) -> Result<Option<(FileIdentity, JobGroup)>, Trouble> {
    match trouble {
        Trouble::File(_, _, e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        other => Err(other),
    }
}

/// The job's group, and the ids that it is to be used under.
fn open_of(
    privilege: Privilege,
    limits: Option<&JobLimits>,
    runner: u32,
) -> Result<Option<(FileIdentity, JobGroup)>, Trouble> {
    let Some((place, holder)) = place(privilege, limits, runner) else { return Ok(None) };
    let way = if place.unified { Way::Unified } else { Way::Separate };
    let identity = assume(holder)?;
    JobGroup::open(way, &place.directories, holder.uid).map(|group| Some((identity, group)))
}

/// Where the job's group is, and the uid that owns its directories.
///
/// # Errors
/// For limits that cannot be read.
pub(crate) fn place_of(privilege: Privilege, record: &Record) -> Result<Option<(Vec<u8>, u32)>, Refusal> {
    let job = job_of(record)?;
    let Some((place, holder)) = place(privilege, job.as_ref(), record.runner_uid) else { return Ok(None) };
    let bytes = serde_json::to_vec(place).map_err(|e| failed(&format!("limits: {e}")))?;
    Ok(Some((bytes, holder.uid)))
}

fn place(privilege: Privilege, limits: Option<&JobLimits>, runner: u32) -> Option<(&GroupPlace, Caller)> {
    let place = limits?.group.as_ref()?;
    let parent = place.directories.values().next().filter(|_| place.unified).and_then(|path| path.parent());
    Some((place, holder_of(privilege, runner, parent)))
}

/// As whom jobs' groups below this one of version 2 are made and used. systemd gives the group that it delegates to the
/// service's `User=` (systemd.resource-control(5)), which is the runner, and without `CAP_DAC_OVERRIDE` not even root makes
/// a directory there. So the groups are the runner's: it has jobs' tokens anyway, their users have no right in it. All
/// others are the keeper's. What is opened is judged again by its owner.
///
/// `runner` is the caller, or where root reaps a job the one that is in its record.
fn holder_of(privilege: Privilege, runner: u32, parent: Option<&Path>) -> Caller {
    let owner = parent.and_then(|path| std::fs::symlink_metadata(path).ok()).map(|found| found.uid());
    if owner == Some(runner) { Caller { uid: runner, ..privilege.caller } } else { privilege.keeper() }
}

fn amounts_of(job: &JobLimits) -> Amounts {
    let nunbird_handover::Amounts { memory, swap, cpu, pids, io_weight } = job.amounts;
    // A disk without a number was never looked up, and so never limited.
    let amounts = |disk: &DiskLimit| {
        let DiskLimit { read, write, read_ops, write_ops, .. } = *disk;
        Some(DiskAmounts { number: disk.number?, read, write, read_ops, write_ops })
    };
    Amounts { memory, swap, cpu, pids, io_weight, disks: job.disks.iter().filter_map(amounts).collect() }
}

fn refused(name: &str, detail: &dyn Display) -> Refusal {
    let message = "the limits for this job cannot be put in force on this host";
    Refusal::system(Code::Limits, message, format!("[limits.{name}]: {detail}"))
}

fn left(trouble: &Trouble) -> Refusal {
    let message = "processes of this job could not be ended on this host";
    Refusal::system(Code::LimitsCleanup, message, trouble)
}

impl Held {
    /// Processes that the kernel killed in this stage. Without privilege: the files are open, and what is counted anybody may read.
    pub(crate) fn oom_kills(&self) -> u64 {
        self.gauge.as_ref().map_or(0, Gauge::oom_kills)
    }

    /// What the job had used when the stage began, and has used now.
    pub(crate) fn usage(&self) -> (Used, Used) {
        (used(self.before), used(self.group.usage()))
    }
}

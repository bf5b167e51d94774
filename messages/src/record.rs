//! The job record: what `config` decided, kept for the later stages of the same job.
//!
//! A job's token expires when the job's time is up, yet `after_script` and `cleanup` still come. They go by this record instead. It lies in a
//! directory that only root can enter (for `downscope = "none"`: only the user itself), so neither the CI user nor the runner's account can
//! write one. `nunbird-auth` goes by the fields; [`Record::body`] is for the decider, which wrote it.

use crate::{AccountIds, FormatError, Group, Isolation, MachineOrder, Pam, ProcessLimits, Runner};
use nunbird_wire::Version;
use nunbird_wire::layout;
use std::path::PathBuf;

/// One admitted job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Of this layout.
    pub version: Version,
    /// Set when `cleanup` has begun: from then on no script runs.
    pub closed: bool,
    /// 32 lower-case hexadecimal digits.
    pub decision_id: String,
    /// GitLab's id of the CI job.
    pub job_id: u64,
    /// The configured name of the job's server.
    pub server: String,
    /// Real uid of the process that asked; later stages must come from the same.
    pub runner_uid: u32,
    /// Its processes, where the kernel shows them.
    pub runner: Option<Runner>,
    /// The runner's private directory of this job; later stages must present the same one.
    pub job_directory: JobDirectory,
    /// The kernel's boot id at admission: no job outlives its host.
    pub boot_id: String,
    /// Seconds since the epoch after which no stage but `cleanup` runs.
    pub expires_at: u64,
    /// The same limit on `CLOCK_BOOTTIME`, so that a clock set back does not lengthen it.
    pub expires_at_boottime: u64,
    /// The concurrency slot: the least number that no other live job of the account holds on this host.
    pub slot: u16,
    /// The account the job runs as.
    pub account: AccountIds,
    /// The configuration file that decided.
    pub policy_path: PathBuf,
    /// The launcher that the policy names.
    pub launcher: PathBuf,
    /// gitlab-runner's `builds_dir` of the job.
    pub builds_dir: PathBuf,
    /// The directory that is made with privilege where it is missing: the first on the way to `data_dir` that is the account's own by its name.
    pub own_directory: Option<PathBuf>,
    /// What the site takes away from the job's scripts.
    pub isolation: Isolation,
    /// The PAM session around each of its stages, where the site wants one.
    pub pam: Option<Pam>,
    /// The limits of its processes.
    pub processes: ProcessLimits,
    /// The job's control group; none where its site limits no job by one, or lets jobs run without and it could not be made.
    pub group: Option<Group>,
    /// Its machine, where its container is one.
    pub machine: Option<MachineOrder>,
    /// Whether stages of the job go to a batch scheduler.
    pub scheduler: bool,
    /// What the decider keeps for later stages.
    pub body: Vec<u8>,
}

layout!(Record {
    version,
    closed,
    decision_id,
    job_id,
    server,
    runner_uid,
    runner,
    job_directory,
    boot_id,
    expires_at,
    expires_at_boottime,
    slot,
    account,
    policy_path,
    launcher,
    builds_dir,
    own_directory,
    isolation,
    pam,
    processes,
    group,
    machine,
    scheduler,
    body,
});

/// The runner's temporary directory of one job (`TMPDIR` of the custom executor's programs, where
/// `JOB_RESPONSE_FILE` lies).
///
/// gitlab-runner makes it anew for each attempt with `mkdtemp`, mode 0700, and removes it after `cleanup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobDirectory {
    /// Its path as the runner gave it.
    pub path: PathBuf,
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

layout!(JobDirectory { path, device, inode });

impl Record {
    /// The largest record, in bytes.
    pub const MOST: u64 = 64 << 10;
    /// How the names of records end.
    pub const SUFFIX: &str = ".record";
    /// How the names of records begin whose directory is another job's by now: see [`Record::set_aside`].
    pub const ORPHAN: &str = "orphan-";

    /// The name of a record by the runner's directory of its job.
    pub fn name(runner_uid: u32, directory: &JobDirectory) -> String {
        format!("{runner_uid}-{:x}-{:x}{}", directory.device, directory.inode, Self::SUFFIX)
    }

    /// The name under which the record of this decision stays when another job is admitted in a directory of the same
    /// numbers: a clean-up that failed kept it, and the kernel gives a removed directory's inode to the next one.
    pub fn set_aside(decision_id: &str) -> String {
        format!("{}{decision_id}{}", Self::ORPHAN, Self::SUFFIX)
    }

    /// The lock that admissions and clean-ups of one runner account take. Another account's have another: a runner may
    /// stop its own calls at any moment.
    pub fn lock(runner_uid: u32) -> String {
        format!(".lock-{runner_uid}")
    }

    /// Reads a record.
    ///
    /// # Errors
    /// When the bytes are anything else, or come from another version.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        FormatError::read(bytes)
    }

    /// Whether a stage may still run by this record. All must hold: the epoch's clock across a reboot, the other against a
    /// clock that is set back, and the boot, because a host that has restarted ends its jobs.
    pub fn is_live(&self, now: &Now) -> bool {
        let in_time = now.epoch < self.expires_at && now.boottime < self.expires_at_boottime;
        !self.closed && in_time && self.is_of_boot(now)
    }

    /// Whether the job still occupies its slot: until the record is removed, also when its time is up or a clean-up has
    /// failed, because its processes may still work in the directory. A restart of the host has ended them.
    pub fn holds_slot(&self, now: &Now) -> bool {
        self.is_of_boot(now)
    }

    /// Whether no stage and no clean-up of its runner can find this record under this name any more, and its clean-up has
    /// begun: what is left to do is `reap`'s.
    pub fn is_abandoned(&self, name: &str) -> bool {
        self.closed && name.starts_with(Self::ORPHAN)
    }

    /// Whether the job is over for certain, whatever its runner does: an hour after its time was up, because a stage that
    /// began in time may run for a while, or after a restart of the host.
    pub fn is_over(&self, now: &Now) -> bool {
        const SLACK: u64 = 3600;
        !self.is_of_boot(now)
            || now.epoch >= self.expires_at.saturating_add(SLACK)
            || now.boottime >= self.expires_at_boottime.saturating_add(SLACK)
    }

    /// Whether the host has not restarted since the admission.
    pub fn is_of_boot(&self, now: &Now) -> bool {
        self.boot_id == now.boot_id
    }
}

/// The time by which a record is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Now {
    /// Seconds since the epoch.
    pub epoch: u64,
    /// Seconds since boot.
    pub boottime: u64,
    /// The kernel's boot id.
    pub boot_id: String,
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;

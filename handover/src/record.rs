//! The job record: what `config` decided, kept for the later stages of the same job.
//!
//! A job's token expires when the job's time is up, yet `after_script` and `cleanup` still come. They go by
//! this record instead. It lies in a directory that only root can enter (for `downscope = "none"`: only the
//! user itself), so neither the CI user nor the runner's account can write one.

use crate::{
    Account, BatchPlan, FORMAT_VERSION, FormatError, Identity, JobLimits, Pam, Runner, Shell, SiteRules,
    Workspace,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// One admitted job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Always [`FORMAT_VERSION`].
    pub version: u32,
    /// 32 lower-case hexadecimal digits.
    pub decision_id: String,
    /// GitLab's id of the CI job.
    pub job_id: u64,
    /// GitLab's id of the pipeline.
    pub pipeline_id: u64,
    /// GitLab's id of the project that runs the job.
    pub project_id: u64,
    /// Who started it.
    pub identity: Identity,
    /// The rule that admitted the job.
    pub rule: RuleRef,
    /// The configuration file that decided.
    pub policy_path: PathBuf,
    /// SHA-256 of that file's bytes, in hexadecimal.
    pub policy_digest: String,
    /// The account the job runs as.
    pub account: Account,
    /// The least uid that the policy allows; later stages check the account against it again.
    pub min_uid: u32,
    /// Real uid of the process that asked; later stages must come from the same.
    pub runner_uid: u32,
    /// Its processes, where the kernel shows them.
    #[serde(default)]
    pub runner: Option<Runner>,
    /// The runner's private directory of this job; later stages must present the same one.
    pub job_directory: JobDirectory,
    /// The kernel's boot id at admission: no job outlives its host.
    pub boot_id: String,
    /// Seconds since the epoch at admission.
    pub admitted_at: u64,
    /// Seconds since the epoch after which no stage but `cleanup` runs.
    pub expires_at: u64,
    /// The same limit on `CLOCK_BOOTTIME`, so that a clock set back does not lengthen it.
    pub expires_at_boottime: u64,
    /// The concurrency slot: the least number that no other live job of the account holds on this host.
    pub slot: u16,
    /// Where the job works.
    pub workspace: Workspace,
    /// How its scripts run.
    pub shell: Shell,
    /// The launcher that the policy names.
    pub launcher: PathBuf,
    /// The job's environment from the configuration.
    pub environment: BTreeMap<String, String>,
    /// What the site takes away from its scripts.
    pub isolation: Isolation,
    /// The batch scheduler, where stages of the job go to one.
    pub batch: Option<BatchPlan>,
    /// Seconds that the job waited in GitLab for a runner, where that is known. For people to read.
    #[serde(default)]
    pub queued_s: Option<u64>,
    /// What the job may use; nothing is limited where there is none.
    pub limits: Option<JobLimits>,
    /// The site's say in how its stages go.
    pub site: SiteRules,
    /// The PAM session around each of its stages, where the site wants one.
    pub pam: Option<Pam>,
    /// How the job's identity was proven: `id_token`, …
    pub identity_source: String,
    /// Where events of the later stages are written down.
    pub audit: Audit,
    /// Set when `cleanup` has begun: from then on no script runs.
    pub closed: bool,
}

/// What a site takes away from jobs beyond their account's rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Isolation {
    /// Setuid bits and file capabilities of the job's programs are inert.
    pub no_new_privileges: bool,
    /// `TIOCSTI` and `TIOCLINUX` fail with `EPERM`.
    pub block_tty_injection: bool,
    /// The setuid(2) family fails with `EPERM` for ids that are not the job's.
    pub limit_setuid: bool,
}

/// Where events are written down: each goes to every place that is set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// JSON lines.
    pub file: Option<PathBuf>,
    /// systemd-journald's native socket.
    pub journald: bool,
    /// A syslog daemon.
    pub syslog: Option<Syslog>,
    /// A job whose admission or whose stage's start cannot be written to every place does not run.
    pub required: bool,
}

/// A syslog daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Syslog {
    /// `/dev/log`.
    Local,
    /// RFC 5424 over UDP (RFC 5426).
    Udp(SocketAddr),
    /// RFC 5424 over TCP with octet counting (RFC 6587).
    Tcp(SocketAddr),
}

/// A rule of the policy and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleRef {
    /// The rule's name.
    pub name: String,
    /// The file it stands in.
    pub file: PathBuf,
    /// Its line, from 1.
    pub line: u32,
}

/// The runner's temporary directory of one job (`TMPDIR` of the custom executor's programs, where
/// `JOB_RESPONSE_FILE` lies).
///
/// gitlab-runner makes it anew for each attempt with `mkdtemp`, mode 0700, and removes it after `cleanup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobDirectory {
    /// Its path as the runner gave it.
    pub path: PathBuf,
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

impl Record {
    /// The largest record, in bytes.
    pub const MOST: u64 = 64 << 10;
    /// How the names of records begin whose directory is another job's by now: see [`Record::set_aside`].
    pub const ORPHAN: &str = "orphan-";

    /// The name of a record by the runner's directory of its job.
    pub fn name(runner_uid: u32, directory: &JobDirectory) -> String {
        format!("{runner_uid}-{:x}-{:x}.json", directory.device, directory.inode)
    }

    /// The name under which the record of this decision stays when another job is admitted in a directory of the same
    /// numbers: a clean-up that failed kept it, and the kernel gives a removed directory's inode to the next one.
    pub fn set_aside(decision_id: &str) -> String {
        format!("{}{decision_id}.json", Self::ORPHAN)
    }

    /// The lock that admissions and clean-ups of one runner account take. Another account's have another: a runner may
    /// stop its own calls at any moment.
    pub fn lock(runner_uid: u32) -> String {
        format!(".lock-{runner_uid}")
    }

    /// The record as JSON bytes.
    ///
    /// # Errors
    /// When a path is not UTF-8.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        serde_json::to_vec(self).map_err(FormatError::Malformed)
    }

    /// Reads what [`Record::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are anything else, or come from another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let record: Record = serde_json::from_slice(bytes).map_err(FormatError::Malformed)?;
        match record.version {
            FORMAT_VERSION => Ok(record),
            other => Err(FormatError::Version(other)),
        }
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

//! What the decider keeps of an admitted job for its later stages: the body of the job's record.

use crate::{Account, BatchPlan, Container, FormatError, Identity, JobLimits, Shell, SiteRules, Workspace};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// One admitted job, without what `nunbird-auth` goes by (`nunbird_messages::Record`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
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
    /// Whether its sources come from another project; none where that is not known, or where the site gives no passwords to jobs, so that 0.2.0
    /// reads the record after a downgrade.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<bool>,
    /// The rule that admitted the job.
    pub rule: RuleRef,
    /// SHA-256 of the configuration's bytes, in hexadecimal.
    pub policy_digest: String,
    /// The account the job runs as.
    pub account: Account,
    /// Seconds since the epoch at admission.
    pub admitted_at: u64,
    /// Seconds since the epoch after which no stage but `cleanup` runs.
    pub expires_at: u64,
    /// Where the job works.
    pub workspace: Workspace,
    /// How its scripts run.
    pub shell: Shell,
    /// The job's environment from the configuration.
    pub environment: BTreeMap<String, String>,
    /// The batch scheduler, where stages of the job go to one.
    pub batch: Option<BatchPlan>,
    /// The container that stages of the job run in, where the site has one for it.
    pub container: Option<Container>,
    /// Seconds that the job waited in GitLab for a runner, where that is known. For people to read.
    pub queued_s: Option<u64>,
    /// What the job may use; nothing is limited where there is none.
    pub limits: Option<JobLimits>,
    /// How the site lets its stages go.
    pub site: SiteRules,
    /// How the job's identity was proven: `id_token`, …
    pub identity_source: String,
    /// Where events of the later stages are written.
    pub audit: Audit,
}

/// Where events are written: each goes to every place that is set.
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

impl JobSpec {
    /// As JSON bytes.
    ///
    /// # Errors
    /// When a path is not UTF-8.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        serde_json::to_vec(self).map_err(FormatError::Malformed)
    }

    /// Reads what [`JobSpec::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        serde_json::from_slice(bytes).map_err(FormatError::Malformed)
    }
}

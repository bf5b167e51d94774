//! Of the commands that read the audit file.

use super::Configuration;
use clap::Args;
use nunbird_policy::DEFAULT_AUDIT_FILE;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct Audit {
    /// The audit file.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_AUDIT_FILE)]
    pub(crate) file: PathBuf,
    /// GitLab login or local account.
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Full path of the project.
    #[arg(long, value_name = "PATH")]
    pub(crate) project: Option<String>,
    /// GitLab's id of the job: prints all of its events.
    #[arg(long, value_name = "ID")]
    pub(crate) job: Option<u64>,
    /// The id of a decision, or its first digits: prints all events of its job.
    #[arg(long, value_name = "ID")]
    pub(crate) decision: Option<String>,
    /// Local account only.
    #[arg(long, value_name = "NAME")]
    pub(crate) account: Option<String>,
    /// Denials with this code.
    #[arg(long, value_name = "CODE")]
    pub(crate) code: Option<String>,
    /// Events of this stage: `config`, `prepare`, `run`, `cleanup`, or gitlab-runner's name of a script.
    #[arg(long, value_name = "NAME")]
    pub(crate) stage: Option<String>,
    /// Only the last N.
    #[arg(short = 'n', long = "lines", value_name = "N")]
    pub(crate) lines: Option<usize>,
    /// One line for each job.
    #[arg(long, conflicts_with_all = ["counts", "follow"])]
    pub(crate) jobs: bool,
    /// The number of events by outcome, code, rule and account.
    #[arg(long, conflicts_with = "follow")]
    pub(crate) counts: bool,
    /// Continue with events as they are written, also after a rotation, until interrupted.
    #[arg(long, short = 'f')]
    pub(crate) follow: bool,
    /// From this time, UTC: 1h, 2d (ago), today, yesterday, 2026-11-21, 2026-11-21T10:00:00Z, or
    /// seconds since the epoch.
    #[arg(long, value_name = "TIME", value_parser = crate::time::time)]
    pub(crate) since: Option<u64>,
    /// Until this time.
    #[arg(long, value_name = "TIME", value_parser = crate::time::time)]
    pub(crate) until: Option<u64>,
    /// Only denials.
    #[arg(long)]
    pub(crate) denied: bool,
}

#[derive(Args)]
pub(crate) struct Report {
    /// The audit file; its rotated files are read as well.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_AUDIT_FILE)]
    pub(crate) file: PathBuf,
    /// From this time, UTC: 1h, 30d (ago), today, yesterday, 2026-11-21, 2026-11-21T10:00:00Z, or
    /// seconds since the epoch.
    #[arg(long, value_name = "TIME", value_parser = crate::time::time, default_value = "30d")]
    pub(crate) since: u64,
    /// Until this time.
    #[arg(long, value_name = "TIME", value_parser = crate::time::time)]
    pub(crate) until: Option<u64>,
    /// Write a page with plots into this file, mode 0600. A link of that name is replaced.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Metrics {
    #[command(flatten)]
    pub(crate) configuration: Configuration,
    /// The audit file; by default that of the configuration.
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The file to write; by default standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// What was counted before, and how far the audit file was read.
    #[arg(long, value_name = "FILE", default_value = "/var/lib/nunbird/metrics/state")]
    pub(crate) state: PathBuf,
}

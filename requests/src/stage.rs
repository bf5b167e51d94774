//! What passes about one stage of a job that has a record.

use nunbird_messages::{ExitCodes, Isolation};
use nunbird_wire::{choice, layout};
use std::ffi::CString;
use std::path::PathBuf;

/// The stage that is to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Which one.
    pub kind: StageKind,
    /// The body of the job's record: JSON of `nunbird_handover::JobSpec`.
    pub body: Vec<u8>,
    /// What the runner takes for "the script failed" and "the system failed".
    pub exit_codes: ExitCodes,
    /// Whether the runner offers a file for the script's exit code.
    pub exit_code_file: bool,
    /// Whether the stage's script follows the configuration files, for its digest.
    pub script: bool,
    /// What the job has used, for the clean-up.
    pub used: Option<Counted>,
}

layout!(Stage { kind, body, exit_codes, exit_code_file, script, used });

/// Which stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StageKind {
    /// Make the job's directories.
    Prepare,
    /// Run the script; the text is the runner's name of the stage.
    Run(String),
    /// End what the job left running and remove what it left behind.
    Cleanup,
    /// The same, but the job's own directory is another job's by now.
    CleanupOfSucceeded,
}

choice!(StageKind { 1 => Prepare, 2 => Run(name), 3 => Cleanup, 4 => CleanupOfSucceeded });

/// What the launcher is started with. Every field is the account's to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// `nunbird_messages::Envelope::message`.
    pub message: Vec<u8>,
    /// Its environment.
    pub environment: Vec<CString>,
    /// Whether the stage goes to a batch scheduler, of which the launcher writes a summary.
    pub submits: bool,
}

layout!(Launch { message, environment, submits });

/// A launcher for an account without a job, which tidies its build directories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tidying {
    /// The account.
    pub account: String,
    /// The launcher that the policy names.
    pub launcher: PathBuf,
    /// What the site takes away from jobs.
    pub isolation: Isolation,
    /// What it is started with.
    pub launch: Launch,
}

layout!(Tidying { account, launcher, isolation, launch });

/// How a launcher has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageEnd {
    /// Its status.
    pub end: Status,
    /// Milliseconds since its start.
    pub duration_ms: u64,
    /// The summary that it has written, which is the account's statement.
    pub summary: Option<Vec<u8>>,
    /// What the counters of the job's control group say.
    pub counted: Option<Counted>,
}

layout!(StageEnd { end, duration_ms, summary, counted });

/// The counters of the job's control group, of which nothing is read on the way to `nunbird-decide`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// What they are, as `nunbird-limits` describes them.
    pub described: Vec<u8>,
    /// What was in each of them when the stage began.
    pub before: Vec<Vec<u8>>,
    /// What is in each of them now.
    pub now: Vec<Vec<u8>>,
}

layout!(Counted { described, before, now });

/// The status of a process that has ended (wait(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// With this exit code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

choice!(Status { 0 => Exited(code), 1 => Killed(signal) });

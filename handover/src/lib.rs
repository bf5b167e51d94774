//! What passes between Nunbird's programs.
//!
//! `nunbird-auth` decides with privilege, writes a [`Record`] that only root can forge, and gives the
//! launcher one [`Handover`] message. The launcher runs as the mapped user and believes nothing else:
//! not its environment, not its arguments. Both types are closed: an unknown field, a missing field or
//! another version is an error, so that a half-upgraded installation refuses instead of guessing.
//!
//! Nothing here is secret. A token or a job variable must never become a field of these types.

#![forbid(unsafe_code)]

mod batch;
mod claim;
mod code;
mod containers;
mod fds;
mod limits;
mod message;
mod pam;
mod record;
mod runner;
mod site;
mod sudo;
mod summary;
mod untrusted;

pub use batch::{Batch, BatchPlan, DEFAULT_STAGES, Rules, SCHEDULERS, Scheduler, UserText};
pub use claim::Claim;
pub use code::Code;
pub use containers::Unserved;
pub use fds::{CONTROL_FD, EXIT_CODE_FD, HANDOVER_FD, LAUNCHER_FD, REPORT_FD, SCRIPT_FD, SUMMARY_FD};
pub use limits::{Amounts, DiskLimit, JobLimits, Rlimits, Standing, UNLIMITED};
pub use message::{Account, ExitCodes, Handover, Identity, Shell, Task, Workspace};
pub use pam::{Keep, Pam, SessionGroup, SessionOrder, SessionReport, SessionSpan, SessionTrouble};
pub use record::{Audit, Isolation, JobDirectory, Now, Record, RuleRef, Syslog};
pub use runner::{Runner, RunnerProcess};
pub use site::{SiteRules, Upkeep};
pub use sudo::{SUDO_EXIT_CODE, SUDO_SCRIPT, SudoOrder};
pub use summary::{BatchEnd, SUMMARY_SIZE, Summary};
pub use untrusted::Untrusted;

/// The version of [`Handover`] and [`Record`]. Both programs come from one build; a difference is an error.
pub const FORMAT_VERSION: u32 = 3;

/// Why a message or a record could not be read.
#[derive(Debug)]
pub enum FormatError {
    /// Not the JSON object expected: the parser's words.
    Malformed(serde_json::Error),
    /// Written by another version of Nunbird.
    Version(u32),
}

impl std::fmt::Display for FormatError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FormatError::Malformed(e) => write!(f, "malformed: {e}"),
            FormatError::Version(v) => {
                write!(f, "written in format {v}, this program reads format {FORMAT_VERSION}")
            }
        }
    }
}

impl std::error::Error for FormatError {}

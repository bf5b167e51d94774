//! What passes from `nunbird-decide` to the launcher, and to itself in a job's later stages.
//!
//! The decider writes a [`JobSpec`] into the job's record, and gives the launcher one [`Handover`] message in each stage. Both pass through
//! `nunbird-auth`, which reads neither; what it reads and writes itself is in the crate `messages`. The launcher runs as the mapped user and
//! trusts nothing else: not its environment, not its arguments. Both types are closed: an unknown field, a missing field or another version
//! is an error, so that a half-upgraded installation refuses instead of guessing.
//!
//! Nothing here is secret, with two exceptions, neither of which is ever in a record: [`Credentials`], which are in the message of `prepare` alone and
//! print nothing, and the variables of a job's services, in which a message has values where the record has names. A token or any other
//! variable of a job must never become a field of these types.

#![forbid(unsafe_code)]

mod batch;
mod calendar;
mod container;
mod containers;
mod kept;
mod limits;
mod message;
mod site;
mod spec;
mod summary;

pub use batch::{Batch, BatchPlan, DEFAULT_STAGES, Rules, SCHEDULERS, Scheduler, UserText};
pub use calendar::Moment;
pub use container::{
    Bind, CONTAINER_STAGES, CacheBounds, Container, Credential, CredentialHelper, CredentialHelpers,
    Credentials, ENGINES, Engine, Gpu, Image, MACHINES, MachineTree, PullPolicy, Service,
};
pub use containers::Unserved;
pub use kept::Kept;
pub use limits::{Amounts, DiskLimit, JobLimits, Rlimits, Standing, UNLIMITED};
pub use message::{Account, Handover, Identity, Shell, Task, Workspace};
pub use nunbird_messages::{
    Code, EXIT_CODE_FD, ExitCodes, FORMAT_VERSION, HANDOVER_FD, Isolation, Pam, SCRIPT_FD, SUMMARY_FD,
    SUMMARY_SIZE, SessionSpan, Untrusted,
};
pub use site::{SiteRules, Upkeep};
pub use spec::{Audit, JobSpec, RuleRef, Syslog};
pub use summary::{BatchEnd, Summary};

/// Why a message could not be read.
#[derive(Debug)]
pub enum FormatError {
    /// Not the layout expected.
    Layout,
    /// Not the JSON object expected: the parser's words.
    Malformed(serde_json::Error),
    /// Written by another version of Nunbird.
    Version(u32),
}

impl std::fmt::Display for FormatError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FormatError::Layout => f.write_str("malformed, or of another version"),
            FormatError::Malformed(e) => write!(f, "malformed: {e}"),
            FormatError::Version(v) => {
                write!(f, "written in format {v}, this program reads format {FORMAT_VERSION}")
            }
        }
    }
}

impl std::error::Error for FormatError {}

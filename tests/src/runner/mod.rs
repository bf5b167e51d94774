//! gitlab-runner's custom executor, as its driver sees it (gitlab-runner 16.11 to 19.3).
//!
//! [`Job`] describes the job, [`Session`] is one attempt at it with its private directory, and
//! [`Job::run`] goes through all stages like `common/build.go`: up to three attempts to prepare
//! with a cleanup after each failed one, the stages that the job needs, cleanup.
//!
//! Intended differences from the real one: a failed attempt is followed by the next at once in
//! place of after 3 s; no masking and no section markers in the log; the archive of artifacts is
//! made by `tar`.

mod environment;
pub mod helper;
mod job;
mod outcome;
mod response;
mod run;
mod script;
mod session;
mod stage;
mod variables;
mod version;

pub use crate::world::Exit;
pub use job::{Commands, Job};
pub use outcome::{Outcome, Reason, StageOutcome, Status, assert_refused};
pub use session::Session;
pub use stage::{Cancel, Canceller};
pub use variables::Variable;
pub use version::RunnerVersion;

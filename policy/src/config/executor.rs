//! Where a job's scripts run.

use crate::Location;
use std::path::PathBuf;

/// Where the user's script runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Executor {
    /// On the runner's host.
    #[default]
    Shell,
    /// By one of [`nunbird_handover::SCHEDULERS`], by its first name.
    Scheduler(String),
    /// By a scheduler that the site describes: a key of [`Policy::schedulers`](super::Policy::schedulers).
    Described(String),
}

impl Executor {
    /// As the configuration writes it.
    pub fn name(&self) -> &str {
        match self {
            Executor::Shell => "shell",
            Executor::Scheduler(name) | Executor::Described(name) => name,
        }
    }
}

/// A batch scheduler that Nunbird does not know: `[scheduler.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerFile {
    /// Its place in the configuration.
    pub place: Location,
    /// The description: owned by root and writable only by root, readable by the jobs' accounts.
    pub description: PathBuf,
}

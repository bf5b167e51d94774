//! Where a job's scripts run, and how stages are submitted to a batch scheduler.

use crate::Place;
use nunbird_handover::{DEFAULT_STAGES, Rules};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The CI variable with arguments for the submit command, as Jacamar names it.
pub(super) const DEFAULT_ARGUMENTS_VARIABLE: &str = "SCHEDULER_PARAMETERS";

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
    /// Where it stands in the configuration.
    pub place: Place,
    /// The description: root's, writable by nobody else, readable by the jobs' accounts.
    pub description: PathBuf,
}

/// How stages run by a batch scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchSettings {
    /// The stages that are submitted; a name that ends in `*` stands for all that begin so.
    pub stages: Vec<String>,
    /// Where the scheduler's commands are; none for the job's `PATH`.
    pub scheduler_bin: Option<PathBuf>,
    /// Environment of the scheduler's commands, on top of the job's.
    pub environment: BTreeMap<String, String>,
    /// CI variables that may hold arguments for the submit command; the first that is set counts.
    pub arguments_variables: Vec<String>,
    /// Whether arguments that Nunbird sets itself are left out, instead of failing the stage.
    pub allow_illegal_arguments: bool,
    /// Whether users may begin the name of the scheduler's job.
    pub job_prefix: bool,
    /// Bounds on the user's arguments.
    pub rules: Rules,
    /// Seconds between two looks at the queue while nothing happens.
    pub poll_interval: u64,
    /// Seconds to wait for files of an ended job to appear.
    pub nfs_timeout: u64,
    /// Seconds from a cancelled job's signal to the scheduler's cancel command.
    pub grace: u64,
}

impl Default for BatchSettings {
    fn default() -> Self {
        BatchSettings {
            stages: DEFAULT_STAGES.map(str::to_owned).to_vec(),
            scheduler_bin: None,
            environment: BTreeMap::new(),
            arguments_variables: vec![DEFAULT_ARGUMENTS_VARIABLE.to_owned()],
            allow_illegal_arguments: false,
            job_prefix: true,
            rules: Rules::default(),
            poll_interval: 60,
            nfs_timeout: 60,
            grace: 30,
        }
    }
}

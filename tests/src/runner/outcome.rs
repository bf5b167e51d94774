//! The result of a job.

use crate::world::{Exit, World};
use std::time::Duration;

/// One call of the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageOutcome {
    /// `config`, `prepare`, `cleanup`, or the stage's name for `run`: `prepare_script`, `get_sources`, …
    pub name: String,
    /// How it ended.
    pub exit: Exit,
    /// Standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
    /// Both in the order in which they arrived.
    pub log: String,
    /// How long it took.
    pub elapsed: Duration,
    /// Whether the runner signalled it.
    pub signalled: bool,
    /// Whether a signal could not be sent (the runner's account may not signal the process).
    pub unkillable: bool,
}

impl StageOutcome {
    /// Whether it exited with 0.
    pub fn succeeded(&self) -> bool {
        self.exit == Exit::Code(0)
    }
}

/// What is reported to GitLab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// It succeeded.
    Success,
    /// It failed.
    Failed {
        /// Why.
        reason: Reason,
        /// The script's exit code, where the reason is [`Reason::ScriptFailure`].
        exit_code: Option<i64>,
    },
}

/// GitLab's failure reasons, as far as a driver can cause them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// `script_failure`: the job's own fault.
    ScriptFailure,
    /// `runner_system_failure`: not the job's fault; GitLab may retry.
    SystemFailure,
    /// `runner_configuration_error`.
    ConfigurationError,
    /// `job_canceled`.
    Canceled,
    /// `job_execution_timeout`.
    Timeout,
}

impl Status {
    /// A failure of the script with this exit code.
    pub fn script_failure(exit_code: i64) -> Self {
        Status::Failed { reason: Reason::ScriptFailure, exit_code: Some(exit_code) }
    }

    /// Any other failure.
    pub fn failed(reason: Reason) -> Self {
        Status::Failed { reason, exit_code: None }
    }
}

/// A whole job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What is reported to GitLab.
    pub status: Status,
    /// Every call of the driver, in order, those of failed attempts too.
    pub stages: Vec<StageOutcome>,
    /// The project's directory, as the machine sees it; empty when `config` did not succeed.
    pub project_dir: String,
}

impl Outcome {
    /// The last call for a stage.
    ///
    /// # Panics
    /// When there was none.
    #[track_caller]
    pub fn stage(&self, name: &str) -> &StageOutcome {
        let found = self.stages.iter().rev().find(|stage| stage.name == name);
        found.unwrap_or_else(|| panic!("no stage {name}: {:?}\n{}", self.names(), self.log()))
    }

    /// Names of the calls, in order.
    pub fn names(&self) -> Vec<&str> {
        self.stages.iter().map(|stage| stage.name.as_str()).collect()
    }

    /// The job log: everything that the CI user sees. Standard output of `config` and all of
    /// `cleanup` are not in it.
    pub fn log(&self) -> String {
        let shown = |stage: &StageOutcome| match stage.name.as_str() {
            "cleanup" => String::new(),
            "config" => stage.stderr.clone(),
            _ => stage.log.clone(),
        };
        self.stages.iter().map(shown).collect()
    }

    /// Asserts that the job succeeded, and returns it.
    ///
    /// # Panics
    /// When it did not, with the log.
    #[track_caller]
    pub fn expect_success(self) -> Self {
        self.expect(&Status::Success)
    }

    /// Asserts what is reported to GitLab, and returns the outcome.
    ///
    /// # Panics
    /// When it is something else, with every call and the log.
    #[track_caller]
    pub fn expect(self, status: &Status) -> Self {
        let calls: Vec<_> = self.stages.iter().map(|s| (s.name.as_str(), s.exit)).collect();
        assert_eq!(&self.status, status, "{calls:?}\n{}{}", self.log(), self.cleanup_words());
        self
    }

    fn cleanup_words(&self) -> String {
        self.stages.iter().filter(|stage| stage.name == "cleanup").map(|stage| stage.log.clone()).collect()
    }
}

/// Fails unless a call was refused with this code, which the user reads, and with a detail that
/// contains this text, which the admin reads.
///
/// # Panics
/// When the audit file has no line with a detail.
#[track_caller]
pub fn assert_refused(world: &World, outcome: &StageOutcome, code: &str, detail: &str) {
    assert_ne!(outcome.exit, Exit::Code(0), "{}", outcome.log);
    assert!(outcome.stderr.contains(&format!("[{code}]")), "{}", outcome.stderr);
    let audit = world.audit();
    let said = audit.last().expect("a line")["detail"].as_str().expect("a detail");
    assert!(said.contains(detail), "{detail}: {said}");
}

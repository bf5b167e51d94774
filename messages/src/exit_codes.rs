//! The two exit codes by which gitlab-runner distinguishes failures.

use nunbird_wire::layout;

/// Exit codes that gitlab-runner distinguishes, each 1..=255.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitCodes {
    /// `BUILD_FAILURE_EXIT_CODE`: the job's own fault; the runner does not retry.
    pub build_failure: u8,
    /// `SYSTEM_FAILURE_EXIT_CODE`: not the job's fault; the runner tries `config` and `prepare` three times.
    pub system_failure: u8,
}

impl Default for ExitCodes {
    /// The numbers of every gitlab-runner so far (executors/custom/custom.go).
    fn default() -> Self {
        ExitCodes { build_failure: 1, system_failure: 2 }
    }
}

layout!(ExitCodes { build_failure, system_failure });

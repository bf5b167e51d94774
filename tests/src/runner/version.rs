//! What one version of gitlab-runner does and another does not.

/// A version of gitlab-runner, one for each behaviour that a driver can notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunnerVersion {
    /// The last 16: no exit-code file.
    V16_11,
    /// Has the exit-code file; the job response does not name user and pipeline.
    V17_11,
    /// Names the user in the job response.
    V18_6,
    /// Names the pipeline as well; scripts exit with 1 on SIGTERM.
    V19_3,
}

impl RunnerVersion {
    /// All of them, the oldest first.
    pub const ALL: [RunnerVersion; 4] =
        [RunnerVersion::V16_11, RunnerVersion::V17_11, RunnerVersion::V18_6, RunnerVersion::V19_3];

    /// As `CI_RUNNER_VERSION` has it.
    pub fn text(self) -> &'static str {
        match self {
            RunnerVersion::V16_11 => "16.11.4",
            RunnerVersion::V17_11 => "17.11.0",
            RunnerVersion::V18_6 => "18.6.0",
            RunnerVersion::V19_3 => "19.3.0",
        }
    }

    /// Whether it reads `BUILD_EXIT_CODE_FILE` (17.9).
    pub fn has_exit_code_file(self) -> bool {
        self >= RunnerVersion::V17_11
    }

    /// Whether the job response has `job_info.user_id` (18.5).
    pub fn sends_user_id(self) -> bool {
        self >= RunnerVersion::V18_6
    }

    /// Whether the job response has `job_info.pipeline_id` (19.0).
    pub fn sends_pipeline_id(self) -> bool {
        self >= RunnerVersion::V19_3
    }

    /// Whether scripts run in a subshell that exits with 1 on SIGTERM, instead of behind `: |` (18.11.4, 19.0.2).
    pub fn has_new_wrapper(self) -> bool {
        self >= RunnerVersion::V19_3
    }
}

//! The message from `nunbird-auth` to the launcher.

use crate::{Batch, FORMAT_VERSION, FormatError, SiteRules};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Everything the launcher needs to know about one stage, decided with privilege before the drop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handover {
    /// Always [`FORMAT_VERSION`].
    pub version: u32,
    /// 32 lower-case hexadecimal digits; the user's ticket and the admin's log line share it.
    pub decision_id: String,
    /// GitLab's id of the CI job.
    pub job_id: u64,
    /// What to do.
    pub task: Task,
    /// The local account this process already runs as.
    pub account: Account,
    /// Who the job belongs to in GitLab's words, for the greeting in the job log.
    pub identity: Identity,
    /// Where the job works.
    pub workspace: Workspace,
    /// How a script is run.
    pub shell: Shell,
    /// The job's environment beside `HOME`, `USER`, `LOGNAME` and `SHELL`, from the site's configuration.
    pub environment: BTreeMap<String, String>,
    /// Names of those that the PAM session on this host added.
    #[serde(default)]
    pub session_variables: BTreeSet<String>,
    /// The umask of scripts, where the site's PAM session has set one; else the launcher's own.
    pub umask: Option<u32>,
    /// What the runner takes for "the script failed" and "the system failed".
    pub exit_codes: ExitCodes,
    /// True when [`crate::EXIT_CODE_FD`] is open.
    pub exit_code_file: bool,
    /// The batch scheduler, where stages of the job go to one.
    pub batch: Option<Batch>,
    /// The site's say in how the stages go.
    pub site: SiteRules,
    /// Seconds since the epoch after which no stage but `cleanup` runs.
    pub expires_at: u64,
}

/// The stage of gitlab-runner's custom executor that the launcher serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Make the job's directories and greet the user.
    Prepare,
    /// Run the script behind [`crate::SCRIPT_FD`]; the text is the runner's name of the stage.
    Run(String),
    /// End what the job left running, remove file variables and credentials that it left, and old build directories.
    Cleanup,
    /// As [`Task::Cleanup`], but for the job's own directory: another job has it by now, or there was none.
    Tidy,
}

/// A local account, as the system's user database has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User id, never 0 for a job that Nunbird admitted.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home directory, absolute.
    pub home: PathBuf,
    /// Login shell, absolute.
    pub shell: PathBuf,
}

/// Who started the job, from the verified token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The configured name of the GitLab server.
    pub server: String,
    /// GitLab's login name.
    pub user_login: String,
    /// GitLab's numeric id of the user, which unlike the login never changes.
    pub user_id: u64,
    /// Full path of the project that runs the job.
    pub project_path: String,
}

/// The job's directories. `cache_dir` lies below `data_dir`, `builds_dir` below `builds_root`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workspace {
    /// Root of all that Nunbird keeps for the account; owned by it, mode 0700. May be a symbolic link.
    pub data_dir: PathBuf,
    /// `data_dir`, or the directory that the user has named for builds (`CUSTOM_CI_BUILDS_DIR`); also owned by the account,
    /// mode 0700, and may also be a symbolic link.
    pub builds_root: PathBuf,
    /// gitlab-runner's `builds_dir`: one for each concurrent job of the account on this host.
    pub builds_dir: PathBuf,
    /// gitlab-runner's `cache_dir`: one for the account, never shared with another.
    pub cache_dir: PathBuf,
    /// The project's directory below `builds_dir`, as gitlab-runner derives it from the repository's URL.
    pub project_dir: PathBuf,
}

/// The shell that runs stage scripts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shell {
    /// Absolute path of a POSIX shell.
    pub path: PathBuf,
    /// Whether it starts as a login shell and reads the user's profile.
    pub login: bool,
}

/// Exit codes that gitlab-runner tells apart, each 1..=255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

impl Handover {
    /// The message as JSON bytes.
    ///
    /// # Errors
    /// When a path is not UTF-8.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        serde_json::to_vec(self).map_err(FormatError::Malformed)
    }

    /// Reads what [`Handover::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are anything else, or come from another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let message: Handover = serde_json::from_slice(bytes).map_err(FormatError::Malformed)?;
        match message.version {
            FORMAT_VERSION => Ok(message),
            other => Err(FormatError::Version(other)),
        }
    }
}

//! What stages in a shell and stages in a batch scheduler have in common: the account's
//! directories, the error type, the shell's command and environment, requests to cancel, the report
//! to the runner, and the parts of descriptions: words with placeholders, patterns, commands.
//!
//! Used by the launcher, as the mapped user. Nothing here needs privilege.

#![forbid(unsafe_code)]

pub mod command;
pub mod directory;
pub mod error;
pub mod exit_code;
pub mod outlet;
pub mod shell;
pub mod signals;
pub mod site_text;
pub mod small_files;
pub mod template;
pub mod trees;
pub mod ways;
pub mod words;

pub use error::StageError;
use nix::errno::Errno;
use std::io::Write;
use std::time::Duration;

/// How long the launcher waits for events that may never come.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// From the `TERM` of a cancelled job to its `KILL`. Below the 30 seconds of gitlab-runner's
    /// default `shutdown_timeout`. Together with [`Timeouts::abandon`] well below the 300 seconds
    /// after which gitlab-runner starts the cleanup beside a stage that has not ended.
    pub grace: Duration,
    /// A second request to cancel that comes within this time is the same one: a signal to our process group
    /// reaches us directly and again through `nunbird-auth`.
    pub repeat: Duration,
    /// How long a killed process may take to end, and a reader to accept the last output of a
    /// cancelled job.
    pub abandon: Duration,
    /// How long processes that the script piped its output through (`exec > >(tee log)`) may
    /// continue to write after it ended. A background process that keeps the pipe open delays a
    /// stage by no more than this.
    pub linger: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            grace: Duration::from_secs(25),
            repeat: Duration::from_secs(1),
            abandon: Duration::from_secs(10),
            linger: Duration::from_millis(200),
        }
    }
}

/// How a stage ended if Nunbird itself did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageResult {
    /// The stage succeeded.
    Success,
    /// The script did not run, for a reason of the user's.
    BuildFailure,
    /// The runner has ended the script: its user has cancelled the job, or the job's time was over.
    Cancelled,
    /// The script failed by itself.
    ScriptFailed,
}

/// Prints a message for the user to standard error. A reader that has gone is not a failure.
pub fn print_message(message: &str) {
    let line = format!("nunbird: {message}\n");
    drop(std::io::stderr().write_all(line.as_bytes()));
}

/// Writes a line to gitlab-runner's own log. The work is done, whether or not the runner reads the
/// line.
pub fn log_to_runner(message: &str) {
    drop(std::io::stdout().write_all(format!("nunbird: {message}\n").as_bytes()));
}

/// The output that a closed reader did not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// Bytes dropped.
    pub bytes: usize,
    /// Why the first of them could not be written.
    pub cause: Errno,
}

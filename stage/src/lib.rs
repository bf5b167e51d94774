//! What stages by a shell and stages by a batch scheduler have in common: the account's directories, the words for what went
//! wrong, the shell's command and environment, requests to cancel, and what the runner is told.
//!
//! As the mapped user, in the launcher. Nothing here needs privilege.

#![forbid(unsafe_code)]

pub mod directory;
pub mod exit_code;
pub mod shell;
pub mod signals;
pub mod trees;
pub mod trouble;

use nix::errno::Errno;
use std::io::Write;
use std::time::Duration;
pub use trouble::Trouble;

/// How long the launcher waits for what may never come.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// From the `TERM` of a cancelled job to its `KILL`. Below the 30 seconds of gitlab-runner's default `shutdown_timeout`. Together with [`Patience::abandon`] well below the 300
    /// seconds after which gitlab-runner starts the cleanup beside a stage that has not ended.
    pub grace: Duration,
    /// A second request to cancel that comes within this time is the same one: a signal to our process group
    /// reaches us directly and again through `nunbird-auth`.
    pub repeat: Duration,
    /// How long a killed process may take to end, and a reader to take the last output of a cancelled job.
    pub abandon: Duration,
    /// How long processes that the script piped its output through (`exec > >(tee log)`) may go on writing
    /// after it ended. A background process that keeps the pipe open costs a stage this much, no more.
    pub linger: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            grace: Duration::from_secs(25),
            repeat: Duration::from_secs(1),
            abandon: Duration::from_secs(10),
            linger: Duration::from_millis(200),
        }
    }
}

/// How a stage went when nothing of ours went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The stage did what it should.
    Success,
    /// The script failed or was cancelled.
    BuildFailure,
}

/// Tells the user something on standard error. That nobody listens is no reason to stop.
pub fn say(message: &str) {
    let line = format!("nunbird: {message}\n");
    drop(std::io::stderr().write_all(line.as_bytes()));
}

/// Says something to gitlab-runner's own log. What is done is done, whether or not somebody reads about it.
pub fn tell(message: &str) {
    drop(std::io::stdout().write_all(format!("nunbird: {message}\n").as_bytes()));
}

/// What a reader that went away did not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// Bytes dropped.
    pub bytes: usize,
    /// Why the first of them could not be written.
    pub cause: Errno,
}

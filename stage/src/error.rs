//! Failures of Nunbird's own, worded for the job log.
//!
//! A user reads the text in the browser and must know what to do, or what to report to the
//! administrators: so each message names what was tried, where, why it failed and what helps.

use nunbird_handover::Untrusted;
use std::fmt::{self, Display};
use std::path::Path;

/// A failure that the script did not cause: the stage ends with `system_failure` and this text.
#[derive(Debug)]
pub struct StageError(String);

impl StageError {
    /// `what` failed because of `cause`; `help` is the advice to the user.
    pub fn new(what: &str, cause: impl Display, help: &str) -> Self {
        StageError(format!("{what}: {cause}; {help}"))
    }

    /// A whole sentence that includes the advice.
    pub fn sentence(text: &str) -> Self {
        StageError(text.to_owned())
    }

    /// The same about a file or directory.
    pub fn at(what: &str, path: &Path, cause: impl Display, help: &str) -> Self {
        StageError(format!("{what} {}: {cause}; {help}", shown(path)))
    }
}

impl Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StageError {}

/// A path made printable: users and GitLab choose the names of directories.
pub fn shown(path: &Path) -> String {
    Untrusted(&path.to_string_lossy()).to_string()
}

//! What went wrong on our side, in words for the job log.
//!
//! A user reads it in the browser and must know what to do, or what to tell the administrators: so each
//! names what was tried, where, why it failed and what helps.

use nunbird_handover::Untrusted;
use std::fmt::{self, Display};
use std::path::Path;

/// A failure that is not the script's: the stage ends with `system_failure` and this text.
#[derive(Debug)]
pub struct Trouble(String);

impl Trouble {
    /// `what` failed because of `cause`; `help` says what to do.
    pub fn new(what: &str, cause: impl Display, help: &str) -> Self {
        Trouble(format!("{what}: {cause}; {help}"))
    }

    /// A whole sentence, with what helps.
    pub fn told(text: &str) -> Self {
        Trouble(text.to_owned())
    }

    /// The same about a file or directory.
    pub fn at(what: &str, path: &Path, cause: impl Display, help: &str) -> Self {
        Trouble(format!("{what} {}: {cause}; {help}", shown(path)))
    }
}

impl Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Trouble {}

/// A path as it may be printed: users and GitLab name the directories.
pub fn shown(path: &Path) -> String {
    Untrusted(&path.to_string_lossy()).to_string()
}

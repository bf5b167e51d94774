//! Failures, and the exit status for each.

use crate::terminal;
use std::fmt;

/// A failure, in lines that state what failed, where, and what to do.
#[derive(Debug)]
pub enum Trouble {
    /// Something failed.
    Failed(String),
    /// An argument is wrong in a way that the command line parser cannot detect.
    Usage(String),
    /// Nothing failed, but it is too early to query again.
    TryLater(String),
}

impl Trouble {
    pub(crate) fn new(what: impl fmt::Display) -> Self {
        Trouble::Failed(what.to_string())
    }

    /// 1 for a failure, 2 for a wrong argument as clap uses it, or 75 (`EX_TEMPFAIL` of sysexits.h)
    /// for a caller that should try later.
    pub fn exit_code(&self) -> u8 {
        match self {
            Trouble::Failed(_) => 1,
            Trouble::Usage(_) => 2,
            Trouble::TryLater(_) => 75,
        }
    }

    /// Prints it to standard error.
    pub fn report(&self) {
        let text = self.to_string();
        // A finding in the configuration spans several lines and contains the word "error" already.
        let prefix = if text.starts_with("error: ") { "" } else { "error: " };
        terminal::note(&format!("{prefix}{text}"));
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Failed(text) | Trouble::Usage(text) | Trouble::TryLater(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Trouble {}

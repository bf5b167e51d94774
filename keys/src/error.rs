//! Failures, and the exit status for each.

use crate::terminal;
use std::fmt;

/// A failure, in lines that state what failed, where, and what to do.
#[derive(Debug)]
pub enum KeysError {
    /// Something failed.
    Failed(String),
    /// An argument is wrong in a way that the command line parser cannot detect.
    Usage(String),
    /// Nothing failed, but it is too early to query again.
    TryLater(String),
}

impl KeysError {
    pub(crate) fn new(what: impl fmt::Display) -> Self {
        KeysError::Failed(what.to_string())
    }

    /// 1 for a failure, 2 for a wrong argument as clap uses it, or 75 (`EX_TEMPFAIL` of sysexits.h)
    /// for a caller that should try later.
    pub fn exit_code(&self) -> u8 {
        match self {
            KeysError::Failed(_) => 1,
            KeysError::Usage(_) => 2,
            KeysError::TryLater(_) => 75,
        }
    }

    /// Prints it to standard error.
    pub fn report(&self) {
        let text = self.to_string();
        // A finding in the configuration spans several lines and contains the word "error" already.
        let prefix = if text.starts_with("error: ") { "" } else { "error: " };
        terminal::print_error(&format!("{prefix}{text}"));
    }
}

impl fmt::Display for KeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeysError::Failed(text) | KeysError::Usage(text) | KeysError::TryLater(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for KeysError {}

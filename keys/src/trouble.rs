//! What can go wrong, and how the program ends then.

use std::fmt;

/// A failure, in one line that says what, where and how to mend it.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Something failed.
    Failed(String),
    /// Nothing failed, but it is too early to ask again.
    TryLater(String),
}

impl Trouble {
    pub(crate) fn new(what: impl fmt::Display) -> Self {
        Trouble::Failed(what.to_string())
    }

    /// 1, or 75 (`EX_TEMPFAIL` of sysexits.h) for a caller who should come back later.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Trouble::Failed(_) => 1,
            Trouble::TryLater(_) => 75,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Failed(text) | Trouble::TryLater(text) => f.write_str(text),
        }
    }
}

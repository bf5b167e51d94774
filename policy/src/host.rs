//! What a decision may ask of the host, so that it stays a function of its arguments.

use crate::MapFile;
use crate::account::AccountFacts;
use nunbird_handover::Code;
use std::borrow::Cow;
use std::fmt;

/// The host's user database and map files.
pub trait Host {
    /// The account of this name, if there is one.
    ///
    /// # Errors
    /// When the user database does not answer: that is not the same as "no such account".
    fn account(&self, name: &str) -> Result<Option<AccountFacts>, Trouble>;

    /// The gid of the group of this name, if there is one.
    ///
    /// # Errors
    /// As [`Host::account`].
    fn group(&self, name: &str) -> Result<Option<u32>, Trouble>;

    /// The text of a map.
    ///
    /// # Errors
    /// When the file cannot be read or is not trusted.
    fn map(&self, map: &MapFile) -> Result<Cow<'_, str>, Trouble>;
}

/// A question that the host did not answer, and why. Every job that needs the answer is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The code of the refusal.
    pub code: Code,
    /// For the admin.
    pub detail: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

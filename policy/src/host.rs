//! What a decision may ask of the host, so that it stays a function of its arguments.

use crate::MapFile;
use crate::account::AccountFacts;
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

    /// Whether the account is a member of the group of this name; none where there is no such group.
    ///
    /// Hosts with a group database of their own ask it in both directions, and a "yes" of either counts: a membership
    /// that a lookup misses would let a job past a rule that denies by it.
    ///
    /// # Errors
    /// As [`Host::account`].
    fn is_member(&self, account: &AccountFacts, group: &str) -> Result<Option<bool>, Trouble> {
        let gid = self.group(group)?;
        Ok(gid.map(|gid| account.gid == gid || account.groups.contains(&gid)))
    }

    /// The text of a map.
    ///
    /// # Errors
    /// When the file cannot be read or is not trusted.
    fn map(&self, map: &MapFile) -> Result<Cow<'_, str>, Trouble>;
}

/// A question that the host did not answer, and why. Every job that needs the answer is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// One stable word.
    pub code: &'static str,
    /// For the admin.
    pub detail: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

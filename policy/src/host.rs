//! What a decision may ask of the host, so that it stays a function of its arguments.

use crate::account::AccountFacts;
use crate::{MapFile, ServerUser, Subject};
use nunbird_handover::Code;
use std::borrow::Cow;
use std::fmt;
use std::path::Path;

/// The host's user database and map files, and the GitLab server's answer about the job's user.
pub trait Host {
    /// The account of this name, if there is one.
    ///
    /// # Errors
    /// When the user database does not answer: that is not the same as "no such account".
    fn account(&self, name: &str) -> Result<Option<AccountFacts>, HostError>;

    /// The gid of the group of this name, if there is one.
    ///
    /// # Errors
    /// As [`Host::account`].
    fn group(&self, name: &str) -> Result<Option<u32>, HostError>;

    /// Whether the account is a member of the group of this name; none where there is no such group.
    ///
    /// Hosts with a group database of their own ask it in both directions, and a "yes" of either counts: a membership
    /// that a lookup misses would let a job past a rule that denies by it.
    ///
    /// # Errors
    /// As [`Host::account`].
    fn is_member(&self, account: &AccountFacts, group: &str) -> Result<Option<bool>, HostError>;

    /// The name of a group, for people who read an explanation. Nothing is decided by it.
    fn group_name(&self, _gid: u32) -> Option<String> {
        None
    }

    /// The text of a map.
    ///
    /// # Errors
    /// When the file cannot be read or is not trusted.
    fn map(&self, map: &MapFile) -> Result<Cow<'_, str>, HostError>;

    /// The id of the GitLab user of `server` that an account belongs to: by `people_file`, where the site has one that names
    /// the account, else by what this host remembers. None where neither knows the account.
    ///
    /// # Errors
    /// When the file or the store cannot be read, is not trusted or is damaged: that is not the same as "not known".
    fn pinned(
        &self,
        people_file: Option<&Path>,
        server: &str,
        account: &str,
    ) -> Result<Option<u64>, HostError>;

    /// What the server that the job comes from says about the job's user.
    ///
    /// # Errors
    /// When the server does not answer, or not about this very job: the user is then unknown.
    fn server_user(&self, job: &Subject) -> Result<ServerUser, HostError>;
}

/// A question that the host did not answer, and why. Every job that needs the answer is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostError {
    /// The code of the refusal.
    pub code: Code,
    /// For the admin.
    pub detail: String,
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

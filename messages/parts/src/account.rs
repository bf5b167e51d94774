//! Whose a job is.

use nunbird_wire::layout;

/// A local account, by its name and numbers in the system's user database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountIds {
    /// Login name.
    pub name: String,
    /// User id, never 0 for a job that Nunbird admitted.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
}

layout!(AccountIds { name, uid, gid });

//! Whose a job is.

use nunbird_wire::layout;
use std::path::PathBuf;

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

/// The account of a job, as `nunbird-auth` has looked it up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineAccount {
    /// Name and numbers.
    pub ids: AccountIds,
    /// Its supplementary groups.
    pub groups: Vec<u32>,
    /// Its home directory.
    pub home: PathBuf,
}

layout!(MachineAccount { ids, groups, home });

//! The claim on a slot: the file by which an admission takes a build directory, before anything else of the job exists.
//!
//! It lies among the records. Its name has the boot, the account and the slot, so that link(2) gives a slot to one
//! admission alone without any lock that runners share. It stands from before the job's control group is made until after
//! the job's record is removed; while `config` has not written the record yet, it holds the file's flock(2).

use crate::{FormatError, Record};
use nunbird_wire::Version;
use nunbird_wire::layout;

/// Who has a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Of this layout.
    pub version: Version,
    /// Of the admission, as in its record.
    pub decision_id: String,
    /// Real uid of the process that asked.
    pub runner_uid: u32,
    /// The server's name in the policy.
    pub server: String,
    /// GitLab's id of the CI job.
    pub job_id: u64,
}

layout!(Claim { version, decision_id, runner_uid, server, job_id });

impl Claim {
    /// How the names of claims end.
    pub const SUFFIX: &str = ".slot";
    /// The largest claim, in bytes.
    pub const MOST: u64 = 4 << 10;

    /// The name of the file that stands for a slot of an account.
    ///
    /// A former boot's claims have other names: no job outlives its host, and so they need no removal that could take
    /// another's fresh claim along.
    pub fn name(boot_id: &str, account_uid: u32, slot: u16) -> String {
        format!("{boot_id}-{account_uid}-{slot:03}{}", Self::SUFFIX)
    }

    /// The name of the claim that belongs to this record.
    pub fn name_for(record: &Record) -> String {
        Self::name(&record.boot_id, record.account.uid, record.slot)
    }

    /// Reads a claim.
    ///
    /// # Errors
    /// When the bytes are anything else, or come from another version.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        FormatError::read(bytes)
    }
}

//! What is written down of a job whose files are kept for its user to look at.

use crate::{FORMAT_VERSION, FormatError, Handover};
use serde::{Deserialize, Serialize};

/// A job of GitLab's whose script has failed. It has no value of a variable, and no password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Seconds since the epoch until which its build directory stays.
    pub until: u64,
    /// Seconds since the epoch of the job's clean-up.
    pub since: u64,
    /// What the launcher was started with for the clean-up.
    pub job: Handover,
}

impl Kept {
    /// The longest text, in bytes.
    pub const LONGEST: u64 = 4 << 20;

    /// Of a job that is being cleaned up.
    #[must_use]
    pub fn of(job: &Handover, since: u64, until: u64) -> Self {
        let mut job = job.clone();
        // Neither is in the message of a clean-up.
        job.credentials = crate::Credentials::default();
        for service in job.container.iter_mut().flat_map(|container| &mut container.services) {
            service.variables.clear();
        }
        Kept { until, since, job }
    }

    /// The name of the file beside a build directory of this name.
    pub fn file_name(directory: &str) -> String {
        format!(".{directory}.kept")
    }

    /// Its text.
    ///
    /// # Errors
    /// When a path is not UTF-8.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        serde_json::to_vec(self).map_err(FormatError::Malformed)
    }

    /// Reads one.
    ///
    /// # Errors
    /// When the bytes are anything else, or come from another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let kept: Kept = serde_json::from_slice(bytes).map_err(FormatError::Malformed)?;
        match kept.job.version {
            FORMAT_VERSION => Ok(kept),
            other => Err(FormatError::Version(other)),
        }
    }
}

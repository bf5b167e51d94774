//! What is written down of a job whose files are kept for its user to look at.

use crate::{FORMAT_VERSION, FormatError, Handover};
use serde::{Deserialize, Serialize};

/// A job of GitLab's whose script has failed. It has no password, and of variables' values only those in names of images.
///
/// The text is one line of JSON. Behind it `nunbird exec enter` writes another one while a prompt is open: the message of the prompt's launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Seconds since the epoch until which its build directory stays.
    pub until: u64,
    /// Seconds since the epoch of the job's clean-up.
    pub since: u64,
    /// What the launcher was started with for the clean-up.
    pub job: Handover,
    /// What the launcher was started with for a prompt that is open, or that was killed.
    #[serde(skip)]
    pub prompt: Option<Handover>,
}

impl Kept {
    /// The longest text, in bytes.
    pub const LONGEST: u64 = 4 << 20;

    /// Of a job that is being cleaned up.
    #[must_use]
    pub fn of(job: &Handover, since: u64, until: u64) -> Self {
        let mut job = Handover { timed_out: false, ..job.clone() };
        // Neither is in the message of a clean-up.
        job.credentials = crate::Credentials::default();
        for service in job.container.iter_mut().flat_map(|container| &mut container.services) {
            service.variables.clear();
            service.command = None;
            service.image.entrypoint = None;
        }
        // Texts of the job's variables, of which a prompt has no use: its allocation has ended.
        if let Some(batch) = &mut job.batch {
            batch.arguments = None;
            batch.job_prefix = None;
            batch.cancel_signal = None;
            batch.copy_logs = None;
        }
        Kept { until, since, job, prompt: None }
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
        let mut lines = bytes.splitn(2, |byte| *byte == b'\n');
        let first = lines.next().unwrap_or_default();
        let mut kept: Kept = serde_json::from_slice(first).map_err(FormatError::Malformed)?;
        // Half a line is of a prompt that was not started.
        kept.prompt = lines.next().and_then(|line| Handover::from_message(line).ok());
        match kept.job.version {
            FORMAT_VERSION => Ok(kept),
            other => Err(FormatError::Version(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Kept;
    use crate::message::tests::handover;
    use crate::{Batch, Scheduler, UserText};

    #[test]
    fn texts_of_the_jobs_variables_are_not_kept() {
        let mut job = handover("/usr/bin");
        let mut batch = Batch::new(Scheduler::Named("slurm".to_owned()), "/d".into());
        let text = || "hidden".to_owned();
        batch.arguments = Some(UserText { variable: "SCHEDULER_PARAMETERS".to_owned(), text: text() });
        (batch.job_prefix, batch.cancel_signal, batch.copy_logs) = (Some(text()), Some(text()), Some(text()));
        job.batch = Some(batch);
        let kept = Kept::of(&job, 1, 2);
        let bytes = kept.to_bytes().expect("text");
        assert!(!String::from_utf8_lossy(&bytes).contains("hidden"));
        assert_eq!(Kept::from_bytes(&bytes).expect("the same"), kept);
    }

    #[test]
    fn a_prompt_is_a_line_behind_and_half_a_line_is_none() {
        let kept = Kept::of(&handover("/usr/bin"), 1, 2);
        let mut bytes = kept.to_bytes().expect("text");
        let prompt = handover("/bin");
        bytes.push(b'\n');
        bytes.extend(prompt.message().expect("text"));
        assert_eq!(Kept::from_bytes(&bytes).expect("a record").prompt, Some(prompt));
        bytes.pop();
        assert_eq!(Kept::from_bytes(&bytes).expect("a record"), kept);
    }
}

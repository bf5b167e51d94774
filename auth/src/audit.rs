//! One JSON line for each decision. A job whose admission cannot be written down does not run.

use crate::privilege::Privilege;
use crate::refusal::Refusal;
use nunbird_handover::RuleRef;
use nunbird_sys::directory::Directory;
use nunbird_sys::identity::FileIdentity;
use nunbird_sys::trusted::open_trusted_directory;
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;

/// A decision, as the audit file has it. No field is ever a secret.
#[derive(Debug, Serialize, Default)]
pub(crate) struct Event<'a> {
    /// Seconds since the epoch.
    pub(crate) time: u64,
    /// `admitted` or `denied`.
    pub(crate) outcome: &'static str,
    /// Why it was denied, in one stable word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<&'a str>,
    /// Why it was denied, in full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<&'a str>,
    pub(crate) decision_id: &'a str,
    pub(crate) stage: &'a str,
    /// Facts of the token, where it was verified.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub(crate) job: Option<Job<'a>>,
    /// The account, where the job got one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<RuleRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) policy_digest: Option<&'a str>,
    pub(crate) runner_uid: u32,
    pub(crate) privilege: &'static str,
}

/// Facts of a verified token.
#[derive(Debug, Serialize)]
pub(crate) struct Job<'a> {
    pub(crate) server: &'a str,
    pub(crate) job_id: u64,
    pub(crate) pipeline_id: u64,
    pub(crate) project_id: u64,
    pub(crate) project_path: &'a str,
    pub(crate) user_login: &'a str,
    pub(crate) user_id: u64,
    #[serde(rename = "ref")]
    pub(crate) git_ref: &'a str,
    pub(crate) pipeline_source: &'a str,
}

/// Appends an event.
///
/// # Errors
/// A system refusal when the line is not on the file system afterwards.
pub(crate) fn write(file: Option<&Path>, event: &Event<'_>, privilege: Privilege) -> Result<(), Refusal> {
    let Some(path) = file else { return Ok(()) };
    append(path, event, privilege).map_err(|e| {
        let message = "the decision cannot be written down on this host, so the job does not run";
        Refusal::system("audit", message, format!("{}: {e}", path.display()))
    })
}

fn append(path: &Path, event: &Event<'_>, privilege: Privilege) -> io::Result<()> {
    let keeper = privilege.keeper();
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    let (parent, name) = path.parent().zip(path.file_name()).ok_or(io::ErrorKind::InvalidInput)?;
    let name = name.to_str().ok_or(io::ErrorKind::InvalidInput)?;
    let _identity = FileIdentity::assume(keeper.uid, keeper.gid)?;
    let fd = open_trusted_directory(parent, &privilege.trusted_owners()).map_err(io::Error::other)?;
    let (mut file, whole) = Directory::new(fd).append_line(name, keeper.uid)?;
    if !whole {
        // A write that a limit cut short has left half a line.
        line.insert(0, b'\n');
    }
    // One write, so that lines of jobs at the same time do not mix (O_APPEND, write(2)).
    let written = file.write(&line)?;
    if written != line.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    file.sync_data()
}

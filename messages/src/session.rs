//! What passes between `nunbird-auth` and `nunbird-session`, which opens a PAM session around a stage.

use crate::{ExitCodes, Pam, Record};
use nunbird_wire::{Version, layout};
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// Everything that `nunbird-session` needs for one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOrder {
    /// Of this layout.
    pub version: Version,
    /// The job's record, without the decider's part.
    pub record: Record,
    /// The supplementary groups of its account, as which the launcher runs.
    pub groups: Vec<u32>,
    /// What the runner takes for "the script failed" and "the system failed".
    pub exit_codes: ExitCodes,
    /// [`crate::Envelope::message`], to which the session adds.
    pub message: Vec<u8>,
    /// The launcher's environment without what PAM adds.
    pub environment: Vec<CString>,
    /// The site's settings.
    pub pam: Pam,
    /// Where one session serves the whole job.
    pub keep: Option<Keep>,
}

layout!(SessionOrder { version, record, groups, exit_codes, message, environment, pam, keep });

/// Of the process that keeps a job's session open between its stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// Its socket, in the directory of the job records.
    pub socket: PathBuf,
    /// The job's record. The session must not outlive it: nobody would close it.
    pub record: PathBuf,
    /// Whether this stage opens the session; the others come to one that is open.
    pub opens: bool,
}

layout!(Keep { socket, record, opens });

impl Keep {
    /// The byte by which `cleanup` asks for the end of the session.
    pub const CLOSE: u8 = b'c';
    /// The last byte of the keeper's answer where the session was closed; its modules' words come before.
    pub const CLOSED: u8 = b'.';
    /// How long a stage may go on when the end of the session is asked for, in seconds.
    pub const GRACE: u64 = 60;

    /// The socket of a job's keeper. A decision's id is 32 hexadecimal digits.
    pub fn socket(directory: &Path, decision_id: &str) -> PathBuf {
        directory.join(format!("{decision_id}.session"))
    }
}

//! What passes between `nunbird-auth` and `nunbird-session`, which opens a PAM session around a stage.

use crate::{AccountIds, ExitCodes, Group, Isolation, Pam};
use nunbird_wire::Version;
use nunbird_wire::{choice, layout};
use std::ffi::CString;
use std::path::{Path, PathBuf};

/// Everything that `nunbird-session` needs for one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOrder {
    /// Of this layout.
    pub version: Version,
    /// Of the admission, as in the job's record.
    pub decision_id: String,
    /// The account that the launcher runs as.
    pub account: AccountIds,
    /// Its supplementary groups.
    pub groups: Vec<u32>,
    /// What the runner takes for "the script failed" and "the system failed".
    pub exit_codes: ExitCodes,
    /// [`crate::Envelope::message`], to which the session adds.
    pub message: Vec<u8>,
    /// The launcher's environment without what PAM adds.
    pub environment: Vec<CString>,
    /// What the site takes away.
    pub isolation: Isolation,
    /// The site's settings.
    pub pam: Pam,
    /// The job's control group, which the launcher enters: modules may have moved the process that calls them.
    pub group: Option<Group>,
    /// The launcher's score with the out-of-memory killer; none is that of root's processes of the session, which must not be the
    /// host's first victims.
    pub oom_score_adj: Option<u16>,
    /// Where one session serves the whole job.
    pub keep: Option<Keep>,
}

layout!(SessionOrder {
    version,
    decision_id,
    account,
    groups,
    exit_codes,
    message,
    environment,
    isolation,
    pam,
    group,
    oom_score_adj,
    keep,
});

/// Of the process that keeps a job's session open between its stages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    /// Its socket, in the directory of the job records.
    pub socket: PathBuf,
    /// The job's record. The session must not outlive it: nobody would close it.
    pub record: PathBuf,
    /// Whether this stage opens the session; the others come to one that is open.
    pub opens: bool,
    /// When the job's time is up, in seconds of `CLOCK_BOOTTIME`.
    pub until: u64,
}

layout!(Keep { socket, record, opens, until });

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

/// Why there is no session, or no launcher in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionReport {
    /// In one word.
    pub trouble: SessionTrouble,
    /// The cause, at most [`SessionReport::MAX_DETAIL`] bytes.
    pub detail: String,
}

layout!(SessionReport { trouble, detail });

/// What can keep a session from a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionTrouble {
    /// The modules refuse the account.
    Account,
    /// A module made somebody else of the user.
    User,
    /// The modules did not end in time.
    Timeout,
    /// A module, or PAM itself, failed.
    Failed,
    /// The launcher did not start.
    Launcher,
    /// The job's session has ended before the job.
    Lost,
}

choice!(SessionTrouble { 1 => Account, 2 => User, 3 => Timeout, 4 => Failed, 5 => Launcher, 6 => Lost });

impl SessionReport {
    /// With it the whole report is written to a pipe at once (pipe(7), `PIPE_BUF`).
    pub const MAX_DETAIL: usize = 2048;
}

//! What passes between `nunbird-auth` and `nunbird-session`, which opens a PAM session around a stage.

use crate::{FORMAT_VERSION, FormatError, Handover, Isolation};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What a site says about PAM sessions: `[pam]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pam {
    /// Name of the file in `/etc/pam.d`.
    pub service: String,
    /// Seconds that the modules may take to open the session, and again to close it.
    pub timeout: u64,
    /// Variables of PAM's environment that a job gets; a name that ends in `*` stands for all that begin so.
    pub environment: Vec<String>,
    /// How long one session lasts.
    #[serde(default)]
    pub session: SessionSpan,
}

/// What has a session of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionSpan {
    /// Each stage.
    #[default]
    Stage,
    /// The job: opened by `prepare`, closed by `cleanup`.
    Job,
}

/// Variables that a job never gets from PAM: they say who the user is, come from the policy, or change how programs are
/// loaded and scripts are read.
const NEVER: [&str; 18] = [
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "PATH",
    "BASH_ENV",
    "ENV",
    "IFS",
    "SHELLOPTS",
    "BASHOPTS",
    "PS4",
    "PROMPT_COMMAND",
    "CDPATH",
    "GLOBIGNORE",
    "GLIBC_TUNABLES",
    "GCONV_PATH",
    "NLSPATH",
    "LOCPATH",
];
/// What such variables begin with.
const NEVER_BEGINNING: [&str; 4] = ["LD_", "BASH_FUNC_", "NUNBIRD_", "CUSTOM_ENV_"];

impl Pam {
    /// Whether a variable of PAM's environment reaches the job.
    pub fn passes(&self, name: &str) -> bool {
        let proper = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && !name.starts_with(|c: char| c.is_ascii_digit());
        let never = NEVER.contains(&name) || NEVER_BEGINNING.iter().any(|start| name.starts_with(start));
        let listed = self.environment.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == pattern,
        });
        proper && !never && listed
    }
}

/// Everything that `nunbird-session` needs for one stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionOrder {
    /// Always [`FORMAT_VERSION`].
    pub version: u32,
    /// The launcher's message, to which the session adds.
    pub handover: Handover,
    /// Supplementary groups of the account.
    pub groups: Vec<u32>,
    /// What the site takes away.
    pub isolation: Isolation,
    /// The site's settings.
    pub pam: Pam,
    /// The job's control group, which the launcher enters: modules may have moved the process that calls them.
    pub group: Option<SessionGroup>,
    /// The launcher's score with the out-of-memory killer; none is that of root's processes of the session, which must not be the
    /// host's first victims.
    pub oom_score_adj: Option<u16>,
    /// Where one session serves the whole job.
    pub keep: Option<Keep>,
}

/// Of the process that keeps a job's session open between its stages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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

/// A job's control group, as the stages of its sessions find it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionGroup {
    /// In the bytes of `nunbird-limits`.
    pub group: Vec<u8>,
    /// Whether its directories are the runner's and not root's.
    pub is_runners: bool,
}

impl SessionOrder {
    /// The order as JSON bytes.
    ///
    /// # Errors
    /// When a path is not UTF-8.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        serde_json::to_vec(self).map_err(FormatError::Malformed)
    }

    /// Reads what [`SessionOrder::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are anything else, or come from another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let order: SessionOrder = serde_json::from_slice(bytes).map_err(FormatError::Malformed)?;
        match (order.version, order.handover.version) {
            (FORMAT_VERSION, FORMAT_VERSION) => Ok(order),
            (FORMAT_VERSION, other) | (other, _) => Err(FormatError::Version(other)),
        }
    }
}

/// Why there is no session, or no launcher in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionReport {
    /// In one word.
    pub trouble: SessionTrouble,
    /// The cause, at most [`SessionReport::MAX_DETAIL`] bytes.
    pub detail: String,
}

/// What can keep a session from a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

impl SessionReport {
    /// With it the whole report is written to a pipe at once (pipe(7), `PIPE_BUF`), also where every byte is escaped.
    pub const MAX_DETAIL: usize = 512;

    /// The report as JSON bytes, its detail cut to [`SessionReport::MAX_DETAIL`].
    ///
    /// # Errors
    /// Never for a report that this crate made; the parser's type is what it is.
    pub fn to_bytes(mut self) -> Result<Vec<u8>, FormatError> {
        let mut end = self.detail.len().min(Self::MAX_DETAIL);
        while !self.detail.is_char_boundary(end) {
            end -= 1;
        }
        self.detail.truncate(end);
        serde_json::to_vec(&self).map_err(FormatError::Malformed)
    }

    /// Reads what [`SessionReport::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        serde_json::from_slice(bytes).map_err(FormatError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::{Pam, SessionReport, SessionSpan, SessionTrouble};

    #[test]
    fn no_list_lets_a_variable_pass_that_loads_code_or_says_who_the_user_is() {
        let all = Pam {
            service: "nunbird".to_owned(),
            timeout: 1,
            environment: vec!["*".to_owned()],
            session: SessionSpan::Stage,
        };
        for name in ["XDG_RUNTIME_DIR", "KRB5CCNAME", "_x", "a1"] {
            assert!(all.passes(name), "{name}");
        }
        for name in [
            "LD_PRELOAD",
            "BASH_ENV",
            "PATH",
            "HOME",
            "NUNBIRD_STAGE",
            "BASH_FUNC_ls%%",
            "",
            "1a",
            "a-b",
            "ü",
        ] {
            assert!(!all.passes(name), "{name}");
        }
        let some = Pam { environment: vec!["KRB5CCNAME".to_owned(), "XDG_*".to_owned()], ..all };
        for (name, expected) in
            [("KRB5CCNAME", true), ("KRB5CCNAME2", false), ("XDG_RUNTIME_DIR", true), ("XD", false)]
        {
            assert_eq!(some.passes(name), expected, "{name}");
        }
    }

    #[test]
    fn a_report_always_fits_into_a_pipe_at_once() {
        for detail in ["\u{1}".repeat(9000), "ü".repeat(9000)] {
            let report = SessionReport { trouble: SessionTrouble::Failed, detail };
            let bytes = report.to_bytes().expect("text");
            assert!(bytes.len() <= 4096, "{}", bytes.len());
            assert_eq!(SessionReport::from_bytes(&bytes).expect("a report").trouble, SessionTrouble::Failed);
        }
    }
}

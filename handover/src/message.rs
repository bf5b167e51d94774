//! The message to the launcher, which the decider writes.

use crate::{
    Batch, Container, CredentialHelper, Credentials, ExitCodes, FORMAT_VERSION, FormatError, SiteRules,
};
use nunbird_messages::Envelope;
use nunbird_wire::Message;
use serde::{Deserialize, Serialize};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, NulError};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Everything the launcher needs to know about one stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handover {
    /// Always [`FORMAT_VERSION`].
    pub version: u32,
    /// 32 lower-case hexadecimal digits; the user's ticket and the admin's log line share it.
    pub decision_id: String,
    /// GitLab's id of the CI job.
    pub job_id: u64,
    /// What to do.
    pub task: Task,
    /// The local account this process already runs as.
    pub account: Account,
    /// Who the job belongs to in GitLab's words, for the greeting in the job log.
    pub identity: Identity,
    /// Where the job works.
    pub workspace: Workspace,
    /// How a script is run.
    pub shell: Shell,
    /// The job's environment beside `HOME`, `USER`, `LOGNAME` and `SHELL`, from the site's configuration.
    pub environment: BTreeMap<String, String>,
    /// Names of those that the PAM session on this host added.
    #[serde(skip)]
    pub session_variables: BTreeSet<String>,
    /// The umask of scripts, where the site's PAM session has set one; else the launcher's own.
    #[serde(skip)]
    pub umask: Option<u32>,
    /// What the runner takes for "the script failed" and "the system failed".
    #[serde(with = "Codes")]
    pub exit_codes: ExitCodes,
    /// True when [`crate::EXIT_CODE_FD`] is open.
    pub exit_code_file: bool,
    /// The batch scheduler, where stages of the job go to one.
    pub batch: Option<Batch>,
    /// The container that stages of the job run in, where the site has one for it.
    pub container: Option<Container>,
    /// Passwords for its images' registries; in [`Task::Prepare`] alone.
    pub credentials: Credentials,
    /// Programs to ask for such passwords first; likewise.
    #[serde(default)]
    pub credential_helpers: Vec<CredentialHelper>,
    /// The site's say in how the stages go.
    pub site: SiteRules,
    /// Seconds since the epoch after which no stage but `cleanup` runs.
    pub expires_at: u64,
    /// Whether the job has ended because its time was over; in [`Task::Cleanup`] alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timed_out: bool,
}

/// The stage of gitlab-runner's custom executor that the launcher serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Make the job's directories and greet the user.
    Prepare,
    /// Run the script behind [`crate::SCRIPT_FD`]; the text is the runner's name of the stage.
    Run(String),
    /// End what the job left running, remove file variables and credentials that it left, and old build directories.
    Cleanup,
    /// As [`Task::Cleanup`], but for the job's own directory: another job has it by now, or there was none.
    Tidy,
}

/// A local account, as the system's user database has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// User id, never 0 for a job that Nunbird admitted.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Home directory, absolute.
    pub home: PathBuf,
    /// Login shell, absolute.
    pub shell: PathBuf,
}

/// Who started the job, from the verified token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The configured name of the GitLab server.
    pub server: String,
    /// GitLab's login name.
    pub user_login: String,
    /// GitLab's numeric id of the user, which unlike the login never changes; 0 for a job that is not GitLab's.
    pub user_id: u64,
    /// Full path of the project that runs the job.
    pub project_path: String,
}

/// The job's directories. `cache_dir` lies below `data_dir`, `builds_dir` below `builds_root`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workspace {
    /// Root of all that Nunbird keeps for the account; owned by it, mode 0700. May be a symbolic link.
    pub data_dir: PathBuf,
    /// `data_dir`, or the directory that the user has named for builds (`CUSTOM_CI_BUILDS_DIR`); also owned by the account,
    /// mode 0700, and may also be a symbolic link.
    pub builds_root: PathBuf,
    /// gitlab-runner's `builds_dir`: one for each concurrent job of the account on this host.
    pub builds_dir: PathBuf,
    /// gitlab-runner's `cache_dir`: one for the account, never shared with another.
    pub cache_dir: PathBuf,
    /// The project's directory below `builds_dir`, as gitlab-runner derives it from the repository's URL.
    pub project_dir: PathBuf,
}

/// The shell that runs stage scripts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shell {
    /// Absolute path of a POSIX shell.
    pub path: PathBuf,
    /// Whether it starts as a login shell and reads the user's profile.
    pub login: bool,
}

/// The layout of [`ExitCodes`] in JSON.
#[derive(Serialize, Deserialize)]
#[serde(remote = "ExitCodes", deny_unknown_fields)]
struct Codes {
    build_failure: u8,
    system_failure: u8,
}

impl Handover {
    /// What [`Envelope::message`] holds: JSON without what a session adds.
    ///
    /// # Errors
    /// When a path is not UTF-8.
    pub fn message(&self) -> Result<Vec<u8>, FormatError> {
        serde_json::to_vec(self).map_err(FormatError::Malformed)
    }

    /// The whole message as the launcher gets it, without a session's additions.
    ///
    /// # Errors
    /// When a path is not UTF-8.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        Ok(Envelope::plain(self.message()?))
    }

    /// Reads an envelope. The configuration's variables win over a session's.
    ///
    /// # Errors
    /// When the bytes are anything else, or come from another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let envelope = Envelope::from_bytes(bytes).map_err(|_| FormatError::Layout)?;
        let mut handover = Self::from_message(&envelope.message)?;
        if let Some(session) = envelope.session {
            handover.umask = Some(session.umask);
            for (name, value) in session.variables {
                if let Entry::Vacant(vacant) = handover.environment.entry(name) {
                    handover.session_variables.insert(vacant.key().clone());
                    vacant.insert(value);
                }
            }
        }
        Ok(handover)
    }

    /// Reads [`Envelope::message`].
    ///
    /// # Errors
    /// When the bytes are anything else, or come from another version.
    pub fn from_message(bytes: &[u8]) -> Result<Self, FormatError> {
        let message: Handover = serde_json::from_slice(bytes).map_err(FormatError::Malformed)?;
        match message.version {
            FORMAT_VERSION => Ok(message),
            other => Err(FormatError::Version(other)),
        }
    }

    /// The environment that the launcher starts with: `HOME`, `USER`, `LOGNAME`, `SHELL` and the configuration's variables; nothing that was
    /// inherited. The names are of two kinds that never meet: the account's own, and the site's, which the policy keeps from being the
    /// account's or the loader's (`check_variable`).
    ///
    /// # Errors
    /// When a value holds a NUL byte.
    pub fn launch_environment(&self) -> Result<Vec<CString>, NulError> {
        let account = &self.account;
        let own = [
            ("HOME", account.home.as_os_str().as_bytes()),
            ("USER", account.name.as_bytes()),
            ("LOGNAME", account.name.as_bytes()),
            ("SHELL", account.shell.as_os_str().as_bytes()),
        ];
        let configured = self.environment.iter().map(|(key, value)| (key.as_str(), value.as_bytes()));
        own.into_iter()
            .chain(configured)
            .map(|(key, value)| CString::new([key.as_bytes(), b"=", value].concat()))
            .collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Account, ExitCodes, Handover, Identity, Shell, Task, Workspace};
    use crate::{Credentials, SiteRules};
    use nunbird_messages::{Envelope, SessionAdditions, Version};
    use nunbird_wire::Message;
    use std::collections::{BTreeMap, BTreeSet};

    pub(crate) fn handover(value: &str) -> Handover {
        let account = Account {
            name: "alice".to_owned(),
            uid: 5001,
            gid: 5002,
            home: "/home/a".into(),
            shell: "/bin/sh".into(),
        };
        let identity = Identity {
            server: "main".to_owned(),
            user_login: "alice".to_owned(),
            user_id: 7,
            project_path: "a/b".to_owned(),
        };
        let workspace = Workspace {
            data_dir: "/d".into(),
            builds_root: "/d".into(),
            builds_dir: "/d/b".into(),
            cache_dir: "/d/c".into(),
            project_dir: "/d/b/p".into(),
        };
        Handover {
            version: crate::FORMAT_VERSION,
            decision_id: "0".repeat(32),
            job_id: 1,
            task: Task::Prepare,
            account,
            identity,
            workspace,
            shell: Shell { path: "/bin/sh".into(), login: false },
            environment: BTreeMap::from([("PATH".to_owned(), value.to_owned())]),
            session_variables: BTreeSet::new(),
            umask: None,
            exit_codes: ExitCodes::default(),
            exit_code_file: false,
            batch: None,
            container: None,
            credentials: Credentials::default(),
            credential_helpers: Vec::new(),
            site: SiteRules::default(),
            expires_at: 9,
            timed_out: false,
        }
    }

    #[test]
    fn the_environment_is_the_accounts_four_names_and_the_sites_and_no_value_has_a_nul() {
        let all = handover("/usr/bin").launch_environment().expect("an environment");
        let all: Vec<&str> = all.iter().map(|variable| variable.to_str().expect("UTF-8")).collect();
        assert_eq!(all, ["HOME=/home/a", "USER=alice", "LOGNAME=alice", "SHELL=/bin/sh", "PATH=/usr/bin"]);
        assert!(handover("a\0b").launch_environment().is_err());
    }

    #[test]
    fn what_a_session_adds_is_joined_and_the_sites_variables_win() {
        let message = handover("/usr/bin").message().expect("a message");
        let variables = [("PATH", "/evil"), ("KRB5CCNAME", "x")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        let session = Some(SessionAdditions { umask: 0o27, variables: variables.to_vec() });
        let bytes = Envelope { version: Version, message, session }.to_bytes();
        let joined = Handover::from_bytes(&bytes).expect("a message");
        assert_eq!((joined.umask, joined.environment["PATH"].as_str()), (Some(0o27), "/usr/bin"));
        assert_eq!(joined.environment["KRB5CCNAME"], "x");
        assert_eq!(joined.session_variables, BTreeSet::from(["KRB5CCNAME".to_owned()]));
        let plain = handover("/usr/bin");
        assert_eq!(Handover::from_bytes(&plain.to_bytes().expect("bytes")).expect("the same"), plain);
    }
}

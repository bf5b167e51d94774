//! What the decider is started with.

use crate::{RefusedBy, Stage};
use nunbird_messages::{JobDirectory, Runner, Version};
use nunbird_wire::{choice, layout};
use std::path::PathBuf;

/// Where the privilege of `nunbird-auth` comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privileges {
    /// The runner is root.
    Root,
    /// The file is setuid-root, the runner is not root.
    Setuid,
    /// The file has capabilities, the runner is not root.
    FileCapabilities,
    /// There is none.
    None,
}

choice!(Privileges { 0 => Root, 1 => Setuid, 2 => FileCapabilities, 3 => None });

impl Privileges {
    /// As audit events name it.
    pub fn name(self) -> &'static str {
        match self {
            Privileges::Root => "root",
            Privileges::Setuid => "setuid",
            Privileges::FileCapabilities => "file-capabilities",
            Privileges::None => "none",
        }
    }

    /// Whether there is root to open PAM sessions with.
    ///
    /// # Errors
    /// With file capabilities or without privilege: why there is not.
    pub fn check_pam(self) -> Result<(), String> {
        match self {
            Privileges::Root | Privileges::Setuid => Ok(()),
            Privileges::FileCapabilities | Privileges::None => Err(format!(
                "`[pam]` needs root, which modules of PAM expect to be, and nunbird-auth has its privilege from: {}; make it \
                 setuid-root (chmod 4750, setcap -r), or remove `[pam]`",
                self.name()
            )),
        }
    }

    /// Whether there is any.
    pub fn is_privileged(self) -> bool {
        self != Privileges::None
    }
}

/// What there is to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Whether a job may run, and as whom.
    Config,
    /// Whether the account of a job may still run jobs, and how a stage of the job is to be run.
    Stage(Box<Stage>),
    /// Which build directories of this account are to be tidied.
    Tidy(String),
}

choice!(Task { 0 => Config, 1 => Stage(stage), 2 => Tidy(account) });

/// The first message to the decider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Of this layout, and of all messages that follow.
    pub version: Version,
    /// What there is to decide.
    pub task: Task,
    /// A refusal that `nunbird-auth` has made already, to be written and printed.
    pub refused: Option<RefusedBy>,
    /// Where the privilege comes from.
    pub privileges: Privileges,
    /// Whether setuid bits and file capabilities are inert in the runner's processes (`no_new_privs`).
    pub inert: bool,
    /// Uid of the account that runs gitlab-runner.
    pub caller: u32,
    /// 32 lower-case hexadecimal digits.
    pub decision_id: String,
    /// `-u`: the whole cause of a refusal goes to the job log.
    pub unobfuscated: bool,
    /// The configuration files in their order. Their descriptors follow this message, one by one.
    pub files: Vec<PathBuf>,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Seconds since the epoch, and since boot.
    pub now: (u64, u64),
    /// The runner's private directory of the job.
    pub job_directory: Option<JobDirectory>,
    /// The runner's processes.
    pub runner: Option<Runner>,
}

layout!(Start {
    version,
    task,
    refused,
    privileges,
    inert,
    caller,
    decision_id,
    unobfuscated,
    files,
    boot_id,
    now,
    job_directory,
    runner,
});

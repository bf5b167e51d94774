//! What the decider is started with.

use crate::{RefusedBy, Stage};
use nunbird_messages::{JobDirectory, Runner};
use nunbird_wire::{Malformed, Message, Reader, Writer};
use std::path::PathBuf;

/// The version of all messages of this crate.
pub const FORMAT: u32 = 1;
/// The most configuration files.
const MAX_FILES: usize = 102;

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

impl Privileges {
    const ALL: [Privileges; 4] =
        [Privileges::Root, Privileges::Setuid, Privileges::FileCapabilities, Privileges::None];

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

    /// Whether the program was started as `downscope = "sudo"` wants it.
    ///
    /// # Errors
    /// Why not: a setuid bit or capabilities would run all of it, for nothing, with privilege.
    pub fn check_sudo(self) -> Result<(), String> {
        match self {
            Privileges::None => Ok(()),
            other => Err(format!(
                "`downscope = \"sudo\"` is for a nunbird-auth without privilege, and this one has its own from: {}; run \
                 gitlab-runner as an account of its own and nunbird-auth with mode 0755 (setcap -r), or write \
                 `downscope = \"setuid\"`",
                other.name()
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

/// The first message to the decider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// What there is to decide.
    pub task: Task,
    /// A refusal that `nunbird-auth` has made already, to be written and printed.
    pub refused: Option<RefusedBy>,
    /// Where the privilege comes from.
    pub privileges: Privileges,
    /// Why there may be none where the configuration wants some.
    pub lack: String,
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

impl Message for Start {
    fn write(&self, out: &mut Writer) {
        out.u32(FORMAT);
        match &self.task {
            Task::Config => out.u8(0),
            Task::Stage(stage) => {
                out.u8(1);
                stage.write(out);
            }
            Task::Tidy(account) => {
                out.u8(2);
                out.text(account);
            }
        }
        self.refused.write(out);
        let kind = Privileges::ALL.iter().position(|known| *known == self.privileges);
        out.u8(kind.and_then(|kind| u8::try_from(kind).ok()).unwrap_or(u8::MAX));
        out.text(&self.lack);
        out.u32(self.caller);
        out.text(&self.decision_id);
        out.flag(self.unobfuscated);
        out.list(&self.files, |out, file| out.path(file));
        out.text(&self.boot_id);
        out.u64(self.now.0);
        out.u64(self.now.1);
        self.job_directory.write(out);
        self.runner.write(out);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        if input.u32()? != FORMAT {
            return Err(Malformed);
        }
        let task = match input.u8()? {
            0 => Task::Config,
            1 => Task::Stage(Box::new(Stage::read(input)?)),
            2 => Task::Tidy(input.text()?),
            _ => return Err(Malformed),
        };
        let refused = Option::read(input)?;
        let kind = usize::from(input.u8()?);
        Ok(Start {
            task,
            refused,
            privileges: *Privileges::ALL.get(kind).ok_or(Malformed)?,
            lack: input.text()?,
            caller: input.u32()?,
            decision_id: input.text()?,
            unobfuscated: input.flag()?,
            files: input.list(MAX_FILES, Reader::path)?,
            boot_id: input.text()?,
            now: (input.u64()?, input.u64()?),
            job_directory: Option::read(input)?,
            runner: Option::read(input)?,
        })
    }
}

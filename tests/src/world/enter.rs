//! Enters the private system: what `nbt-enter` does before it becomes the program under test.
//!
//! [`Spec`] travels as JSON through standard input, because arguments and environments of test programs are
//! any bytes. The program starts with standard input at `/dev/null`, signal mask and SIGPIPE as a Go program
//! leaves them (`std`'s `exec` sees to that), and only the descriptors 0 to 2.
//!
//! A duplicated name in the environment gets its last value, as with Go's `exec.Cmd`.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_no_new_privs;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

/// The exit code of `nbt-enter` when it could not start the program; its error is on standard error.
pub const NOT_STARTED: u8 = 127;

/// A program to start and the place to start it in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Mounts of a fresh namespace, in order; if empty, the caller's namespace is kept.
    pub mounts: Option<Vec<Mount>>,
    /// Ids to take; none keeps the caller's.
    pub ids: Option<Ids>,
    /// The booted host to run it in, in the place of `mounts`.
    #[serde(default)]
    pub inside: Option<Inside>,
    /// Whether to set `no_new_privs`, as containers do.
    pub no_new_privileges: bool,
    /// The program.
    pub program: OsString,
    /// `argv[0]`, when it is not the program's path.
    pub name: Option<OsString>,
    /// The arguments behind `argv[0]`.
    pub arguments: Vec<OsString>,
    /// The whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The working directory.
    pub directory: OsString,
}

impl Spec {
    /// Whether it asks for nothing but a program with arguments, environment and directory.
    pub(crate) fn is_plain(&self) -> bool {
        self.mounts.is_none()
            && self.ids.is_none()
            && self.inside.is_none()
            && !self.no_new_privileges
            && self.name.is_none()
    }
}

/// A way into a booted host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Inside {
    /// As a child of the runner's service that listens at this socket.
    Service(PathBuf),
    /// In the namespaces of this process.
    Container(i32),
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mount {
    /// `target` shows `source`.
    Bind {
        /// What to show.
        source: PathBuf,
        /// Where.
        target: PathBuf,
    },
    /// `target` shows `source`, read-only, without what is mounted below it.
    ReadOnly {
        /// What to show.
        source: PathBuf,
        /// Where.
        target: PathBuf,
    },
    /// `target` shows `over` on top of what it held, read-only.
    Overlay {
        /// What lies on top.
        over: PathBuf,
        /// Where.
        target: PathBuf,
    },
    /// `target` is a file system without room for a single file, owned by root, mode 0700.
    Full {
        /// Where.
        target: PathBuf,
    },
    /// `/proc` keeps accounts out of each other's processes (proc(5), `hidepid`).
    Hiding {
        /// 1: their directories are seen and not entered; 2: not seen.
        hidepid: u8,
    },
}

/// The ids of a process: real, effective and saved ones alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub groups: Vec<u32>,
}

/// The whole of `nbt-enter`: reads a [`Spec`] and becomes its program.
pub fn main() -> ExitCode {
    let Err(error) = become_program();
    eprintln!("nbt-enter: {error}");
    ExitCode::from(NOT_STARTED)
}

fn become_program() -> Result<std::convert::Infallible, String> {
    let mut text = Vec::new();
    std::io::stdin()
        .read_to_end(&mut text)
        .map_err(|e| format!("no specification on standard input: {e}"))?;
    let spec: Spec = serde_json::from_slice(&text).map_err(|e| format!("not a specification: {e}"))?;
    if let Some(Inside::Container(pid1)) = spec.inside {
        return Err(format!("nsenter: {}", crate::host::into(pid1, &spec).exec()));
    }
    if let Some(mounts) = &spec.mounts {
        enter(mounts)?;
    }
    umask(Mode::from_bits_truncate(0o022));
    if let Some(ids) = &spec.ids {
        take(ids).map_err(|e| format!("ids {ids:?}: {e}"))?;
    }
    if spec.no_new_privileges {
        set_no_new_privs().map_err(|e| format!("no_new_privs: {e}"))?;
    }
    if let Some(Inside::Service(socket)) = &spec.inside {
        return crate::host::service::stand_in(socket, &spec);
    }
    let mut command = Command::new(&spec.program);
    if let Some(name) = &spec.name {
        command.arg0(name);
    }
    command.args(&spec.arguments).env_clear().envs(spec.environment.iter().map(|(k, v)| (k, v)));
    command.current_dir(&spec.directory).stdin(Stdio::null());
    let error = command.exec();
    Err(format!("failed to start command {}: {error}", spec.program.display()))
}

fn enter(mounts: &[Mount]) -> Result<(), String> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|e| format!("a mount namespace: {e}"))?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(|e| format!("private mounts: {e}"))?;
    for one in mounts {
        let done = match one {
            Mount::Bind { source, target } => mount(Some(source), target, none, MsFlags::MS_BIND, none),
            Mount::ReadOnly { source, target } => {
                let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
                mount(Some(source), target, none, MsFlags::MS_BIND, none)
                    .and_then(|()| mount(none, target, none, again, none))
            }
            Mount::Overlay { over, target } => {
                let data = format!("lowerdir={}:{}", over.display(), target.display());
                mount(Some("overlay"), target, Some("overlay"), MsFlags::MS_RDONLY, Some(data.as_str()))
            }
            // Its root directory is the one inode.
            Mount::Full { target } => {
                let data = Some("nr_inodes=1,mode=0700");
                mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::empty(), data)
            }
            Mount::Hiding { hidepid } => {
                let data = format!("hidepid={hidepid}");
                mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), Some(data.as_str()))
            }
        };
        done.map_err(|e| format!("{one:?}: {e}"))?;
    }
    Ok(())
}

fn take(ids: &Ids) -> nix::Result<()> {
    let groups: Vec<Gid> = ids.groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(ids.uid), Gid::from_raw(ids.gid));
    setgroups(&groups)?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
}

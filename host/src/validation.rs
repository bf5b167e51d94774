//! The site's validation program: opened as root, run as its own account for a bounded time, and nothing of it left behind.

use crate::rights::Rights;
use aws_lc_rs::digest;
use nunbird_drop::surrender::{self, Failure, Ids};
use nunbird_sys::fork::{Ended, fork_into};
use nunbird_sys::kernel::{Kernel, Linux};
use nunbird_sys::offspring::{self, Adoption, Said};
use nunbird_sys::{answer, exec, process, signals, users};
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

/// The largest program, in bytes.
const MAX_PROGRAM: u64 = 16 << 20;
/// How long its processes may take to end once they are killed.
const END: Duration = Duration::from_secs(2);

/// A call of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validate {
    /// The program, which only root can have written.
    pub script: PathBuf,
    /// SHA-256 of its bytes, in hexadecimal, where the site names it.
    pub sha256: Option<String>,
    /// The account that it runs as.
    pub user: String,
    /// Its arguments, its name among them.
    pub argv: Vec<CString>,
    /// Its whole environment.
    pub environment: Vec<CString>,
    /// How long it may run.
    pub seconds: u64,
}

impl Validate {
    /// The most that it may print on each of its outputs, in bytes.
    pub const MAX_OUTPUT: usize = 64 << 10;
}

/// What it printed, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The uid that it ran as.
    pub uid: u32,
    /// Standard output.
    pub output: Vec<u8>,
    /// Standard error, up to the limit.
    pub errors: Vec<u8>,
    /// How it ended.
    pub end: End,
}

/// The end of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// By itself, with this exit code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// It did not end in time.
    Late,
    /// It printed more than [`Validate::MAX_OUTPUT`].
    TooLong,
    /// Its pipes or its process could not be read.
    Failed(String),
}

/// Everything that the program's start needs.
struct Start<'a> {
    program: File,
    call: &'a Validate,
    ids: Ids,
}

pub(crate) fn run(call: &Validate, rights: Rights) -> Result<Report, String> {
    let start = Start { program: open(call, rights)?, call, ids: account(&call.user, rights)? };
    let said = supervise(&start, rights, Duration::from_secs(call.seconds))
        .map_err(|e| format!("could not be run: {e}"))?;
    let end = match said.ended {
        Ok(Ended::Exited(code)) => End::Exited(code),
        Ok(Ended::Killed(signal)) => End::Killed(signal),
        Err(e) if e.kind() == io::ErrorKind::TimedOut => End::Late,
        Err(e) if e.kind() == io::ErrorKind::FileTooLarge => End::TooLong,
        Err(e) => End::Failed(e.to_string()),
    };
    Ok(Report { uid: start.ids.uid, output: said.output, errors: said.errors, end })
}

/// The program in a memory file that nobody can change any more: what is hashed is what runs.
///
/// The program itself need not be readable by the account that runs it.
fn open(call: &Validate, rights: Rights) -> Result<File, String> {
    let file = crate::files::open(&call.script, rights).map_err(|e| e.to_string())?;
    let mut digest = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 64 << 10];
    let name = c"nunbird-validation";
    let copy = exec::sealed_program(name, &file, MAX_PROGRAM, &mut buffer, |piece| digest.update(piece))
        .map_err(|e| format!("cannot be read: {e}"))?;
    let found: String = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    match &call.sha256 {
        Some(wanted) if !wanted.eq_ignore_ascii_case(&found) => {
            Err(format!("its SHA-256 is {found} and validation.sha256 says {wanted}"))
        }
        _ => Ok(copy),
    }
}

/// The account that the program runs as.
fn account(name: &str, rights: Rights) -> Result<Ids, String> {
    let entry =
        users::by_name(name).map_err(|e| format!("validation.user `{name}` cannot be looked up: {e}"))?;
    let entry = entry.ok_or_else(|| format!("validation.user `{name}` is not in the user database"))?;
    let runners = entry.uid == rights.caller.uid && entry.uid != 0;
    if rights.privileged && runners {
        return Err(format!(
            "validation.user `{name}` runs gitlab-runner, which could put words into its mouth"
        ));
    }
    if !rights.privileged && !runners {
        return Err(format!(
            "validation.user `{name}` must be the account itself where downscope is \"none\""
        ));
    }
    Ok(Ids { uid: entry.uid, gid: entry.gid, groups: entry.groups })
}

/// Runs the program to its end, and the end of everything that it started.
fn supervise(start: &Start<'_>, rights: Rights, patience: Duration) -> io::Result<Said> {
    let (output, output_end) = io::pipe()?;
    let (errors, errors_end) = io::pipe()?;
    // Closed by execve(2): what comes through it was said before the program began.
    let (trouble, trouble_end) = io::pipe()?;
    let trouble_end = exec::out_of_the_way(&File::from(OwnedFd::from(trouble_end)))?;
    let adoption = Adoption::begin()?;
    let parent = process::id();
    let child = fork_into(|| {
        let Err(error) = become_program(start, rights, parent, (&output_end, &errors_end));
        i32::from((&trouble_end).write_all(error.to_string().as_bytes()).is_err())
    })?;
    drop((output_end, errors_end, trouble_end));
    let said = offspring::listen(&child, [output, errors], Validate::MAX_OUTPUT, patience);
    adoption
        .end_all(start.ids.uid, END)
        .map_err(|e| io::Error::new(e.kind(), format!("its processes could not be ended: {e}")))?;
    let trouble = answer::read_to_end(trouble, Validate::MAX_OUTPUT, END)?;
    if trouble.is_empty() {
        Ok(said)
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&trouble).into_owned()))
    }
}

/// In the child: the program's ids for good, no descriptors but its own, its environment.
fn become_program(
    start: &Start<'_>,
    rights: Rights,
    parent: i32,
    (output, errors): (&io::PipeWriter, &io::PipeWriter),
) -> Result<Infallible, Failure> {
    let step = |step: &'static str| move |error: io::Error| Failure { step, error };
    exec::outputs_to(output, errors).map_err(step("dup2"))?;
    process::null_stdin().map_err(step("stdin"))?;
    process::new_session().map_err(step("setsid"))?;
    process::set_umask(0o077);
    std::env::set_current_dir("/").map_err(step("chdir"))?;
    // For where the dying parent may not signal the program.
    process::end_after(u32::try_from(start.call.seconds).unwrap_or(u32::MAX).saturating_add(1));
    process::bound_resources(start.call.seconds).map_err(step("setrlimit"))?;
    become_account(&start.ids, rights)?;
    process::die_with_parent(signals::KILL, parent).map_err(step("prctl(PR_SET_PDEATHSIG)"))?;
    if start.ids.uid != 0 {
        process::no_new_privileges().map_err(step("prctl(PR_SET_NO_NEW_PRIVS)"))?;
    }
    process::default_signals().map_err(step("signals"))?;
    exec::execute_script(&start.program, &start.call.argv, &start.call.environment).map_err(step("execveat"))
}

fn become_account(ids: &Ids, rights: Rights) -> Result<(), Failure> {
    match ids.uid {
        _ if !rights.can_change_user => surrender::stay_user(&mut Linux, ids.uid, ids.gid),
        // The site says so. There is nothing to give up but what the runner left behind.
        0 => {
            let become_root = || {
                Linux.set_groups(&[0])?;
                Linux.set_gids(0, 0, 0)?;
                Linux.set_uids(0, 0, 0)?;
                Linux.new_session_keyring().or_else(|e| match e.kind() {
                    io::ErrorKind::Unsupported => Ok(()),
                    _ => Err(e),
                })
            };
            become_root().map_err(|error| Failure { step: "becoming root", error })
        }
        _ => surrender::become_user(&mut Linux, ids),
    }
}

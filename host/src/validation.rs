//! The site's validation program: opened as root, and run by `nunbird-validate`, which leaves nothing of it behind.

use crate::rights::Rights;
use nunbird_accounts::users;
use nunbird_sys::capabilities::{self, CAP_SETGID, CAP_SETUID, Capabilities};
use nunbird_sys::fork::{Ended, fork_into};
use nunbird_sys::kernel::{Kernel, Linux};
use nunbird_sys::{answer, exec, process};
use nunbird_validation::{
    Account, MAX_ORDER, MAX_REPORT, ORDER_FD, Order, PROGRAM_FD, REPORT_FD, Report as Answer,
};
pub use nunbird_validation::{End, MAX_OUTPUT as MAX_VALIDATION_OUTPUT, Said};
use nunbird_wire::{Message, Version, layout};
use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

/// It lies beside this program.
const PROGRAM: &str = "nunbird-validate";
/// Its uid and gid, which no account has: not the decider's, the verifier's or a shepherd's.
const SUPERVISOR: u32 = 2_147_483_628;
/// How long the end of the program's processes may take beyond its own time.
const SUPERVISION: Duration = Duration::from_secs(10);
/// How long `nunbird-validate` may take to end behind its report.
const LAST_MOMENTS: Duration = Duration::from_secs(5);

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

/// What it printed, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The uid that it ran as.
    pub uid: u32,
    /// The rest, as `nunbird-validate` reports it.
    pub said: Said,
}

layout!(Validate { script, sha256, user, argv, environment, seconds });
layout!(Report { uid, said });

pub(crate) fn run(call: &Validate, rights: Rights) -> Result<Report, String> {
    let script = crate::files::open(&call.script, rights).map_err(|e| e.to_string())?;
    let account = account(&call.user, rights)?;
    let uid = account.uid;
    let order = Order {
        version: Version,
        sha256: call.sha256.clone(),
        account,
        argv: call.argv.clone(),
        environment: call.environment.clone(),
        seconds: call.seconds,
    };
    let failed = |e: &dyn std::fmt::Display| format!("{PROGRAM}: {e}");
    let program = crate::files::beside(PROGRAM, rights).map_err(|e| failed(&e))?;
    let report = supervised(&program, &order.to_bytes(), &script, order.seconds, rights);
    let said = report.map_err(|e| failed(&e))?.outcome?;
    Ok(Report { uid, said })
}

/// The account that the program runs as.
fn account(name: &str, rights: Rights) -> Result<Account, String> {
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
    Ok(Account { uid: entry.uid, gid: entry.gid, groups: entry.groups, change: rights.can_change_user })
}

/// What `nunbird-validate` reports. Whatever it does, this process waits for a bounded time and reads a bounded message.
fn supervised(
    program: &File,
    order: &[u8],
    script: &File,
    seconds: u64,
    rights: Rights,
) -> io::Result<Answer> {
    if order.len() > MAX_ORDER {
        return Err(io::ErrorKind::ArgumentListTooLong.into());
    }
    let order = exec::sealed(c"nunbird-validate", order)?;
    let (reader, writer) = io::pipe()?;
    let writer = File::from(OwnedFd::from(writer));
    let child = fork_into(|| {
        let files = [(ORDER_FD, &order), (PROGRAM_FD, script), (REPORT_FD, &writer)];
        let Err(error) = become_supervisor(program, &files, rights);
        error.raw_os_error().unwrap_or(1).clamp(1, 125)
    })?;
    drop(writer);
    let patience = Duration::from_secs(seconds).saturating_add(SUPERVISION);
    let said = answer::read_to_end(reader, MAX_REPORT, patience);
    let ended = if said.is_ok() { child.wait_at_most(LAST_MOMENTS)? } else { None };
    if ended.is_none() {
        let uid = if rights.can_change_user { SUPERVISOR } else { rights.caller.uid };
        let _already_gone = child.kill_as(uid);
        let _reaped = child.wait_at_most(LAST_MOMENTS);
    }
    match (said?, ended) {
        (said, Some(Ended::Exited(0))) => Answer::parse(&said).map_err(io::Error::other),
        (_, ended) => Err(io::Error::other(format!("it ended as {ended:?}"))),
    }
}

/// In the child: no descriptors but these, no process that may signal it, and no output but its report.
fn become_supervisor(program: &File, files: &[(RawFd, &File)], rights: Rights) -> io::Result<Infallible> {
    process::new_session()?;
    process::null_stdin()?;
    let (_, closed) = io::pipe()?;
    exec::outputs_to(&closed, &closed)?;
    exec::place(files)?;
    if rights.can_change_user {
        keep_the_change_of_ids()?;
    }
    process::default_signals()?;
    exec::execute(program, &[c"nunbird-validate".to_owned()], &[])
}

/// Takes a uid of no account's, and passes the right to change ids, and no other, through the next execve(2). Root's uid would come with every
/// capability, and the runner's with the runner's signals.
fn keep_the_change_of_ids() -> io::Result<()> {
    capabilities::keep_at_change_of_uid()?;
    Linux.set_groups(&[])?;
    Linux.set_gids(SUPERVISOR, SUPERVISOR, SUPERVISOR)?;
    Linux.set_uids(SUPERVISOR, SUPERVISOR, SUPERVISOR)?;
    let kept = (1 << CAP_SETUID) | (1 << CAP_SETGID);
    Capabilities { effective: kept, permitted: kept, inheritable: kept }.apply()?;
    capabilities::raise_ambient(CAP_SETUID)?;
    capabilities::raise_ambient(CAP_SETGID)
}

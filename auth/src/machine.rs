//! The job's machine, where it has one: `nunbird-machine` starts it before the first stage, and ends it before everything else of the job.
//!
//! That program is root's, with all that root may, and this one is root for its start alone. What the machine is to be is in the record, which
//! the decider has written; that program judges it.

use crate::context::Context;
use crate::limits::{Confines, Entry};
use crate::privilege::{Privilege, Source};
use crate::refusal::{Code, Refusal, clean, print, print_error};
use nunbird_accounts::users::UserEntry;
use nunbird_messages::{
    MAX_MACHINE_ANSWER, MAX_MACHINE_REQUEST, MachineAccount, MachineAnswer, MachineRequest, Record, Version,
};
use nunbird_sys::fork::fork_into;
use nunbird_sys::kernel::{Kernel, Linux};
use nunbird_sys::{exec, process};
use nunbird_wire::{Message, read_frame, write_frame};
use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// It lies beside this program.
const PROGRAM: &str = "nunbird-machine";
/// The number of the socket in it.
const SOCKET_FD: RawFd = 3;
/// What it may take beside the time that a machine has to be ready, and for the end of one.
const PATIENCE: Duration = Duration::from_secs(70);
/// How long it may take to end behind its answer.
const LAST_MOMENTS: Duration = Duration::from_secs(2);

/// Starts the job's machine, if it has one that has not been started.
///
/// # Errors
/// A system refusal when it does not start, after its console's last lines.
pub(crate) fn start(context: &Context<'_>, record: &Record, account: &UserEntry) -> Result<(), Refusal> {
    let Some(machine) = &record.machine else { return Ok(()) };
    let refuse = |why: &str| {
        Refusal::system(Code::Machine, "the machine for this job could not be started on this host", why)
    };
    let patience = PATIENCE.saturating_add(Duration::from_secs(machine.ready.min(600)));
    let account = MachineAccount {
        ids: record.account.clone(),
        groups: account.groups.clone(),
        home: account.home.clone(),
    };
    let request = MachineRequest::Start(record.decision_id.clone(), machine.clone(), account);
    let confines = Confines::of(context, &record.processes).map_err(|e| refuse(&e.to_string()))?;
    let entry = Entry::of(record);
    match ask(context.privilege, &request, Some(&confines), entry.as_ref(), patience)
        .map_err(|why| refuse(&why))?
    {
        MachineAnswer::Started(note) => print(&format!("nunbird: {}\n", clean(&note.replace('\n', " ")))),
        MachineAnswer::Done => {}
        MachineAnswer::Trouble(why, console) => {
            for line in console.lines().map(clean).filter(|line| !line.trim().is_empty()) {
                print_error(&format!("nunbird: console of the machine: {line}\n"));
            }
            return Err(refuse(&why));
        }
    }
    Ok(())
}

/// Ends the job's machine, if it has one, and removes all that was made for it.
///
/// # Errors
/// A system refusal when something of it is left; the record stays, so that `cleanup` can be called again.
pub(crate) fn end(privilege: Privilege, record: &Record) -> Result<(), Refusal> {
    if record.machine.is_none() {
        return Ok(());
    }
    let left = |why: String| {
        Refusal::system(Code::Machine, "the machine of this job could not be ended on this host", why)
    };
    let request = MachineRequest::End(record.decision_id.clone());
    match ask(privilege, &request, None, None, PATIENCE).map_err(left)? {
        MachineAnswer::Trouble(why, _) => Err(left(why)),
        MachineAnswer::Done | MachineAnswer::Started(_) => Ok(()),
    }
}

/// Has the program do one thing. It gets its request when it is in the job's group.
fn ask(
    privilege: Privilege,
    request: &MachineRequest,
    confines: Option<&Confines>,
    group: Option<&Entry>,
    patience: Duration,
) -> Result<MachineAnswer, String> {
    match privilege.source {
        Source::Root | Source::Setuid => {}
        Source::FileCapabilities => {
            return Err("a machine needs root, but nunbird-auth has file capabilities; make it setuid-root (chmod 4750, setcap -r)".to_owned());
        }
        Source::None => return Err("a machine needs root, but nunbird-auth has no privilege".to_owned()),
    }
    let step = |name: &'static str| move |e: io::Error| format!("{PROGRAM}: {name}: {e}");
    let program = nunbird_host::files::beside(PROGRAM, privilege.rights())?;
    let bytes = (Version, request.clone()).to_bytes();
    if bytes.len() > MAX_MACHINE_REQUEST {
        return Err(format!("{PROGRAM}: the order is too long"));
    }
    let (ours, theirs) = UnixStream::pair().map_err(step("socketpair"))?;
    let theirs = File::from(OwnedFd::from(theirs));
    let child = fork_into(|| match become_it(&program, &theirs, confines, privilege) {
        Ok(never) => match never {},
        // The parent sees that the socket ends.
        Err(_) => 1,
    });
    let child = child.map_err(step("fork"))?;
    drop(theirs);
    let answered = (|| {
        if let Some(group) = group {
            group.take(privilege, &child, 0).map_err(|refusal| refusal.detail)?;
        }
        ours.set_read_timeout(Some(patience)).map_err(step("socket"))?;
        write_frame(&ours, &bytes).map_err(step("socket"))?;
        let bytes = read_frame(&ours, MAX_MACHINE_ANSWER)
            .and_then(|bytes| bytes.ok_or(io::ErrorKind::UnexpectedEof.into()));
        let bytes = bytes.map_err(step("socket"))?;
        let (Version, answer) =
            Message::from_bytes(&bytes).map_err(|_| format!("{PROGRAM}: no answer of this version"))?;
        Ok(answer)
    })();
    drop(ours);
    let patience = if answered.is_ok() { LAST_MOMENTS } else { Duration::ZERO };
    if !matches!(child.wait_at_most(patience), Ok(Some(_))) {
        let _already_gone = child.kill_as(0);
        let _reaped = child.wait_at_most(LAST_MOMENTS);
    }
    answered
}

/// In the child: root, with the standard descriptors and the socket.
fn become_it(
    program: &File,
    socket: &File,
    confines: Option<&Confines>,
    privilege: Privilege,
) -> io::Result<Infallible> {
    process::null_stdin()?;
    // What it printed would reach gitlab-runner: it goes to a pipe without a reader.
    let (_, closed) = io::pipe()?;
    exec::outputs_to(&closed, &closed)?;
    exec::place(&[(SOCKET_FD, socket)])?;
    if let Some(confines) = confines {
        confines.take_place_of_keepers(privilege)?;
        confines.rlimits.restore()?;
    }
    Linux.set_groups(&[])?;
    Linux.set_gids(0, 0, 0)?;
    Linux.set_uids(0, 0, 0)?;
    process::default_signals()?;
    exec::execute(program, &[c"nunbird-machine".to_owned()], &[])
}

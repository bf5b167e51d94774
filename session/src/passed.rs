//! A stage on its way to the process that keeps the job's session: its files by a socket, each with its number, the order last.
//!
//! At most one of each kind, so a message has a bound. Both ends make sure that the other is root's.

use crate::order::{self, Inherited};
use crate::outputs::Outputs;
use nunbird_messages::{
    CONTROL_FD, EXIT_CODE_FD, HANDOVER_FD, Keep, LAUNCHER_FD, REPORT_FD, SCRIPT_FD, SUMMARY_FD,
};
use nunbird_sys::{exec, passing, peer};
use nunbird_wire::Message;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const OUTPUT: RawFd = 1;
const ERRORS: RawFd = 2;
/// What may come before the order.
const KINDS: [RawFd; 8] =
    [OUTPUT, ERRORS, SCRIPT_FD, EXIT_CODE_FD, LAUNCHER_FD, CONTROL_FD, REPORT_FD, SUMMARY_FD];
/// How long the other end may take over a message.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a process asks of the keeper.
#[derive(Debug)]
pub(crate) enum Request {
    /// A stage to run, with the outputs of its own.
    Stage(Box<Inherited>, Outputs),
    /// The end of the session.
    Close,
}

/// Makes sure that root is at the other end.
///
/// # Errors
/// `EPERM` for anybody else.
pub(crate) fn trust(socket: &UnixStream) -> io::Result<()> {
    match peer::uid(socket)? {
        0 => Ok(()),
        uid => {
            let why = format!("uid {uid} is at the other end, not root");
            Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
        }
    }
}

/// Sends a stage. Nothing of it stays open here.
///
/// # Errors
/// As sendmsg(2).
pub(crate) fn send(mut socket: &UnixStream, stage: Inherited) -> io::Result<()> {
    let Inherited { order, script, exit_code, summary, launcher, control, report } = stage;
    let named = [
        (OUTPUT, Some(File::from(io::stdout().as_fd().try_clone_to_owned()?))),
        (ERRORS, Some(File::from(io::stderr().as_fd().try_clone_to_owned()?))),
        (SCRIPT_FD, script),
        (EXIT_CODE_FD, exit_code),
        (LAUNCHER_FD, Some(launcher)),
        (CONTROL_FD, Some(control)),
        (REPORT_FD, Some(report)),
        (SUMMARY_FD, summary),
        (HANDOVER_FD, Some(exec::sealed(c"nunbird-session", &order.to_bytes())?)),
    ];
    for (number, file) in named.into_iter().filter_map(|(number, file)| Some((number, file?))) {
        let [byte, ..] = number.to_le_bytes();
        passing::send(socket, byte, &[&file])?;
    }
    socket.flush()
}

/// Receives what a process asks.
///
/// # Errors
/// What is wrong with it; who asks hears the end of the socket.
pub(crate) fn receive(socket: &UnixStream) -> Result<Request, String> {
    let failed = |e: io::Error| e.to_string();
    trust(socket).map_err(failed)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    socket.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    let mut files = BTreeMap::new();
    loop {
        let (byte, mut received) = passing::receive(socket.as_fd()).map_err(failed)?;
        let number = RawFd::from(byte);
        match (received.pop(), received.is_empty()) {
            (None, _) if byte == Keep::CLOSE && files.is_empty() => return Ok(Request::Close),
            (Some(order), true) if number == HANDOVER_FD => return stage(order, files),
            (Some(file), true) if KINDS.contains(&number) && !files.contains_key(&number) => {
                files.insert(number, file);
            }
            _ => return Err(format!("an unexpected message, {byte}")),
        }
    }
}

fn stage(order: File, mut files: BTreeMap<RawFd, File>) -> Result<Request, String> {
    let order = order::read(order)?;
    let mut take = |number| files.remove(&number);
    let needed = |file: Option<File>, what: &str| file.ok_or_else(|| format!("a stage without {what}"));
    let outputs =
        Outputs::of(&needed(take(OUTPUT), "standard output")?, &needed(take(ERRORS), "standard error")?);
    let stage = Inherited {
        order,
        script: take(SCRIPT_FD),
        exit_code: take(EXIT_CODE_FD),
        summary: take(SUMMARY_FD),
        launcher: needed(take(LAUNCHER_FD), "launcher")?,
        control: needed(take(CONTROL_FD), "control")?,
        report: needed(take(REPORT_FD), "report")?,
    };
    Ok(Request::Stage(Box::new(stage), outputs.map_err(|e| e.to_string())?))
}

//! The end of a PAM session that served a whole job: `cleanup` and `reap` ask its keeper (`nunbird-session`) for it.
//!
//! The keeper is root's and listens in the directory of the job records. A session without a keeper has ended already.

use crate::privilege::Privilege;
use crate::refusal::{Code, Refusal, clean, print_error};
use crate::store;
use nunbird_files::identity::acting_as;
use nunbird_messages::{Keep, Record, SessionSpan};
use nunbird_sys::{answer, peer};
use std::fmt::Display;
use std::io::{self, PipeReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The most that modules may print while a session is closed, in bytes.
const MAX_WORDS: usize = 64 << 10;
/// How long the way to the keeper may take: it waits where many have asked one that does not answer.
const CONNECT: Duration = Duration::from_secs(5);
/// What the keeper may take beyond the times that are its own, in seconds.
const REST: u64 = 10;

/// The code of a session whose processes were killed.
const LOST: Code = Code::PamSessionLost;

/// Closes the job's session, where it has one, and comes back when its keeper ends.
///
/// # Errors
/// A system refusal when the keeper is not root's or does not end in time: the record stays, so that this is tried again.
/// One that is [`lost`] when the keeper was killed before it closed the session.
pub(crate) fn close(privilege: Privilege, record: &Record) -> Result<(), Refusal> {
    let Some(pam) = record.pam.as_ref().filter(|pam| pam.session == SessionSpan::Job) else {
        return Ok(());
    };
    let socket = store::session_socket(record);
    let patience = Duration::from_secs(Keep::GRACE + pam.timeout + REST);
    let keeper = match reach(privilege, &socket).map_err(|e| refused(&socket, &e))? {
        Keeper::Listens(keeper) => keeper,
        Keeper::NeverWas => return Ok(()),
        // The host's end was the session's, too.
        Keeper::Gone if store::now()?.boot_id != record.boot_id => return Ok(()),
        Keeper::Gone => return Err(killed(&socket)),
    };
    let said = ask(keeper, patience).map_err(|e| refused(&socket, &e))?;
    let Some(mut said) = said else { return Err(killed(&socket)) };
    let closed = said.pop_if(|last| *last == Keep::CLOSED).is_some();
    for line in clean(&String::from_utf8_lossy(&said)).lines() {
        print_error(&format!("{line}\n"));
    }
    if !closed {
        print_error("nunbird: warning: the PAM session of this job was not closed as it should be\n");
    }
    Ok(())
}

/// The refusal as a value where the session is lost: closing it cannot be tried again, so the job's record goes.
///
/// # Errors
/// Every other refusal, as it is.
pub(crate) fn lost(refusal: Refusal) -> Result<Refusal, Refusal> {
    if refusal.code == LOST { Ok(refusal) } else { Err(refusal) }
}

/// What is at a keeper's socket.
enum Keeper {
    Listens(UnixStream),
    /// It has removed its socket before it closed the session, or there was no session.
    NeverWas,
    /// It ended without either.
    Gone,
}

/// The way to the keeper. Of one that is gone nothing is left then.
fn reach(privilege: Privilege, socket: &Path) -> io::Result<Keeper> {
    let keeper = privilege.keeper();
    acting_as(keeper, || match peer::connect(socket, CONNECT) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Keeper::NeverWas),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(socket).map(|()| Keeper::Gone)
        }
        Ok(stream) if peer::uid(&stream)? != keeper.uid => Err(io::ErrorKind::PermissionDenied.into()),
        other => other.map(Keeper::Listens),
    })?
}

/// Asks for the end, and listens until it has come; none where the keeper was killed before it heard.
fn ask(mut keeper: UnixStream, patience: Duration) -> io::Result<Option<Vec<u8>>> {
    match keeper.write_all(&[Keep::CLOSE]) {
        // It has just ended by itself.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(Some(vec![Keep::CLOSED])),
        other => other?,
    }
    match answer::read_to_end(PipeReader::from(OwnedFd::from(keeper)), MAX_WORDS, patience) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(None),
        other => other.map(Some),
    }
}

fn killed(socket: &Path) -> Refusal {
    let message = "the PAM session of this job was killed, and nothing has closed it";
    let detail = format!(
        "no process listens at {}: the two processes of root's that held the session have ended without closing it. On control \
         groups of version 2 the account of the runner can kill them where its service has Delegate=yes and User= \
         (cgroup.kill), and the job's user can where pam_systemd has registered the session (loginctl kill-session); what the \
         modules of PAM do at the end of a session is to be done by hand",
        socket.display()
    );
    Refusal::system(LOST, message, detail)
}

fn refused(socket: &Path, detail: &dyn Display) -> Refusal {
    let message = "the PAM session of this job could not be closed on this host";
    Refusal::system(Code::PamSessionOpen, message, format!("{}: {detail}", socket.display()))
}

//! The end of a PAM session that served a whole job: `cleanup` and `reap` ask its keeper (`nunbird-session`) for it.
//!
//! The keeper is root's and listens in the directory of the job records. A session without a keeper has ended already.

use crate::privilege::Privilege;
use crate::refusal::{Code, Refusal, clean, print_error};
use crate::store;
use nunbird_handover::{Keep, Record, SessionSpan};
use nunbird_sys::identity::FileIdentity;
use nunbird_sys::{answer, peer};
use std::fmt::Display;
use std::io::{self, PipeReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The most that modules may say while a session is closed, in bytes.
const MAX_WORDS: usize = 64 << 10;
/// How long the way to the keeper may take: it waits where many have asked one that does not answer.
const CONNECT: Duration = Duration::from_secs(5);
/// What the keeper may take beyond the times that are its own, in seconds.
const REST: u64 = 10;

/// Closes the job's session, where it has one, and comes back when its keeper ends.
///
/// # Errors
/// A system refusal when the keeper is not root's or does not end in time: the record stays, so that this is tried again.
pub(crate) fn close(privilege: Privilege, record: &Record) -> Result<(), Refusal> {
    let Some(pam) = record.pam.as_ref().filter(|pam| pam.session == SessionSpan::Job) else {
        return Ok(());
    };
    let socket = store::session_socket(record);
    let patience = Duration::from_secs(Keep::GRACE + pam.timeout + REST);
    let Some(keeper) = reach(privilege, &socket).map_err(|e| refused(&socket, &e))? else { return Ok(()) };
    let mut said = ask(keeper, patience).map_err(|e| refused(&socket, &e))?;
    let closed = said.pop_if(|last| *last == Keep::CLOSED).is_some();
    for line in clean(&String::from_utf8_lossy(&said)).lines() {
        print_error(&format!("{line}\n"));
    }
    if !closed {
        print_error("nunbird: warning: the PAM session of this job was not closed as it should be\n");
    }
    Ok(())
}

/// The way to the keeper; none where there is none any more, of whom nothing is left then.
fn reach(privilege: Privilege, socket: &Path) -> io::Result<Option<UnixStream>> {
    let keeper = privilege.keeper();
    let _identity = FileIdentity::assume(keeper.uid, keeper.gid)?;
    match peer::connect(socket, CONNECT) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(socket).map(|()| None),
        Ok(stream) if peer::uid(&stream)? != keeper.uid => Err(io::ErrorKind::PermissionDenied.into()),
        other => other.map(Some),
    }
}

/// Asks for the end, and listens until it has come.
fn ask(mut keeper: UnixStream, patience: Duration) -> io::Result<Vec<u8>> {
    match keeper.write_all(&[Keep::CLOSE]) {
        // It has just ended by itself.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(vec![Keep::CLOSED]),
        other => other?,
    }
    match answer::read_to_end(PipeReader::from(OwnedFd::from(keeper)), MAX_WORDS, patience) {
        // It was killed before it heard: nobody is left to wait for, and nobody has closed the session.
        Err(e) if e.kind() == io::ErrorKind::ConnectionReset => Ok(Vec::new()),
        other => other,
    }
}

fn refused(socket: &Path, detail: &dyn Display) -> Refusal {
    let message = "the PAM session of this job could not be closed on this host";
    Refusal::system(Code::PamSessionOpen, message, format!("{}: {detail}", socket.display()))
}

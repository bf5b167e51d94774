//! The process that reads what strangers wrote, and the way of the decider to it.
//!
//! It believes nothing and is believed as far as the checks of its messages go: one that was taken over could claim another GitLab user, never
//! root or an account that the floor forbids (docs/threat-model.md).

use crate::sandbox::{self, Part};
use nunbird_host::refusal::{Code, Refusal};
use nunbird_judge::questions::{Asked, ProjectsMessage};
use nunbird_policy::ProjectsAnswer;
use nunbird_requests::{PEER_FD, RESPONSE_FD};
use nunbird_started::inherited;
use nunbird_token::{MAX_MESSAGE, MAX_RESPONSE};
use nunbird_wire::{Message, read_frame, write_frame};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;
use zeroize::Zeroizing;

/// The longest question: a keys file of 1 MiB for each of some servers, or a server's answer, in bytes.
const MAX_QUESTION: usize = 64 << 20;
/// How long the decider waits for an answer; a sound verifier needs some milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// The verifier's whole life.
pub(crate) fn serve() -> ExitCode {
    let taken = inherited::take(PEER_FD).and_then(|socket| Ok((socket, inherited::take(RESPONSE_FD)?)));
    let Ok((socket, response)) = taken else { return ExitCode::FAILURE };
    match sandbox::enter(Part::Verifier).and_then(|()| answer(&socket, response)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn answer(socket: &File, response: File) -> io::Result<()> {
    let mut bytes = None;
    while let Some(question) = read_frame(socket, MAX_QUESTION)? {
        let asked = Asked::from_bytes(&question).map_err(io::Error::other)?;
        if bytes.is_none() {
            bytes = Some(read(&response)?);
        }
        // Step 16.
        write_frame(socket, &asked.answer(bytes.as_ref().map_or(&[], |bytes| bytes)))?;
    }
    Ok(())
}

/// The job response. Nothing is answered by a longer one, which `nunbird-auth` has refused before.
fn read(response: &File) -> io::Result<Zeroizing<Vec<u8>>> {
    // Room for all of it at once: growing would leave copies behind that are never wiped.
    let size = response.metadata()?.len().min(MAX_RESPONSE);
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 64));
    response.take(MAX_RESPONSE + 1).read_to_end(&mut bytes)?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= MAX_RESPONSE => Ok(bytes),
        _ => Err(io::ErrorKind::FileTooLarge.into()),
    }
}

/// The decider's way to the verifier.
#[derive(Debug)]
pub(crate) struct Verifier(UnixStream);

impl Verifier {
    /// Takes over the socket.
    pub(crate) fn take() -> io::Result<Self> {
        let socket = UnixStream::from(OwnedFd::from(inherited::take(PEER_FD)?));
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Verifier(socket))
    }

    /// The bytes of the verifier's answer.
    ///
    /// # Errors
    /// A system refusal when the verifier does anything but answer in time.
    pub(crate) fn ask(&self, asked: &Asked) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let step = |e: io::Error| failed(&format!("no answer from the verifier: {e}"));
        write_frame(&self.0, &asked.to_bytes()).map_err(step)?;
        let answer = read_frame(&self.0, MAX_MESSAGE).map_err(step)?;
        answer.map(Zeroizing::new).ok_or_else(|| failed(&"the verifier ended without an answer"))
    }

    /// What a user's file says.
    ///
    /// # Errors
    /// As [`Verifier::ask`].
    pub(crate) fn word(&self, asked: &Asked) -> Result<ProjectsAnswer, Refusal> {
        ProjectsMessage::from_bytes(&self.ask(asked)?)
            .map(|ProjectsMessage(word)| word)
            .map_err(|_| malformed())
    }
}

pub(crate) fn malformed() -> Refusal {
    failed(&"the verifier's answer is malformed")
}

pub(crate) fn failed(detail: &dyn std::fmt::Display) -> Refusal {
    Refusal::system(Code::Worker, "the job's identity could not be checked on this host", detail)
}

//! The worker: a forked child that alone touches what strangers wrote.
//!
//! It decodes the job response, the keys and the tokens, and answers with one message of fixed layout. The
//! parent believes the answer as far as the message's checks go; a worker that was taken over could claim
//! another GitLab user, never root or an account that the invariants forbid (see docs/threat-model.md).

use crate::privilege::{NOBODY_AT_ALL, Privilege};
use crate::refusal::{Code, Refusal};
use crate::sandbox;
use nunbird_judge::evidence::{self, Evidence, JobEvidence};
use nunbird_policy::{GitLabServer, Policy};
use nunbird_sys::fork::{Ended, fork_into};
use nunbird_sys::{answer, process};
use nunbird_token::{Admitted, JobToken, JobUser, MAX_MESSAGE, Rejection, Source};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long the parent waits for the answer; a sound worker needs a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks a fresh worker who the job belongs to, by its id token.
///
/// # Errors
/// A system refusal when the worker does anything but answer in time and end well.
pub(crate) fn ask(
    evidence: &Evidence<'_>,
    policy: &Policy,
    privilege: Privilege,
) -> Result<Result<Admitted, Rejection>, Refusal> {
    let bytes = answer_of(privilege, || nunbird_token::encode(&evidence::by_id_tokens(evidence, policy)))?;
    match nunbird_token::decode(&bytes).map_err(|_| failed(&"the worker's answer is malformed"))? {
        Ok(admitted) if admitted.source != Source::IdToken => {
            Err(failed(&"the worker answered another question"))
        }
        other => Ok(other),
    }
}

/// Asks a fresh worker for the job's own token, and which of these servers it is for.
///
/// # Errors
/// As [`ask`].
pub(crate) fn find_job_token(
    response: &[u8],
    repositories: &[Vec<String>],
    privilege: Privilege,
) -> Result<Result<JobToken, Rejection>, Refusal> {
    let bytes = Zeroizing::new(answer_of(privilege, || {
        nunbird_token::encode_job_token(&nunbird_token::job_token(response, repositories))
    })?);
    nunbird_token::decode_job_token(&bytes).map_err(|_| failed(&"the worker's answer is malformed"))
}

/// Asks a fresh worker what the server's answer says.
///
/// # Errors
/// As [`ask`].
pub(crate) fn judge_job_answer(
    evidence: &JobEvidence<'_>,
    policy: &Policy,
    privilege: Privilege,
) -> Result<Result<Admitted, Rejection>, Refusal> {
    let bytes = answer_of(privilege, || nunbird_token::encode(&evidence::by_job_answer(evidence, policy)))?;
    let answer = nunbird_token::decode(&bytes).map_err(|_| failed(&"the worker's answer is malformed"))?;
    // A worker that was taken over must not turn one server's job into another's.
    match answer {
        Ok(admitted) if admitted.server != evidence.server || admitted.source != Source::JobToken => {
            Err(failed(&"the worker answered another question"))
        }
        other => Ok(other),
    }
}

/// Asks a fresh worker what a server's answer says about the user of the job.
///
/// # Errors
/// As [`ask`].
pub(crate) fn judge_job_user(
    response: &[u8],
    answer: &[u8],
    server: &GitLabServer,
    privilege: Privilege,
) -> Result<Result<JobUser, Rejection>, Refusal> {
    let bytes = answer_of(privilege, || {
        nunbird_token::encode_job_user(&evidence::job_user(response, answer, server))
    })?;
    nunbird_token::decode_job_user(&bytes).map_err(|_| failed(&"the worker's answer is malformed"))
}

fn failed(detail: &dyn std::fmt::Display) -> Refusal {
    Refusal::system(Code::Worker, "the job's identity could not be checked on this host", detail)
}

/// Forks a worker, which gives up everything, then thinks, then sends its answer.
fn answer_of(privilege: Privilege, think: impl FnOnce() -> Vec<u8>) -> Result<Vec<u8>, Refusal> {
    let (reader, writer) = io::pipe().map_err(|e| failed(&format!("pipe: {e}")))?;
    let child = fork_into(|| i32::from(live(privilege, &writer, think).is_err()))
        .map_err(|e| failed(&format!("fork: {e}")))?;
    drop(writer);
    let answer = answer::read_to_end(reader, MAX_MESSAGE, PATIENCE);
    if answer.is_err() {
        // It may hang, and must not outlive the question. Its own alarm ends it where this is not allowed.
        let _already_gone = child.kill_as(NOBODY_AT_ALL);
    }
    let ended = child.wait().map_err(|e| failed(&format!("wait: {e}")))?;
    let bytes = answer.map_err(|e| failed(&format!("no answer from the worker: {e}")))?;
    match ended {
        Ended::Exited(0) => Ok(bytes),
        other => Err(failed(&format!("the worker ended badly: {other:?}"))),
    }
}

/// The worker's whole life.
fn live(privilege: Privilege, pipe: &io::PipeWriter, think: impl FnOnce() -> Vec<u8>) -> io::Result<()> {
    process::close_all_but(pipe.as_raw_fd())?;
    sandbox::enter(privilege)?;
    let mut pipe = pipe;
    pipe.write_all(&think())
}

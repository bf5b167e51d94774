//! The worker: a forked child that alone touches what strangers wrote.
//!
//! It decodes the job response, the keys and the tokens, and answers with one message of fixed layout. The
//! parent believes the answer as far as the message's checks go; a worker that was taken over could claim
//! another GitLab user, never root or an account that the invariants forbid (see docs/threat-model.md).

use crate::privilege::Privilege;
use crate::refusal::{Code, Refusal};
use crate::sandbox;
use nunbird_policy::{Algorithm, BUILDS_VARIABLE, GitLabServer, Policy};
use nunbird_sys::fork::{Ended, fork_into};
use nunbird_sys::{answer, process};
use nunbird_token::{
    Admitted, JobQuestion, JobToken, KEYS_VERSION, KeysFile, MAX_KEYS, MAX_MESSAGE, Question, Rejection,
    Server, Source,
};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long the parent waits for the answer; a sound worker needs a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the worker judges, as bytes.
#[derive(Debug)]
pub(crate) struct Evidence<'a> {
    pub(crate) response: &'a [u8],
    /// The content of each server's keys file, in the order of the policy; empty where there is none.
    pub(crate) keys: &'a [Vec<u8>],
    /// Seconds since the epoch.
    pub(crate) now: u64,
}

/// What the worker judges where the server was asked by the job's own token.
#[derive(Debug)]
pub(crate) struct JobEvidence<'a> {
    pub(crate) response: &'a [u8],
    /// The server's answer.
    pub(crate) answer: &'a [u8],
    /// Index of the server.
    pub(crate) server: usize,
    /// Seconds since the epoch.
    pub(crate) now: u64,
}

/// Asks a fresh worker who the job belongs to, by its id token.
///
/// # Errors
/// A system refusal when the worker does anything but answer in time and end well.
pub(crate) fn ask(
    evidence: &Evidence<'_>,
    policy: &Policy,
    privilege: Privilege,
) -> Result<Result<Admitted, Rejection>, Refusal> {
    let bytes = answer_of(privilege, || {
        let servers: Vec<Server> =
            policy.gitlab.iter().zip(evidence.keys).map(|(server, keys)| known(server, keys)).collect();
        let answer = nunbird_token::admit(&Question {
            response: evidence.response,
            token_variables: &policy.identity.token_variables,
            servers: &servers,
            now: evidence.now,
            clock_skew: policy.identity.clock_skew,
            account_variable: account_variable(policy),
            builds_variable: builds_variable(policy),
        });
        let no_keys = servers.iter().all(|server| server.keys.is_empty());
        nunbird_token::encode(&answer.map_err(|rejection| match rejection {
            // Without a token no key would help, and the job token may.
            Rejection::Response | Rejection::NoToken | Rejection::Empty => rejection,
            _ if no_keys => Rejection::Keys,
            _ => rejection,
        }))
    })?;
    match nunbird_token::decode(&bytes).map_err(|_| failed(&"the worker's answer is malformed"))? {
        Ok(admitted) if admitted.source != Source::IdToken => {
            Err(failed(&"the worker answered another question"))
        }
        other => Ok(other),
    }
}

/// Asks a fresh worker for the job's own token.
///
/// # Errors
/// As [`ask`].
pub(crate) fn find_job_token(
    response: &[u8],
    policy: &Policy,
    privilege: Privilege,
) -> Result<Result<JobToken, Rejection>, Refusal> {
    let urls: Vec<String> = policy.gitlab.iter().map(|server| server.url.clone()).collect();
    let bytes = Zeroizing::new(answer_of(privilege, || {
        nunbird_token::encode_job_token(&nunbird_token::job_token(response, &urls))
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
    let server = policy.gitlab.get(evidence.server);
    let bytes = answer_of(privilege, || {
        let answer = nunbird_token::admit_by_job_token(&JobQuestion {
            response: evidence.response,
            answer: evidence.answer,
            server: evidence.server,
            url: server.map_or("", |server| server.url.as_str()),
            runner_ids: server.map_or(&[], |server| server.runner_ids.as_slice()),
            now: evidence.now,
            account_variable: account_variable(policy),
            builds_variable: builds_variable(policy),
        });
        nunbird_token::encode(&answer)
    })?;
    let answer = nunbird_token::decode(&bytes).map_err(|_| failed(&"the worker's answer is malformed"))?;
    // A worker that was taken over must not turn one server's job into another's.
    match answer {
        Ok(admitted) if admitted.server != evidence.server || admitted.source != Source::JobToken => {
            Err(failed(&"the worker answered another question"))
        }
        other => Ok(other),
    }
}

fn account_variable(policy: &Policy) -> Option<&str> {
    policy.validation.as_ref()?.user_variable.as_deref()
}

fn builds_variable(policy: &Policy) -> Option<&str> {
    policy.directories.user_builds_dir.then_some(BUILDS_VARIABLE)
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
        let _already_gone = child.kill_as(sandbox::NOBODY_AT_ALL);
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
    sandbox::enter(privilege.source.is_privileged())?;
    let mut pipe = pipe;
    pipe.write_all(&think())
}

/// A server with the keys of its file; one that is not exactly as `nunbird-keys` writes it holds none.
fn known(server: &GitLabServer, file: &[u8]) -> Server {
    let keys = serde_json::from_slice::<KeysFile>(file)
        .ok()
        .filter(|f| f.version == KEYS_VERSION && f.server == server.name && f.issuer == server.issuer)
        .map(|f| f.keys)
        .filter(|keys| keys.len() <= MAX_KEYS)
        .unwrap_or_default();
    let name = |algorithm: &Algorithm| match algorithm {
        Algorithm::Rs256 => "RS256",
        Algorithm::Es256 => "ES256",
        Algorithm::Es384 => "ES384",
    };
    Server {
        issuer: server.issuer.clone(),
        audience: server.audience.clone(),
        algorithms: server.algorithms.iter().map(name).collect(),
        runner_ids: server.runner_ids.clone(),
        keys_max_age: server.keys_max_age,
        keys,
    }
}

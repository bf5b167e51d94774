//! What strangers wrote, judged: job responses, tokens, keys, a server's answer. Pure.

use crate::questions::{ByAnswer, ByTokens};
use nunbird_policy::{GitLabServer, Policy};
use nunbird_token::{Admitted, JobUser, Rejection};

/// What an identity by id token is judged by, as bytes.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// `JOB_RESPONSE_FILE`.
    pub response: &'a [u8],
    /// The content of each server's keys file, in the order of the policy; empty where there is none.
    pub keys: &'a [Vec<u8>],
    /// Seconds since the epoch.
    pub now: u64,
}

/// What is judged where the server was asked by the job's own token.
#[derive(Debug)]
pub struct JobEvidence<'a> {
    /// `JOB_RESPONSE_FILE`.
    pub response: &'a [u8],
    /// The server's answer.
    pub answer: &'a [u8],
    /// Index of the server.
    pub server: usize,
    /// Seconds since the epoch.
    pub now: u64,
}

/// Who the job belongs to, by its id tokens.
///
/// # Errors
/// The rejection of the token that came furthest.
pub fn by_id_tokens(evidence: &Evidence<'_>, policy: &Policy) -> Result<Admitted, Rejection> {
    ByTokens::of(policy, evidence.keys, evidence.now).answer(evidence.response)
}

/// What a server's answer says about the user of the job.
///
/// # Errors
/// As [`nunbird_token::job_user`].
pub fn job_user(response: &[u8], answer: &[u8], server: &GitLabServer) -> Result<JobUser, Rejection> {
    crate::questions::job_user(response, answer, &server.runner_ids)
}

/// Who the job belongs to, by the server's answer to its token.
///
/// # Errors
/// As [`nunbird_token::admit_by_job_token`].
pub fn by_job_answer(evidence: &JobEvidence<'_>, policy: &Policy) -> Result<Admitted, Rejection> {
    ByAnswer::of(policy, evidence.answer, evidence.server, evidence.now).answer(evidence.response)
}

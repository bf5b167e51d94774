//! The server's answer about the user of a running job, obtained with the job's own token, for jobs
//! whose identity is already verified.
//!
//! No claim of an id token contains the kind of a user. The entity of the job does (`user.bot`,
//! `user.state`; docs.gitlab.com/api/jobs, docs.gitlab.com/api/users), and it must belong to this
//! job.

use crate::Rejection;
use crate::admit::check_runner;
use crate::claims::is_plain;
use crate::job_token::{JobIds, check_binding};
use crate::response::Response;
use serde::Deserialize;

/// The user of a running job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobUser {
    /// GitLab's id of the user, not 0.
    pub id: u64,
    /// Login; never empty.
    pub username: String,
    /// Whether it is a bot; `None` if the server does not report it.
    pub bot: Option<bool>,
    /// `active`, `blocked`, …, never empty; `None` if the server does not report it.
    pub state: Option<String>,
}

/// The input for checking an answer.
#[derive(Debug)]
pub struct UserQuestion<'a> {
    /// The bytes of `JOB_RESPONSE_FILE`.
    pub response: &'a [u8],
    /// The server's answer.
    pub answer: &'a [u8],
    /// If not empty, the runner must be one of these.
    pub runner_ids: &'a [u64],
}

/// The index of the only server in such a question.
const ASKED: usize = 0;

/// The part of GitLab's `Job` entity that is needed here. Everything else in it is skipped.
#[derive(Deserialize)]
struct Answer {
    id: u64,
    status: String,
    user: User,
    pipeline: Pipeline,
    #[serde(default)]
    runner: Option<Runner>,
}

#[derive(Deserialize)]
struct User {
    id: u64,
    username: String,
    #[serde(default)]
    bot: Option<bool>,
    #[serde(default)]
    state: Option<String>,
}

#[derive(Deserialize)]
struct Pipeline {
    id: u64,
    project_id: u64,
}

#[derive(Deserialize)]
struct Runner {
    id: u64,
}

/// Checks the server's answer. It returns the user that the server names, whatever the response
/// contains: the caller compares.
///
/// # Errors
/// [`Rejection::Response`]; [`Rejection::JobAnswer`] for anything but GitLab's entity of a running
/// job; [`Rejection::OtherJob`] if it belongs to another job; [`Rejection::OtherRunner`].
pub fn job_user(question: &UserQuestion<'_>) -> Result<JobUser, Rejection> {
    let response = Response::parse(question.response).ok_or(Rejection::Response)?;
    // serde reads an array into a struct as well.
    if !question.answer.trim_ascii_start().starts_with(b"{") {
        return Err(Rejection::JobAnswer);
    }
    let answer: Answer = serde_json::from_slice(question.answer).map_err(|_| Rejection::JobAnswer)?;
    let User { id, username, bot, state } = answer.user;
    let plain = |text: &String| !text.is_empty() && is_plain(text);
    let ids = [answer.id, id, answer.pipeline.id, answer.pipeline.project_id];
    if !plain(&username) || !state.iter().all(plain) || ids.contains(&0) || answer.status != "running" {
        return Err(Rejection::JobAnswer);
    }
    let ids = JobIds {
        job: answer.id,
        project: answer.pipeline.project_id,
        pipeline: answer.pipeline.id,
        user: None,
    };
    check_binding(&ids, &response.job_info, response.id)?;
    check_runner(ASKED, question.runner_ids, answer.runner.map(|runner| runner.id))?;
    Ok(JobUser { id, username, bot, state })
}

#[cfg(test)]
#[path = "job_user_tests.rs"]
mod tests;

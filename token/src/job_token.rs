//! Identity by the job's own token, for jobs without `id_tokens:`.
//!
//! The token goes to the GitLab server that issued it (`GET /api/v4/job`,
//! docs.gitlab.com/api/jobs), whose answer over verified TLS names job, project and user. This file
//! finds the token and checks the answer: it must belong to this job, as an id token must.

use crate::admit::check_runner;
use crate::claims::{fork_by_pipeline, is_plain};
use crate::place::servers_of;
use crate::response::{JobInfo, Response};
use crate::{Admitted, Bound, Rejection, Source};
use serde::Deserialize;
use std::path::{Component, Path, PathBuf};

/// The longest job token, in bytes. Since GitLab 18 it may be a JWT of some kilobytes.
pub const MAX_JOB_TOKEN: usize = 8 << 10;
/// The longest answer, in bytes.
pub const MAX_JOB_ANSWER: u64 = 1 << 20;

/// The timeout in seconds that gitlab-runner uses for a job whose server sends none.
const DEFAULT_LIFE: u64 = 7200;
/// The shortest and longest validity of an identity, in seconds: GitLab's shortest and longest
/// timeout of a job.
const LIFE: std::ops::RangeInclusive<u64> = 600..=30 * 24 * 3600;

/// A job token, and the server to send it to.
#[derive(Clone, PartialEq, Eq)]
pub struct JobToken {
    /// Index into the servers.
    pub server: usize,
    /// Printable ASCII without spaces, at most [`MAX_JOB_TOKEN`].
    pub token: String,
}

impl std::fmt::Debug for JobToken {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobToken").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Finds the job's token, and the server of its repository, by the URLs of each; with only one
/// server, that one.
///
/// # Errors
/// [`Rejection::Response`] and [`Rejection::NoToken`].
pub fn job_token(response: &[u8], servers: &[Vec<String>]) -> Result<JobToken, Rejection> {
    let response = Response::parse(response).ok_or(Rejection::Response)?;
    let shape = |b: u8| b.is_ascii_graphic();
    if response.token.is_empty() || response.token.len() > MAX_JOB_TOKEN || !response.token.bytes().all(shape)
    {
        return Err(Rejection::NoToken);
    }
    let places: Vec<&[String]> = servers.iter().map(Vec::as_slice).collect();
    let server = match (&servers_of(&response.git_info.repo_url, &places)[..], servers) {
        ([index], _) => *index,
        (_, [_]) => 0,
        _ => return Err(Rejection::NoToken),
    };
    Ok(JobToken { server, token: response.token })
}

/// The input for checking an answer.
#[derive(Debug)]
pub struct JobQuestion<'a> {
    /// The bytes of `JOB_RESPONSE_FILE`.
    pub response: &'a [u8],
    /// The server's answer.
    pub answer: &'a [u8],
    /// Index of the server that sent it.
    pub server: usize,
    /// Its URL, without a slash at the end.
    pub url: &'a str,
    /// If not empty, the runner must be one of these.
    pub runner_ids: &'a [u64],
    /// Seconds since the epoch.
    pub now: u64,
    /// The CI variable in which a user may name an account.
    pub account_variable: Option<&'a str>,
    /// The CI variable in which a user may name a directory for builds.
    pub builds_variable: Option<&'a str>,
}

/// The part of GitLab's `Job` entity that identifies a job. Everything else in it is skipped.
#[derive(Deserialize)]
struct Answer {
    id: u64,
    status: String,
    #[serde(rename = "ref")]
    git_ref: String,
    tag: bool,
    web_url: String,
    user: User,
    pipeline: Pipeline,
    #[serde(default)]
    runner: Option<Runner>,
}

#[derive(Deserialize)]
struct User {
    id: u64,
    username: String,
}

#[derive(Deserialize)]
struct Pipeline {
    id: u64,
    project_id: u64,
    #[serde(default)]
    source: Option<String>,
}

#[derive(Deserialize)]
struct Runner {
    id: u64,
}

/// Checks the server's answer.
///
/// # Errors
/// [`Rejection::Response`]; [`Rejection::JobAnswer`] for anything but GitLab's entity of a running
/// job on this server; [`Rejection::OtherJob`] if it belongs to another job.
pub fn admit_by_job_token(question: &JobQuestion<'_>) -> Result<Admitted, Rejection> {
    let response = Response::parse(question.response).ok_or(Rejection::Response)?;
    // serde reads an array into a struct as well.
    if !question.answer.trim_ascii_start().starts_with(b"{") {
        return Err(Rejection::JobAnswer);
    }
    let answer: Answer = serde_json::from_slice(question.answer).map_err(|_| Rejection::JobAnswer)?;
    let project = project_of(&answer, question.url).ok_or(Rejection::JobAnswer)?.to_owned();
    let (namespace, _) = project.rsplit_once('/').ok_or(Rejection::JobAnswer)?;
    let texts = [&answer.user.username, &answer.git_ref, &answer.web_url];
    let source = answer.pipeline.source.as_ref();
    let plain = texts.into_iter().chain(source).all(|text| !text.is_empty() && is_plain(text));
    let ids = [answer.id, answer.user.id, answer.pipeline.id, answer.pipeline.project_id];
    if !plain || ids.contains(&0) || answer.status != "running" {
        return Err(Rejection::JobAnswer);
    }
    let ids = JobIds {
        job: answer.id,
        project: answer.pipeline.project_id,
        pipeline: answer.pipeline.id,
        user: Some(answer.user.id),
    };
    check_binding(&ids, &response.job_info, response.id)?;
    check_runner(question.server, question.runner_ids, answer.runner.as_ref().map(|runner| runner.id))?;
    let timeout = response.runner_info.timeout.filter(|seconds| *seconds != 0).unwrap_or(DEFAULT_LIFE);
    let life = timeout.clamp(*LIFE.start(), *LIFE.end());
    Ok(Admitted {
        server: question.server,
        source: Source::JobToken,
        expires_at: question.now.saturating_add(life),
        job_id: answer.id,
        pipeline_id: answer.pipeline.id,
        project_id: answer.pipeline.project_id,
        user_id: answer.user.id,
        runner_id: answer.runner.map(|runner| runner.id).filter(|id| *id != 0),
        user_email: None,
        access_level: None,
        groups: None,
        fork: fork_by_pipeline(answer.pipeline.source.as_deref(), &answer.git_ref),
        identities: Vec::new(),
        namespace_path: namespace.to_owned(),
        namespace_id: None,
        project_dir: response.project_dir().unwrap_or_else(|| PathBuf::from(&project)),
        project_path: project,
        ref_type: Some(if answer.tag { "tag" } else { "branch" }.to_owned()),
        ref_protected: None,
        pipeline_source: answer.pipeline.source,
        environment: None,
        environment_protected: None,
        queued: response.job_info.queued(),
        containers: crate::Containers::of(&response),
        requested_account: question.account_variable.and_then(|name| response.requested_account(name)),
        requested_builds_dir: question.builds_variable.and_then(|name| response.requested_builds_dir(name)),
        user_login: answer.user.username,
        git_ref: answer.git_ref,
    })
}

/// The project's full path, from the page of the job: `<server>/<project>/-/jobs/<id>`.
fn project_of<'a>(answer: &'a Answer, url: &str) -> Option<&'a str> {
    let rest = answer.web_url.strip_prefix(url)?.strip_prefix('/')?;
    let project = rest.strip_suffix(&format!("/-/jobs/{}", answer.id))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.');
    let normal = Path::new(project).components().all(|c| matches!(c, Component::Normal(_)));
    (project.chars().all(plain) && normal && !["//", "/-/", ".."].iter().any(|odd| project.contains(odd)))
        .then_some(project)
}

/// The ids in an answer of the server.
pub(crate) struct JobIds {
    pub(crate) job: u64,
    pub(crate) project: u64,
    pub(crate) pipeline: u64,
    /// `None` if the caller compares the user.
    pub(crate) user: Option<u64>,
}

/// Compares the ids in an answer with the job that the runner got.
///
/// # Errors
/// [`Rejection::OtherJob`].
pub(crate) fn check_binding(answer: &JobIds, info: &JobInfo, job_id: u64) -> Result<(), Rejection> {
    let sent = |id: Option<u64>| id.filter(|id| *id != 0);
    let fails = if answer.job != job_id {
        Some(Bound::Job)
    } else if answer.project != info.project_id {
        Some(Bound::Project)
    } else if sent(info.pipeline_id).is_some_and(|id| id != answer.pipeline) {
        Some(Bound::Pipeline)
    } else if sent(info.user_id).zip(answer.user).is_some_and(|(a, b)| a != b) {
        Some(Bound::User)
    } else {
        None
    };
    fails.map_or(Ok(()), |bound| Err(Rejection::OtherJob(bound)))
}

#[cfg(test)]
#[path = "job_token_tests.rs"]
mod tests;

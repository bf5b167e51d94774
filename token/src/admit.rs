//! The question that the worker answers: is there a token that proves which user this job belongs
//! to?

use crate::claims::{Claims, Flag, ProviderIdentity};
use crate::place::servers_of;
use crate::{Admitted, Bound, Rejection, Response, Source, StoredKey, verify};
use std::path::PathBuf;

/// The longest validity of a token from its issue, in seconds: GitLab's longest timeout of a job, a
/// month, plus a margin.
const LONGEST_LIFE: u64 = 32 * 24 * 3600;

/// One GitLab server, as far as tokens are concerned.
#[derive(Debug, Clone)]
pub struct Server {
    /// The exact `iss`.
    pub issuer: String,
    /// A token must name at least one of these.
    pub audience: Vec<String>,
    /// `RS256`, `ES256`, `ES384`.
    pub algorithms: Vec<&'static str>,
    /// When not empty, the token's `runner_id` must be one of these.
    pub runner_ids: Vec<u64>,
    /// URLs below which its repositories are. If several servers are configured, a job's must
    /// belong to the server whose key signed.
    pub repositories: Vec<String>,
    /// Seconds after which a key that the server no longer publishes is not used.
    pub keys_max_age: u64,
    /// Its known keys.
    pub keys: Vec<StoredKey>,
}

/// The input of the question.
#[derive(Debug)]
pub struct Question<'a> {
    /// The bytes of `JOB_RESPONSE_FILE`.
    pub response: &'a [u8],
    /// Names of id tokens, in order of preference.
    pub token_variables: &'a [String],
    /// The configured servers.
    pub servers: &'a [Server],
    /// Seconds since the epoch.
    pub now: u64,
    /// Seconds by which the clocks may differ.
    pub clock_skew: u64,
    /// The CI variable in which a user may name an account.
    pub account_variable: Option<&'a str>,
    /// The CI variable in which a user may name a directory for builds.
    pub builds_variable: Option<&'a str>,
}

/// Tries every token of the job; the first that is genuine, valid at this time and belongs to this
/// job decides.
///
/// Any user who can set a variable can add an entry with a token's name, so a bad token must not
/// hide a good one. A good one proves the same identity in any position, because it must belong to
/// this job.
///
/// # Errors
/// The rejection of the token that passed the most checks.
pub fn admit(question: &Question<'_>) -> Result<Admitted, Rejection> {
    let response = Response::parse(question.response).ok_or(Rejection::Response)?;
    let mut furthest = Rejection::NoToken;
    for name in question.token_variables {
        for token in response.values(name) {
            match judge(token, &response, question) {
                Ok(admitted) => return Ok(admitted),
                Err(rejection) => furthest = furthest.max(rejection),
            }
        }
    }
    Err(furthest)
}

fn judge(token: &str, response: &Response, question: &Question<'_>) -> Result<Admitted, Rejection> {
    let verified = verify(token, question.servers, question.now)?;
    let claims = Claims::parse(&verified.payload).ok_or(Rejection::Claims)?;
    let server = question.servers.get(verified.server).ok_or(Rejection::UnknownKey)?;
    check_purpose(&claims, server)?;
    let expires_at = check_time(&claims, question.now, question.clock_skew)?;
    check_server(verified.server, question.servers, response)?;
    check_binding(&claims, response)?;
    check_runner(verified.server, &server.runner_ids, claims.runner_id.map(|id| id.0))?;
    let project = claims.running_project().ok_or(Rejection::Claims)?;
    let requested_account = question.account_variable.and_then(|name| response.requested_account(name));
    let requested_builds_dir = question.builds_variable.and_then(|name| response.requested_builds_dir(name));
    // GitLab reports the role in the project of the sources, which in a merge request from a fork
    // belongs to its author.
    let own_sources = claims.project_id.0 == project.id;
    let fork = claims.fork();
    Ok(Admitted {
        server: verified.server,
        source: Source::IdToken,
        expires_at,
        job_id: claims.job_id.0,
        pipeline_id: claims.pipeline_id.0,
        project_id: project.id,
        user_id: claims.user_id.0,
        runner_id: claims.runner_id.map(|id| id.0),
        project_path: project.path.to_owned(),
        namespace_path: project.namespace.to_owned(),
        namespace_id: project.namespace_id,
        project_dir: response.project_dir().unwrap_or_else(|| PathBuf::from(project.path)),
        user_login: claims.user_login,
        user_email: claims.user_email,
        access_level: claims.user_access_level.filter(|_| own_sources),
        groups: claims.groups_direct,
        fork,
        identities: claims
            .user_identities
            .into_iter()
            .flatten()
            .filter_map(ProviderIdentity::named)
            .collect(),
        git_ref: claims.git_ref,
        ref_type: claims.ref_type,
        ref_protected: Some(claims.ref_protected == Flag::True),
        pipeline_source: Some(claims.pipeline_source),
        environment: claims.environment,
        environment_protected: claims.environment_protected.map(|flag| flag == Flag::True),
        queued: response.job_info.queued(),
        containers: crate::Containers::of(response),
        requested_account,
        requested_builds_dir,
    })
}

/// A key of the server also signs tokens that do not belong to jobs (GitLab is an OpenID provider
/// for logins, too): issuer and audience show the purpose of this one.
fn check_purpose(claims: &Claims, server: &Server) -> Result<(), Rejection> {
    if claims.iss != server.issuer {
        return Err(Rejection::Issuer);
    }
    if !claims.aud.0.iter().any(|aud| server.audience.contains(aud)) {
        return Err(Rejection::Audience);
    }
    Ok(())
}

/// When the token expires, in seconds since the epoch. No job lasts longer than GitLab's longest
/// timeout, so neither does a job's identity, whatever a compromised server may have signed.
fn check_time(claims: &Claims, now: u64, skew: u64) -> Result<u64, Rejection> {
    let expires_at = claims.exp.min(claims.iat.min(now).saturating_add(LONGEST_LIFE));
    if now >= expires_at.saturating_add(skew) {
        return Err(Rejection::Expired);
    }
    let soon = now.saturating_add(skew);
    if claims.nbf > soon || claims.iat > soon {
        return Err(Rejection::NotYetValid);
    }
    Ok(expires_at)
}

/// Two servers number their jobs alike, so a user of one could wait for a job with the ids of
/// another's token: the token counts only for jobs of the server that signed it. The URL comes from
/// the server of the job, which could lie.
fn check_server(signer: usize, servers: &[Server], response: &Response) -> Result<(), Rejection> {
    let places: Vec<&[String]> = servers.iter().map(|server| server.repositories.as_slice()).collect();
    let of_signer = servers.len() == 1 || servers_of(&response.git_info.repo_url, &places).contains(&signer);
    if of_signer { Ok(()) } else { Err(Rejection::OtherServer) }
}

/// Any script can print its own token, so an attacker may have a genuine one: it counts only for
/// its own job.
fn check_binding(claims: &Claims, response: &Response) -> Result<(), Rejection> {
    let project = claims.running_project().ok_or(Rejection::Claims)?;
    let sent = |id: Option<u64>| id.filter(|id| *id != 0);
    let info = &response.job_info;
    let fails = if claims.job_id.0 != response.id {
        Some(Bound::Job)
    } else if project.id != info.project_id {
        Some(Bound::Project)
    } else if sent(info.pipeline_id).is_some_and(|id| id != claims.pipeline_id.0) {
        Some(Bound::Pipeline)
    } else if sent(info.user_id).is_some_and(|id| id != claims.user_id.0) {
        Some(Bound::User)
    } else {
        None
    };
    fails.map_or(Ok(()), |bound| Err(Rejection::OtherJob(bound)))
}

/// Checks that the job's runner is one of the configured ones; without configured ones, any runner
/// is accepted. A server that does not name the runner fails the check.
///
/// # Errors
/// [`Rejection::OtherRunner`].
pub(crate) fn check_runner(server: usize, accepted: &[u64], runner_id: Option<u64>) -> Result<(), Rejection> {
    if accepted.is_empty() || runner_id.is_some_and(|id| accepted.contains(&id)) {
        Ok(())
    } else {
        Err(Rejection::OtherRunner { server, runner_id })
    }
}

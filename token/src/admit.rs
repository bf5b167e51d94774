//! The whole question that the worker answers: is there a token that proves who this job belongs to?

use crate::claims::{Claims, Flag};
use crate::{Bound, Rejection, Response, StoredKey, verify};
use std::path::PathBuf;

/// One GitLab server as far as tokens are concerned.
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
    /// Seconds after which a key that the server no longer shows is not used.
    pub keys_max_age: u64,
    /// Its known keys.
    pub keys: Vec<StoredKey>,
}

/// What is asked.
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
}

/// The proven identity of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// Index of the server.
    pub server: usize,
    /// Seconds since the epoch at which the token expires.
    pub expires_at: u64,
    /// Job.
    pub job_id: u64,
    /// Pipeline.
    pub pipeline_id: u64,
    /// Project that runs the job.
    pub project_id: u64,
    /// User.
    pub user_id: u64,
    /// Runner, where the server sends it.
    pub runner_id: Option<u64>,
    /// Whether the branch or tag is protected.
    pub ref_protected: bool,
    /// Login of the user.
    pub user_login: String,
    /// Full path of the project that runs the job.
    pub project_path: String,
    /// Full path of its namespace.
    pub namespace_path: String,
    /// Branch or tag.
    pub git_ref: String,
    /// What started the pipeline.
    pub pipeline_source: String,
    /// Environment, where the job names one.
    pub environment: Option<String>,
    /// The project's directory below `builds_dir`.
    pub project_dir: PathBuf,
}

/// Tries every token of the job; the first that is genuine, in time and of this job decides.
///
/// Anybody who can set a variable can add an entry with a token's name, so a bad one must not hide a good
/// one; and a good one proves the same identity wherever it stands, because it must be of this very job.
///
/// # Errors
/// The rejection of the token that came furthest.
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
    check_time(&claims, question.now, question.clock_skew)?;
    check_binding(&claims, server, response)?;
    let project = claims.running_project().ok_or(Rejection::Claims)?;
    Ok(Admitted {
        server: verified.server,
        expires_at: claims.exp,
        job_id: claims.job_id.0,
        pipeline_id: claims.pipeline_id.0,
        project_id: project.id,
        user_id: claims.user_id.0,
        runner_id: claims.runner_id,
        ref_protected: claims.ref_protected == Flag::True,
        project_path: project.path.to_owned(),
        namespace_path: project.namespace.to_owned(),
        project_dir: response.project_dir().unwrap_or_else(|| PathBuf::from(project.path)),
        user_login: claims.user_login,
        git_ref: claims.git_ref,
        pipeline_source: claims.pipeline_source,
        environment: claims.environment,
    })
}

/// A key of the server also signs tokens that are no job's (GitLab is an OpenID provider for logins, too):
/// issuer and audience tell what this one is for.
fn check_purpose(claims: &Claims, server: &Server) -> Result<(), Rejection> {
    if claims.iss != server.issuer {
        return Err(Rejection::Issuer);
    }
    if !claims.aud.0.iter().any(|aud| server.audience.contains(aud)) {
        return Err(Rejection::Audience);
    }
    Ok(())
}

fn check_time(claims: &Claims, now: u64, skew: u64) -> Result<(), Rejection> {
    if now >= claims.exp.saturating_add(skew) {
        return Err(Rejection::Expired);
    }
    let soon = now.saturating_add(skew);
    if claims.nbf > soon || claims.iat > soon {
        return Err(Rejection::NotYetValid);
    }
    Ok(())
}

/// Any script can print its own token, so a genuine one may be in anybody's hands: it counts for its own
/// job only.
fn check_binding(claims: &Claims, server: &Server, response: &Response) -> Result<(), Rejection> {
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
    } else if !server.runner_ids.is_empty()
        && !claims.runner_id.is_some_and(|id| server.runner_ids.contains(&id))
    {
        Some(Bound::Runner)
    } else {
        None
    };
    fails.map_or(Ok(()), |bound| Err(Rejection::OtherJob(bound)))
}

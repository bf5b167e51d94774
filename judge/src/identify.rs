//! Who a job belongs to: by its id token, or, where the site allows it, by what the GitLab server says of its job token.

use crate::evidence::{Evidence, JobEvidence};
use crate::means::{Fetched, Means};
use crate::refusal::{Code, Refusal};
use crate::token_help;
use nunbird_policy::{GitLabServer, IdentitySource, Policy};
use nunbird_token::{Admitted, Rejection};
use zeroize::Zeroizing;

/// A proven identity.
#[derive(Debug)]
pub struct Identity {
    /// Who the job belongs to.
    pub admitted: Admitted,
    /// The server's answer about the job, where that has proven it.
    pub answer: Option<Vec<u8>>,
}

/// What a judgement goes by.
#[derive(Debug)]
pub struct Proof<'a> {
    /// The bytes of `JOB_RESPONSE_FILE`. They hold the job's secrets.
    pub response: &'a [u8],
    /// Who the job belongs to.
    pub identity: &'a Identity,
}

/// Tries the configured sources in order. Only a job that has nothing of the first kind goes on to the next: a bad id token
/// is a denial.
///
/// # Errors
/// A denial when nothing proves the identity; a system refusal when it could not be checked.
pub fn identify<M: Means>(means: &M, policy: &Policy, response: &[u8]) -> Result<Identity, M::Stop> {
    let mut last = None;
    for source in &policy.identity.sources {
        let identified = match source {
            IdentitySource::IdToken => by_id_token(means, policy, response)?,
            IdentitySource::JobToken => by_job_token(means, policy, response)?,
        };
        let (rejection, refusal) = match identified {
            Ok(identity) => return Ok(identity),
            Err(rejected) => rejected,
        };
        if !matches!(rejection, Rejection::NoToken | Rejection::Empty) {
            return Err(refusal.into());
        }
        // What is missing is reported for the first source: that is the one the site wants.
        last.get_or_insert(refusal);
    }
    Err(last.unwrap_or_else(|| refuse(Rejection::NoToken, &[], true, policy)).into())
}

type Identified = Result<Identity, (Rejection, Refusal)>;

/// Judges the tokens; once more after fetching keys, if none fitted.
fn by_id_token<M: Means>(means: &M, policy: &Policy, response: &[u8]) -> Result<Identified, M::Stop> {
    let now = means.now()?;
    let mut keys = means.keys()?;
    let mut answer = means.by_id_tokens(&Evidence { response, keys: &keys.files, now })?;
    let mut fetched = true;
    if matches!(answer, Err(Rejection::Keys | Rejection::UnknownKey)) {
        Fetched { keys, done: fetched } = means.fetched_keys()?;
        answer = means.by_id_tokens(&Evidence { response, keys: &keys.files, now })?;
    }
    Ok(answer
        .map(|admitted| Identity { admitted, answer: None })
        .map_err(|rejection| (rejection, refuse(rejection, &keys.troubles, fetched, policy))))
}

/// The job's token is found, the server is asked by an unprivileged program, and its answer is judged.
fn by_job_token<M: Means>(means: &M, policy: &Policy, response: &[u8]) -> Result<Identified, M::Stop> {
    let repositories: Vec<Vec<String>> = policy.gitlab.iter().map(GitLabServer::repositories).collect();
    let found = match means.job_token(response, &repositories)? {
        Ok(found) => found,
        Err(rejection) => return Ok(Err((rejection, refuse(rejection, &[], true, policy)))),
    };
    let unanswered = |detail: String| {
        Refusal::system(Code::JobAnswer, "the GitLab server does not say whose job this is", detail)
            .help("try again in a minute, or give the job an id token")
    };
    let server = policy
        .gitlab
        .get(found.server)
        .ok_or_else(|| unanswered("the verifier named a server that is not configured".to_owned()))?;
    let token = Zeroizing::new(found.token);
    let answer = means
        .ask_about_job(server, &token)?
        .map_err(|e| unanswered(format!("server {}: {e}", server.name)))?;
    let now = means.now()?;
    let evidence = JobEvidence { response, answer: &answer, server: found.server, now };
    let judged = means.by_job_answer(&evidence)?;
    Ok(judged
        .map(|admitted| Identity { admitted, answer: Some(answer) })
        .map_err(|rejection| (rejection, refuse(rejection, &[], true, policy))))
}

/// The refusal of a job whose identity was not proven. `fetched` says whether the keys are those that the servers have now.
pub fn refuse(rejection: Rejection, troubles: &[String], fetched: bool, policy: &Policy) -> Refusal {
    let names = policy.identity.token_variables.join(", ");
    let detail = match rejection {
        Rejection::NoToken => format!("no variable named {names}"),
        Rejection::OtherRunner { server, runner_id } => token_help::other_runner(server, runner_id, policy),
        _ => troubles.join("\n"),
    };
    let (code, message) = (rejection.code(), rejection.to_string());
    match rejection {
        // No user can be distinguished from another while the keys are missing: that is this host's trouble, not the job's.
        Rejection::Keys => Refusal::system(code, message, detail),
        // The key may be a new one. gitlab-runner tries `config` again in three seconds, and by then the server can be asked.
        Rejection::UnknownKey if !fetched => Refusal::system(code, message, detail)
            .help("if the server's keys were just replaced, try again in a moment; else the token is not of this server"),
        Rejection::Response => Refusal::system(code, message, detail),
        _ => Refusal::denied(code, message, detail),
    }
}

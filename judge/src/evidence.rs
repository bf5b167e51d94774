//! What strangers wrote, judged: job responses, tokens, keys, a server's answer. Pure. `nunbird-auth` calls it in a worker.

use nunbird_policy::{Algorithm, BUILDS_VARIABLE, GitLabServer, Policy};
use nunbird_token::{
    Admitted, JobQuestion, JobUser, KEYS_VERSION, KeysFile, MAX_KEYS, Question, Rejection, Server,
    UserQuestion,
};

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
    answer.map_err(|rejection| match rejection {
        // Without a token no key would help, and the job token may.
        Rejection::Response | Rejection::NoToken | Rejection::Empty => rejection,
        _ if no_keys => Rejection::Keys,
        _ => rejection,
    })
}

/// What a server's answer says about the user of the job.
///
/// # Errors
/// As [`nunbird_token::job_user`].
pub fn job_user(response: &[u8], answer: &[u8], server: &GitLabServer) -> Result<JobUser, Rejection> {
    nunbird_token::job_user(&UserQuestion { response, answer, runner_ids: &server.runner_ids })
}

/// Who the job belongs to, by the server's answer to its token.
///
/// # Errors
/// As [`nunbird_token::admit_by_job_token`].
pub fn by_job_answer(evidence: &JobEvidence<'_>, policy: &Policy) -> Result<Admitted, Rejection> {
    let server = policy.gitlab.get(evidence.server);
    nunbird_token::admit_by_job_token(&JobQuestion {
        response: evidence.response,
        answer: evidence.answer,
        server: evidence.server,
        url: server.map_or("", |server| server.url.as_str()),
        runner_ids: server.map_or(&[], |server| server.runner_ids.as_slice()),
        now: evidence.now,
        account_variable: account_variable(policy),
        builds_variable: builds_variable(policy),
    })
}

fn account_variable(policy: &Policy) -> Option<&str> {
    policy.validation.as_ref()?.user_variable.as_deref()
}

fn builds_variable(policy: &Policy) -> Option<&str> {
    policy.directories.user_builds_dir.then_some(BUILDS_VARIABLE)
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
        repositories: server.repositories(),
        keys_max_age: server.keys_max_age,
        keys,
    }
}

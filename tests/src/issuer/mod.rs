//! A GitLab server as far as Nunbird and a job's scripts see it.
//!
//! Over HTTPS with its own certificate authority ([`Issuer::ca_pem`]) and, for git and artifacts,
//! over plain HTTP, both on 127.0.0.1:
//!
//! | path | what |
//! |---|---|
//! | `/.well-known/openid-configuration` | discovery |
//! | `/oauth/discovery/keys` | the JWKS: the login key and the CI key, as GitLab publishes them |
//! | `/<group>/<project>.git/…` | git, with `gitlab-ci-token:<job token>` |
//! | `/api/v4/job` | the running job of a job token, with `JOB-TOKEN: <job token>` |
//! | `POST /api/v4/jobs/<id>/artifacts` | artifacts, with `JOB-TOKEN: <job token>` |
//!
//! Every reply can be replaced ([`Issuer::replace`]), every request is counted ([`Issuer::requests`]).

mod git;
pub(crate) mod http;
mod keys;
pub(crate) mod tls;
mod token;

pub use http::{Reply, Request};
pub use keys::{SigningKey, base64url};
pub use token::{JobFacts, JobToken, forge, now};

use http::Server;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use tempfile::TempDir;
use tls::Tls;

/// Path of discovery.
pub const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Path of the JWKS.
pub const JWKS: &str = "/oauth/discovery/keys";
/// Path of a job's own entity.
pub const JOB: &str = "/api/v4/job";
/// Where the server listens.
const OWN_NAMES: [&str; 2] = ["127.0.0.1", "localhost"];

/// What a job uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Id of the job.
    pub job_id: u64,
    /// A gzipped tar archive (GitLab's is a zip archive).
    pub archive: Vec<u8>,
}

/// The server. It ends when it is dropped.
#[derive(Debug)]
pub struct Issuer {
    state: Arc<Mutex<State>>,
    https: Server,
    http: Server,
    tls: Tls,
    repositories: TempDir,
}

#[derive(Debug)]
struct State {
    url: String,
    ci: Arc<SigningKey>,
    login: Arc<SigningKey>,
    requests: HashMap<String, usize>,
    replaced: HashMap<String, Reply>,
    job_tokens: HashSet<String>,
    /// The reply to `GET /api/v4/job`, by job token.
    running: HashMap<String, serde_json::Value>,
    artifacts: Vec<Artifact>,
}

impl Issuer {
    /// Starts a server with keys that no other running server has.
    pub fn start() -> Self {
        Self::start_for(&OWN_NAMES)
    }

    /// Starts a server whose certificate is for `names` instead of 127.0.0.1 and localhost.
    pub fn start_for(names: &[&str]) -> Self {
        Self::start_with(Tls::new(names, false))
    }

    /// Starts a server whose certificate has expired.
    pub fn start_expired() -> Self {
        Self::start_with(Tls::new(&OWN_NAMES, true))
    }

    /// Starts a server whose URL and certificate have this name, which somebody must resolve to 127.0.0.1.
    pub fn start_at(name: &str) -> Self {
        let issuer = Self::start_for(&[name]);
        let url = issuer.url().replace("127.0.0.1", name);
        lock(&issuer.state).url = url;
        issuer
    }

    fn start_with(tls: Tls) -> Self {
        let repositories =
            tempfile::Builder::new().prefix("nbt_git_").tempdir_in("/var/tmp").expect("a directory");
        let state = Arc::new(Mutex::new(State {
            url: String::new(),
            ci: Arc::new(SigningKey::rsa_of_server()),
            login: Arc::new(SigningKey::rsa_of_server()),
            requests: HashMap::new(),
            replaced: HashMap::new(),
            job_tokens: HashSet::new(),
            running: HashMap::new(),
            artifacts: Vec::new(),
        }));
        let root = repositories.path().to_path_buf();
        let (served, acceptor, git_root) = (Arc::clone(&state), tls.clone(), root.clone());
        let https = Server::start(move |stream| {
            let mut stream = acceptor.accept(stream)?;
            http::answer(&mut stream, |request| reply(&served, &git_root, request))?;
            stream.conn.send_close_notify();
            stream.conn.write_tls(&mut stream.sock).map(drop)
        });
        let served = Arc::clone(&state);
        let http =
            Server::start(move |stream| http::answer(stream, |request| reply(&served, &root, request)));
        lock(&state).url = format!("https://127.0.0.1:{}", https.port());
        Issuer { state, https, http, tls, repositories }
    }

    /// `https://127.0.0.1:<port>`: the server's URL and the `iss` of its tokens.
    pub fn url(&self) -> String {
        lock(&self.state).url.clone()
    }

    /// `http://127.0.0.1:<port>`: the same over plain HTTP.
    pub fn plain_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http.port())
    }

    /// The authority's certificate.
    pub fn ca_pem(&self) -> &str {
        &self.tls.ca_pem
    }

    /// The key that signs id tokens of jobs now.
    pub fn key(&self) -> Arc<SigningKey> {
        Arc::clone(&lock(&self.state).ci)
    }

    /// The key that GitLab signs logins with: in the same JWKS, never under a job's token.
    pub fn login_key(&self) -> Arc<SigningKey> {
        Arc::clone(&lock(&self.state).login)
    }

    /// Replaces the CI key by a fresh one. The old one vanishes at once, as in GitLab. Returns the old one.
    pub fn rotate(&self) -> Arc<SigningKey> {
        self.use_key(SigningKey::rsa())
    }

    /// Replaces the CI key by this one. Returns the old one.
    pub fn use_key(&self, key: SigningKey) -> Arc<SigningKey> {
        std::mem::replace(&mut lock(&self.state).ci, Arc::new(key))
    }

    /// How many requests came for a path.
    pub fn requests(&self, path: &str) -> usize {
        lock(&self.state).requests.get(path).copied().unwrap_or(0)
    }

    /// Answers a path with this reply from now on.
    pub fn replace(&self, path: &str, reply: Reply) {
        lock(&self.state).replaced.insert(path.to_owned(), reply);
    }

    /// Answers a path as usual again.
    pub fn restore(&self, path: &str) {
        lock(&self.state).replaced.remove(path);
    }

    /// Refuses connections from now on.
    pub fn go_down(&mut self) {
        self.https.stop();
        self.http.stop();
    }

    /// Accepts this job token for git and artifacts.
    pub fn accept_job_token(&self, token: &str) {
        lock(&self.state).job_tokens.insert(token.to_owned());
    }

    /// A running job of an active person as `GET /api/v4/job` shows it (docs.gitlab.com/api/jobs).
    pub fn job_entity(&self, facts: &JobFacts) -> serde_json::Value {
        json!({
            "id": facts.job_id, "status": "running", "stage": "test", "name": "build", "ref": facts.git_ref,
            "tag": facts.ref_type == "tag", "allow_failure": false,
            "web_url": format!("{}/{}/-/jobs/{}", self.url(), facts.project_path, facts.job_id),
            "user": { "id": facts.user_id, "username": facts.user_login, "name": "A User", "state": "active", "bot": false },
            "pipeline": {
                "id": facts.pipeline_id, "project_id": facts.project_id, "ref": facts.git_ref, "sha": facts.sha,
                "status": "running", "source": facts.pipeline_source,
            },
            "runner": { "id": facts.runner_id, "active": true, "is_shared": false },
            "project": { "ci_job_token_scope_enabled": false },
        })
    }

    /// Answers `GET /api/v4/job` with this for a job token.
    pub fn know_job(&self, token: &str, answer: serde_json::Value) {
        lock(&self.state).running.insert(token.to_owned(), answer);
    }

    /// Rejects the job with this token from now on.
    pub fn forget_job(&self, token: &str) {
        lock(&self.state).running.remove(token);
    }

    /// Makes the repository of a project (`group/project`) with one commit on `main`. Returns the commit.
    pub fn add_repository(&self, project: &str, files: &[(&str, &str)]) -> String {
        git::create(self.repositories.path(), project, files)
    }

    /// What jobs uploaded so far.
    pub fn artifacts(&self) -> Vec<Artifact> {
        lock(&self.state).artifacts.clone()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn reply(state: &Mutex<State>, repositories: &std::path::Path, request: &Request) -> Reply {
    let refused = || Reply::new(401, "text/plain", "no").header("WWW-Authenticate", "Basic realm=\"GitLab\"");
    let mut state = lock(state);
    *state.requests.entry(request.path.clone()).or_default() += 1;
    if let Some(reply) = state.replaced.get(&request.path) {
        return reply.clone();
    }
    let knows = |token: Option<&String>| token.is_some_and(|token| state.job_tokens.contains(token));
    match request.path.as_str() {
        DISCOVERY => Reply::json(&json!({
            "issuer": state.url,
            "jwks_uri": format!("{}{JWKS}", state.url),
            "authorization_endpoint": format!("{}/oauth/authorize", state.url),
            "id_token_signing_alg_values_supported": ["RS256"],
        })),
        JWKS => Reply::json(&json!({ "keys": [state.login.jwk(), state.ci.jwk()] })),
        path if path.contains(".git/") => {
            if !knows(git::job_token(request).as_ref()) {
                return refused();
            }
            drop(state);
            git::serve(repositories, request)
        }
        JOB => match request.headers.get("job-token").and_then(|token| state.running.get(token)) {
            Some(answer) => Reply::json(answer),
            None => Reply::new(401, "application/json", "{\"message\":\"401 Unauthorized\"}"),
        },
        path => match path.strip_prefix("/api/v4/jobs/").and_then(|rest| rest.strip_suffix("/artifacts")) {
            Some(_) if !knows(request.headers.get("job-token")) => refused(),
            Some(id) => {
                let job_id = id.parse().unwrap_or(0);
                state.artifacts.push(Artifact { job_id, archive: request.body.clone() });
                Reply::new(201, "application/json", "{}")
            }
            None => Reply::new(404, "text/plain", "not found"),
        },
    }
}

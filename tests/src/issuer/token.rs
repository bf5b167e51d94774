//! Id tokens with GitLab's claims in GitLab's types, and every way to corrupt one.
//!
//! [`JobToken::gitlab`] is what `lib/gitlab/ci/jwt_v2.rb` of GitLab issues for a job; the other methods
//! change it. [`forge`] takes any bytes for header and payload, for what JSON values cannot say, such as a
//! claim that appears twice.

use super::keys::{SigningKey, base64url};
use aws_lc_rs::hmac;
use serde_json::{Map, Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// What GitLab knows of one job. The ids also stand in the runner's job response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFacts {
    /// Id of the job.
    pub job_id: u64,
    /// Id of the pipeline.
    pub pipeline_id: u64,
    /// Id of the project.
    pub project_id: u64,
    /// Id of the project's namespace.
    pub namespace_id: u64,
    /// Full path of the project, `group/project`.
    pub project_path: String,
    /// Id of the user.
    pub user_id: u64,
    /// Login of the user.
    pub user_login: String,
    /// Branch or tag.
    pub git_ref: String,
    /// `branch` or `tag`.
    pub ref_type: String,
    /// Whether the ref is protected.
    pub ref_protected: bool,
    /// What started the pipeline.
    pub pipeline_source: String,
    /// The commit.
    pub sha: String,
    /// The runner's id.
    pub runner_id: u64,
    /// The job's time limit in seconds, which is the token's life.
    pub timeout: u64,
}

impl Default for JobFacts {
    /// Job 7001 of pipeline 501 of `physics/lattice`, started by `alice` with a push to `main`.
    fn default() -> Self {
        JobFacts {
            job_id: 7001,
            pipeline_id: 501,
            project_id: 31,
            namespace_id: 12,
            project_path: "physics/lattice".to_owned(),
            user_id: 210,
            user_login: "alice".to_owned(),
            git_ref: "main".to_owned(),
            ref_type: "branch".to_owned(),
            ref_protected: true,
            pipeline_source: "push".to_owned(),
            sha: "0123456789abcdef0123456789abcdef01234567".to_owned(),
            runner_id: 5,
            timeout: 3600,
        }
    }
}

/// A token before it is signed.
#[derive(Debug, Clone, PartialEq)]
pub struct JobToken {
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl JobToken {
    /// The token that GitLab issues for a job; `audience` is a string or an array of strings.
    pub fn gitlab(issuer: &str, audience: &Value, facts: &JobFacts) -> Self {
        let now = now();
        let namespace = facts.project_path.rsplit_once('/').map_or("", |(namespace, _)| namespace);
        let (kind, name) = (facts.ref_type.as_str(), facts.git_ref.as_str());
        let folder = if kind == "tag" { "tags" } else { "heads" };
        let claims = json!({
            "iss": issuer,
            "sub": format!("project_path:{}:ref_type:{kind}:ref:{name}", facts.project_path),
            "aud": audience,
            "iat": now,
            "nbf": now - 5,
            "exp": now + facts.timeout,
            "jti": format!("00000000-0000-4000-8000-{:012x}", facts.job_id),
            "namespace_id": facts.namespace_id.to_string(),
            "namespace_path": namespace,
            "project_id": facts.project_id.to_string(),
            "project_path": facts.project_path,
            "job_project_id": facts.project_id.to_string(),
            "job_project_path": facts.project_path,
            "job_namespace_id": facts.namespace_id.to_string(),
            "job_namespace_path": namespace,
            "user_id": facts.user_id.to_string(),
            "user_login": facts.user_login,
            "user_email": format!("{}@example.org", facts.user_login),
            "user_access_level": "developer",
            "pipeline_id": facts.pipeline_id.to_string(),
            "pipeline_source": facts.pipeline_source,
            "job_id": facts.job_id.to_string(),
            "job_source": facts.pipeline_source,
            "ref": name,
            "ref_type": kind,
            "ref_path": format!("refs/{folder}/{name}"),
            "ref_protected": facts.ref_protected.to_string(),
            "runner_id": facts.runner_id,
            "runner_environment": "self-hosted",
            "sha": facts.sha,
            "project_visibility": "private",
            "ci_config_ref_uri": format!("127.0.0.1/{}//.gitlab-ci.yml@refs/{folder}/{name}", facts.project_path),
            "ci_config_sha": facts.sha,
        });
        let Value::Object(claims) = claims else { unreachable!("an object") };
        JobToken { header: Map::new(), claims }
    }

    /// Sets a claim to any JSON value.
    #[must_use]
    pub fn claim(mut self, name: &str, value: Value) -> Self {
        self.claims.insert(name.to_owned(), value);
        self
    }

    /// Leaves a claim out.
    #[must_use]
    pub fn without_claim(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// Sets a header member over what the key says (`alg`, `kid`, `typ`, `jwk`, `crit`, …).
    #[must_use]
    pub fn header(mut self, name: &str, value: Value) -> Self {
        self.header.insert(name.to_owned(), value);
        self
    }

    /// The payload as JSON bytes.
    pub fn payload(&self) -> Vec<u8> {
        Value::Object(self.claims.clone()).to_string().into_bytes()
    }

    /// The header as JSON bytes, for a key.
    pub fn header_for(&self, key: &SigningKey) -> Vec<u8> {
        let mut header = Map::from_iter([
            ("kid".to_owned(), json!(key.kid())),
            ("typ".to_owned(), json!("JWT")),
            ("alg".to_owned(), json!(key.algorithm())),
        ]);
        header.extend(self.header.clone());
        Value::Object(header).to_string().into_bytes()
    }

    /// The compact form, signed.
    pub fn sign(&self, key: &SigningKey) -> String {
        forge(&self.header_for(key), &self.payload(), |input| key.sign(input))
    }

    /// The compact form with `alg: none` and an empty signature.
    pub fn unsigned(&self) -> String {
        forge(br#"{"alg":"none","typ":"JWT"}"#, &self.payload(), |_| Vec::new())
    }

    /// The compact form with an HMAC under `secret`, named as if `key` had signed it.
    pub fn hs256(&self, key: &SigningKey, secret: &[u8]) -> String {
        let header = json!({ "kid": key.kid(), "typ": "JWT", "alg": "HS256" }).to_string();
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        forge(header.as_bytes(), &self.payload(), |input| hmac::sign(&secret, input).as_ref().to_vec())
    }
}

/// A compact JWS of any header, any payload and whatever `signature` makes of the signing input.
pub fn forge(header: &[u8], payload: &[u8], signature: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let input = format!("{}.{}", base64url(header), base64url(payload));
    let signature = base64url(&signature(input.as_bytes()));
    format!("{input}.{signature}")
}

/// Seconds since the epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

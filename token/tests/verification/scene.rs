//! A server, its keys, a job's response and a token's claims.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use nunbird_token::{Admitted, KeyMaterial, Question, Rejection, Server, StoredKey, admit};
use serde_json::{Value, json};
use std::sync::LazyLock;

pub(crate) const NOW: u64 = 1_790_000_000;
pub(crate) const HEADER: &str = r#"{"alg":"RS256","typ":"JWT","kid":"one"}"#;
pub(crate) static KEY: LazyLock<RsaKeyPair> =
    LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
pub(crate) static OTHER_KEY: LazyLock<RsaKeyPair> =
    LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());

pub(crate) fn sign(key: &RsaKeyPair, header: &str, payload: &str) -> String {
    let input = format!("{}.{}", B64.encode(header), B64.encode(payload));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input.as_bytes(), &mut signature).unwrap();
    format!("{input}.{}", B64.encode(signature))
}

pub(crate) fn server(key: &RsaKeyPair) -> Server {
    let public = key.public_key();
    let part = |bytes: &[u8]| B64.encode(bytes);
    let material = KeyMaterial::Rs256 {
        n: part(public.modulus().big_endian_without_leading_zero()),
        e: part(public.exponent().big_endian_without_leading_zero()),
    };
    Server {
        issuer: "https://gitlab.example.org".to_owned(),
        audience: vec!["https://gitlab.example.org".to_owned()],
        algorithms: vec!["RS256"],
        runner_ids: Vec::new(),
        repositories: vec!["https://gitlab.example.org".to_owned()],
        keys_max_age: 86400,
        keys: vec![StoredKey { kid: "one".to_owned(), material, last_seen: NOW, pinned: false }],
    }
}

pub(crate) fn claims() -> Value {
    json!({
        "iss": "https://gitlab.example.org", "aud": "https://gitlab.example.org",
        "sub": "project_path:hpc/app:ref_type:branch:ref:main",
        "exp": NOW + 3600, "nbf": NOW - 5, "iat": NOW, "jti": "0d3c",
        "project_id": "3", "project_path": "hpc/app", "namespace_id": "2", "namespace_path": "hpc",
        "user_id": "7", "user_login": "alice", "user_email": null, "pipeline_id": "50",
        "pipeline_source": "push", "job_id": "500", "ref": "main", "ref_type": "branch",
        "ref_protected": "true", "runner_id": 12, "runner_environment": "self-hosted",
        "a_claim_of_tomorrow": {"deep": [1, 2]},
    })
}

pub(crate) fn with(changes: &[(&str, Value)]) -> String {
    let mut all = claims();
    for (name, value) in changes {
        match value {
            Value::String(text) if text == "<absent>" => drop(all.as_object_mut().unwrap().remove(*name)),
            value => all[*name] = value.clone(),
        }
    }
    all.to_string()
}

pub(crate) fn response(tokens: &[(&str, &str)]) -> Value {
    let variables: Vec<Value> =
        tokens.iter().map(|(k, v)| json!({"key": k, "value": v, "masked": true})).collect();
    json!({
        "id": 500, "token": "glcbt-secret", "variables": variables,
        "job_info": {"name": "build", "project_id": 3, "user_id": 7, "pipeline_id": 50},
        "git_info": {"repo_url": "https://gitlab-ci-token:x@gitlab.example.org/hpc/app.git"},
    })
}

pub(crate) fn ask_with(response: &Value, servers: &[Server]) -> Result<Admitted, Rejection> {
    let names = ["SITE_ID_TOKEN".to_owned(), "CI_JOB_JWT".to_owned()];
    let bytes = response.to_string();
    let question = Question {
        response: bytes.as_bytes(),
        token_variables: &names,
        servers,
        now: NOW,
        clock_skew: 60,
        account_variable: Some("SVC"),
        builds_variable: Some("DIR"),
    };
    admit(&question)
}

pub(crate) fn ask(token: &str) -> Result<Admitted, Rejection> {
    ask_with(&response(&[("SITE_ID_TOKEN", token)]), &[server(&KEY)])
}

pub(crate) fn ask_claims(payload: &str) -> Result<Admitted, Rejection> {
    ask(&sign(&KEY, HEADER, payload))
}

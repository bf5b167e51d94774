//! HTTPS requests: OIDC discovery and the key set that it names, or the job that a job token
//! belongs to.
//!
//! Nothing is taken from the environment: no proxy and no certificate authorities (`SSL_CERT_FILE`
//! and the like are ignored). A server without a `ca_file` is verified by the distribution's bundle
//! of certificate authorities, one with it by that file alone. No redirect is followed, a response
//! is at most a mebibyte, both requests together have a deadline, and the key set must be on the
//! server that was queried.

use crate::error::KeysError;
use crate::files;
use crate::server::Server;
use nunbird_handover::Untrusted;
use nunbird_policy::origin;
use rustls::crypto::aws_lc_rs;
use serde::Deserialize;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::Agent;
use ureq::http::StatusCode;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

const DISCOVERY: &str = "/.well-known/openid-configuration";
/// The longest response, in bytes.
const MAX_ANSWER: u64 = 1 << 20;
/// The largest bundle of certificate authorities, in bytes; a distribution's has a quarter of a
/// mebibyte.
const MAX_AUTHORITIES: u64 = 4 << 20;

/// Where distributions keep the system's certificate authorities in one file.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

/// OpenID Connect Discovery 1.0 §3, as far as it is needed.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// The server's key set, as received.
///
/// # Errors
/// If either response does not arrive in time, complete and from the intended server, or if
/// discovery names another issuer or a key set on another server.
pub(crate) fn jwks(server: &Server, timeout: Duration) -> Result<Vec<u8>, KeysError> {
    let deadline = Instant::now() + timeout;
    let agent = agent(&server.url, server.ca_file.as_deref())?;
    let discovery_url = format!("{}{DISCOVERY}", server.url.trim_end_matches('/'));
    let discovery = get(&agent, &discovery_url, None, deadline)?;
    let discovery: Discovery = serde_json::from_slice(&discovery).map_err(|e| {
        let e = e.to_string();
        KeysError::new(format!("{discovery_url}: not an OIDC discovery document: {}", Untrusted(&e)))
    })?;
    if discovery.issuer != server.issuer {
        return Err(KeysError::new(format!(
            "{discovery_url}: the server's issuer is {}, the configuration's is {}; set `issuer` if that is right",
            Untrusted(&discovery.issuer),
            server.issuer
        )));
    }
    if origin(&discovery.jwks_uri) != origin(&server.url) {
        return Err(KeysError::new(format!(
            "{discovery_url}: names keys at {}, which is another server; pin the keys if that is intended",
            Untrusted(&discovery.jwks_uri)
        )));
    }
    get(&agent, &discovery.jwks_uri, None, deadline)
}

/// The server's description of the running job that a job token belongs to, as received
/// (docs.gitlab.com/api/jobs, "Get job token's job").
///
/// # Errors
/// If the response does not arrive in time, complete and from the intended server; no message
/// contains the token.
pub(crate) fn job(
    url: &str,
    ca_file: Option<&Path>,
    token: &str,
    timeout: Duration,
) -> Result<Vec<u8>, KeysError> {
    let agent = agent(url, ca_file)?;
    let url = format!("{}/api/v4/job", url.trim_end_matches('/'));
    get(&agent, &url, Some(token), Instant::now() + timeout)
}

fn agent(url: &str, ca_file: Option<&Path>) -> Result<Agent, KeysError> {
    let mut tls =
        TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()));
    if url.starts_with("https://") {
        tls = tls.root_certs(authorities(ca_file)?);
    }
    let config = Agent::config_builder()
        .tls_config(tls.build())
        .proxy(None)
        .max_redirects(0)
        .user_agent(concat!("nunbird-keys/", env!("CARGO_PKG_VERSION")))
        .accept("application/json")
        .build();
    Ok(config.into())
}

fn authorities(ca_file: Option<&Path>) -> Result<RootCerts, KeysError> {
    let (name, pem) = match ca_file {
        Some(file) => {
            files::check_trusted(file)?;
            (file.display().to_string(), files::read(file, MAX_AUTHORITIES))
        }
        None => {
            let found = SYSTEM_AUTHORITIES.iter().find(|file| Path::new(file).is_file());
            let file = found.ok_or_else(|| {
                KeysError::new(
                    "this host has no bundle of certificate authorities; install \
                              ca-certificates or set `ca_file`",
                )
            })?;
            ((*file).to_owned(), files::read(Path::new(file), MAX_AUTHORITIES))
        }
    };
    let pem = pem.map_err(|e| KeysError::new(format!("{name}: {e}")))?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(KeysError::new(format!("{name}: contains no certificate in PEM form")));
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}

fn get(agent: &Agent, url: &str, job_token: Option<&str>, deadline: Instant) -> Result<Vec<u8>, KeysError> {
    let left = deadline.saturating_duration_since(Instant::now());
    let failed = |e: ureq::Error| KeysError::new(format!("{}: {e}{}", Untrusted(url), hint(&e)));
    let mut request = agent.get(url);
    if let Some(token) = job_token {
        request = request.header("JOB-TOKEN", token);
    }
    let response = request.config().timeout_global(Some(left)).build().call().map_err(failed)?;
    // An agent that follows no redirect returns it as a response, and it may have a body.
    if response.status() != StatusCode::OK {
        let status = response.status();
        let hint = if status.is_redirection() {
            "; redirects are not followed: configure the URL that it leads to"
        } else {
            ""
        };
        return Err(KeysError::new(format!("{}: the response is {status}{hint}", Untrusted(url))));
    }
    response.into_body().into_with_config().limit(MAX_ANSWER).read_to_vec().map_err(failed)
}

fn hint(error: &ureq::Error) -> &'static str {
    match error {
        ureq::Error::BodyExceedsLimit(_) => "; that is not a GitLab server's response",
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => CERTIFICATE,
        ureq::Error::Io(e) if e.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => CERTIFICATE,
        _ => "",
    }
}

const CERTIFICATE: &str = "; if the certificate is right, set `ca_file` to the authority that signed it";

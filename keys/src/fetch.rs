//! Two requests over HTTPS: OIDC discovery, and the key set that it names.
//!
//! Nothing is taken from the environment: no proxy, no authorities. No redirect is followed, an answer is at most a
//! mebibyte, both requests together have a deadline, and the key set must lie on the server that was asked.

use crate::commands::Server;
use crate::trouble::Trouble;
use nunbird_policy::origin;
use rustls::crypto::aws_lc_rs;
use serde::Deserialize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

const DISCOVERY: &str = "/.well-known/openid-configuration";
/// The longest answer, in bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// Where distributions keep the system's authorities in one file.
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

/// The server's key set, as it came.
pub(crate) fn jwks(server: &Server, patience: Duration) -> Result<Vec<u8>, Trouble> {
    let deadline = Instant::now() + patience;
    let agent = agent(server)?;
    let discovery_url = format!("{}{DISCOVERY}", server.url.trim_end_matches('/'));
    let discovery = get(&agent, &discovery_url, deadline)?;
    let discovery: Discovery = serde_json::from_slice(&discovery)
        .map_err(|e| Trouble::new(format!("{discovery_url}: not an OIDC discovery document: {e}")))?;
    if discovery.issuer != server.issuer {
        return Err(Trouble::new(format!(
            "{discovery_url}: the server's issuer is {}, the configuration's is {}; set `issuer` if that is right",
            discovery.issuer, server.issuer
        )));
    }
    if origin(&discovery.jwks_uri) != origin(&server.url) {
        return Err(Trouble::new(format!(
            "{discovery_url}: names keys at {}, which is another server; pin the keys if that is right",
            discovery.jwks_uri
        )));
    }
    get(&agent, &discovery.jwks_uri, deadline)
}

fn agent(server: &Server) -> Result<Agent, Trouble> {
    let mut tls =
        TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()));
    if server.url.starts_with("https://") {
        tls = tls.root_certs(authorities(server)?);
    }
    let config = Agent::config_builder()
        .tls_config(tls.build())
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(true)
        .user_agent(concat!("nunbird-keys/", env!("CARGO_PKG_VERSION")))
        .accept("application/json")
        .build();
    Ok(config.into())
}

fn authorities(server: &Server) -> Result<RootCerts, Trouble> {
    let (name, pem) = match &server.ca_file {
        Some(file) => (file.display().to_string(), std::fs::read(file)),
        None => {
            let found = SYSTEM_AUTHORITIES.iter().find(|file| std::path::Path::new(file).is_file());
            let file = found.ok_or_else(|| {
                Trouble::new("this host has no file of certificate authorities; install ca-certificates or set `ca_file`")
            })?;
            ((*file).to_owned(), std::fs::read(file))
        }
    };
    let pem = pem.map_err(|e| Trouble::new(format!("{name}: {e}")))?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(Trouble::new(format!("{name}: holds no certificate in PEM form")));
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}

fn get(agent: &Agent, url: &str, deadline: Instant) -> Result<Vec<u8>, Trouble> {
    let left = deadline.saturating_duration_since(Instant::now());
    let failed = |e: ureq::Error| {
        let hint = match &e {
            ureq::Error::BodyExceedsLimit(_) => "; that is no GitLab server's answer",
            ureq::Error::TooManyRedirects => {
                "; redirects are not followed: configure the URL that it leads to"
            }
            ureq::Error::Rustls(_) | ureq::Error::Tls(_) => "; see `ca_file`",
            _ => "",
        };
        Trouble::new(format!("{url}: {e}{hint}"))
    };
    let response = agent.get(url).config().timeout_global(Some(left)).build().call().map_err(failed)?;
    response.into_body().into_with_config().limit(MAX_ANSWER).read_to_vec().map_err(failed)
}

//! HTTPS requests: OIDC discovery and the key set that it names, or the job that a job token
//! belongs to.
//!
//! Nothing is taken from the environment: no proxy and no certificate authorities (`SSL_CERT_FILE`
//! and the like are ignored). A server without a `ca_file` is verified by the distribution's bundle
//! of certificate authorities, one with it by that file alone. No redirect is followed, a response
//! is at most a mebibyte, both requests together have a deadline, and the key set must be on the
//! server that was queried.
//!
//! A server with a proxy is reached by it alone, by the method CONNECT: the TLS connection is with
//! the server, and its certificate is verified in the same way, so the proxy sees names and lengths.
//! The proxy resolves the server's name: hosts behind proxies often cannot.

use crate::error::KeysError;
use crate::files;
use crate::server::{Server, Way};
use nunbird_handover::Untrusted;
use nunbird_policy::origin;
use rustls::crypto::aws_lc_rs;
use serde::Deserialize;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use ureq::http::StatusCode;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy, ProxyProtocol};
use zeroize::Zeroizing;

const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Time beyond the deadline, in which the library reports its own end of time with a better reason.
const GRACE: Duration = Duration::from_millis(200);
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
    let client = Client::new(&server.url, &server.way)?;
    let discovery_url = format!("{}{DISCOVERY}", server.url.trim_end_matches('/'));
    let discovery = client.get(&discovery_url, None, deadline)?;
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
    client.get(&discovery.jwks_uri, None, deadline)
}

/// The server's description of the running job that a job token belongs to, as received
/// (docs.gitlab.com/api/jobs, "Get job token's job").
///
/// # Errors
/// If the response does not arrive in time, complete and from the intended server; no message
/// contains the token.
pub(crate) fn job(url: &str, way: &Way, token: &str, timeout: Duration) -> Result<Vec<u8>, KeysError> {
    let client = Client::new(url, way)?;
    let url = format!("{}/api/v4/job", url.trim_end_matches('/'));
    client.get(&url, Some(token), Instant::now() + timeout)
}

/// What makes the requests to one server.
struct Client<'w> {
    agent: Agent,
    way: &'w Way,
}

impl<'w> Client<'w> {
    fn new(url: &str, way: &'w Way) -> Result<Self, KeysError> {
        let mut tls =
            TlsConfig::builder().unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()));
        if url.starts_with("https://") {
            tls = tls.root_certs(authorities(way.ca_file.as_deref())?);
        }
        let config = Agent::config_builder()
            .tls_config(tls.build())
            .proxy(proxy(way)?)
            .max_redirects(0)
            .user_agent(concat!("nunbird-keys/", env!("CARGO_PKG_VERSION")))
            .accept("application/json")
            .build();
        Ok(Client { agent: config.into(), way })
    }

    fn get(&self, url: &str, job_token: Option<&str>, deadline: Instant) -> Result<Vec<u8>, KeysError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let (agent, asked) = (self.agent.clone(), url.to_owned());
        let token = job_token.map(|token| Zeroizing::new(token.to_owned()));
        let (sender, receiver) = mpsc::channel();
        // In a thread, because the library gives each read of a proxy's response the whole time again: one that sends a byte now
        // and then would never be given up. The thread ends with the program.
        thread::spawn(move || {
            let token = token.as_ref().map(|token| token.as_str());
            drop(sender.send(exchange(&agent, &asked, token, left)));
        });
        let failure = match receiver.recv_timeout(left + GRACE) {
            Ok(Ok(body)) => return Ok(body),
            Ok(Err(Failure::Status(status))) if status.is_redirection() => format!(
                "{}: the response is {status}; redirects are not followed: configure the URL that it leads to",
                Untrusted(url)
            ),
            Ok(Err(Failure::Status(status))) => format!("{}: the response is {status}", Untrusted(url)),
            Ok(Err(Failure::Exchange(e))) => self.explain(url, &e),
            Err(_) => {
                let by = self.way.proxy.as_ref().map(|proxy| format!(" by the proxy {proxy}"));
                let (by, seconds) = (by.unwrap_or_default(), left.as_secs_f64());
                format!("{}{by}: timeout: no complete response within {seconds:.1} s", Untrusted(url))
            }
        };
        Err(KeysError::new(failure))
    }

    /// What failed, and whether it was the proxy that refused.
    fn explain(&self, url: &str, error: &ureq::Error) -> String {
        let url = Untrusted(url);
        let Some(proxy) = &self.way.proxy else { return format!("{url}: {error}{}", hint(error)) };
        match error {
            ureq::Error::ConnectProxyFailed(said) => match refusal(said) {
                Some(status) => {
                    format!("{url}: the proxy {proxy} refused with {status}{}", proxy_hint(status, self.way))
                }
                None => format!("{url}: the proxy {proxy} did not answer like a proxy: {}", Untrusted(said)),
            },
            // Only the proxy is connected to.
            ureq::Error::Io(e) if e.get_ref().is_none() => {
                format!("{url}: the connection to the proxy {proxy} failed: {e}; check `proxy`")
            }
            _ => format!("{url} by the proxy {proxy}: {error}{}", hint(error)),
        }
    }
}

/// Why there is no response to use.
enum Failure {
    Status(StatusCode),
    Exchange(ureq::Error),
}

fn exchange(agent: &Agent, url: &str, job_token: Option<&str>, left: Duration) -> Result<Vec<u8>, Failure> {
    let mut request = agent.get(url);
    if let Some(token) = job_token {
        request = request.header("JOB-TOKEN", token);
    }
    let response = request.config().timeout_global(Some(left)).build().call().map_err(Failure::Exchange)?;
    // An agent that follows no redirect returns it as a response, and it may have a body.
    if response.status() != StatusCode::OK {
        return Err(Failure::Status(response.status()));
    }
    response.into_body().into_with_config().limit(MAX_ANSWER).read_to_vec().map_err(Failure::Exchange)
}

/// The status that a proxy refused with, of the library's words "responded 407/407".
fn refusal(said: &str) -> Option<StatusCode> {
    let number = said.rsplit_once('/')?.1;
    StatusCode::from_bytes(number.as_bytes()).ok()
}

fn proxy_hint(status: StatusCode, way: &Way) -> String {
    match (status.as_u16(), &way.proxy_auth_file) {
        // tinyproxy's answer to a wrong password is 401.
        (401 | 407, None) => "; name a file with `USER:PASSWORD` in `proxy_auth_file`".to_owned(),
        (401 | 407, Some(file)) => format!("; check user and password in {}", file.display()),
        (403 | 405, _) => "; its rules must allow CONNECT to this server and port".to_owned(),
        (500..=599, _) => "; it cannot reach the server, or does not know its name".to_owned(),
        _ => String::new(),
    }
}

/// The proxy of the configuration, and none else.
fn proxy(way: &Way) -> Result<Option<Proxy>, KeysError> {
    let Some(url) = &way.proxy else { return Ok(None) };
    let wrong = || KeysError::new(format!("the proxy {url}: not `http://HOST:PORT`"));
    let (host, port) =
        url.strip_prefix("http://").and_then(|rest| rest.rsplit_once(':')).ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let mut proxy = Proxy::builder(ProxyProtocol::Http).host(host).port(port);
    if let Some(file) = &way.proxy_auth_file {
        let line = files::secret(file)?;
        let line = line.strip_suffix('\n').unwrap_or(&line);
        let (user, password) = line
            .split_once(':')
            .filter(|(user, _)| !user.is_empty() && !line.contains(char::is_control))
            .ok_or_else(|| {
                let shown = file.display();
                KeysError::new(format!("{shown}: not one line `USER:PASSWORD` for the proxy {url}"))
            })?;
        proxy = proxy.username(user).password(password);
    }
    proxy.build().map(Some).map_err(|_| wrong())
}

fn authorities(ca_file: Option<&Path>) -> Result<RootCerts, KeysError> {
    let (name, pem) = match ca_file {
        Some(file) => (file.display().to_string(), Ok(files::read_trusted(file, MAX_AUTHORITIES)?.0)),
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

fn hint(error: &ureq::Error) -> &'static str {
    match error {
        ureq::Error::BodyExceedsLimit(_) => "; that is not a GitLab server's response",
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => CERTIFICATE,
        ureq::Error::Io(e) if e.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => CERTIFICATE,
        _ => "",
    }
}

const CERTIFICATE: &str = "; if the certificate is right, set `ca_file` to the authority that signed it";

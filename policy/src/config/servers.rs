//! `[[gitlab]]`: the servers whose jobs may run.

use super::keys::{Form, Key, Setting, Table, Word, form};
use super::listed::ListedServer;
use super::reader::{At, Section, Spot};
use super::values;
use crate::lens::lens;
use crate::people::is_server_name;
use crate::url::{check_proxy, check_url};
use nunbird_handover::Untrusted;
use std::collections::BTreeMap;
use std::path::PathBuf;

const HOUR: u64 = 3600;

/// A signature algorithm that a GitLab server may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256, the one that GitLab uses.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
}

impl Word for Algorithm {
    const WORDS: &'static [(&'static str, Self)] =
        &[("RS256", Algorithm::Rs256), ("ES256", Algorithm::Es256), ("ES384", Algorithm::Es384)];
}

/// One GitLab server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitLabServer {
    /// Names the keys file and appears in audit lines: lower-case letters, digits, `-`.
    pub name: String,
    /// Where discovery starts. HTTPS, or HTTP on loopback.
    pub url: String,
    /// The exact `iss` of its tokens; the URL unless the server sets another.
    pub issuer: String,
    /// A token must name at least one of these in `aud`.
    pub audience: Vec<String>,
    /// PEM file with the authorities for the server's certificate, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The forward proxy by which it is reached, `http://HOST:PORT`; directly where there is none.
    pub proxy: Option<String>,
    /// A file with `USER:PASSWORD` for the proxy.
    pub proxy_auth_file: Option<PathBuf>,
    /// Algorithms accepted for its signatures.
    pub algorithms: Vec<Algorithm>,
    /// When not empty, the token's `runner_id` must be one of these.
    pub runner_ids: Vec<u64>,
    /// URLs below which its repositories are, besides its own.
    pub repository_urls: Vec<String>,
    /// Seconds after which a key that the server no longer shows is not used.
    pub keys_max_age: u64,
    /// Whether it is asked about the user of a job.
    pub user_check: UserCheck,
}

/// Whether the GitLab server is asked about the user of a job before the job gets an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UserCheck {
    /// It must say that the user is the token's, active, and a person.
    #[default]
    Required,
    /// It is not asked.
    Off,
}

impl Word for UserCheck {
    const WORDS: &'static [(&'static str, Self)] =
        &[("required", UserCheck::Required), ("off", UserCheck::Off)];
}

impl UserCheck {
    /// As the configuration has it.
    pub fn name(self) -> &'static str {
        self.word()
    }
}

/// Seconds for which a key holds that the server no longer shows, unless the site says otherwise.
///
/// GitLab signs a job's token when it hands the job out, minutes before `config` reads it, so a key that it changed is
/// needed for minutes; the rest is patience with a host that cannot fetch keys for two days. A key that the server had to
/// withdraw holds as long.
pub const DEFAULT_KEYS_MAX_AGE: u64 = 48 * 3600;

impl GitLabServer {
    /// A server of which only the URL is known: named after its host, and without an audience.
    pub fn with_url(url: String) -> Self {
        GitLabServer {
            name: server_name(&url),
            issuer: url.clone(),
            url,
            audience: Vec::new(),
            ca_file: None,
            proxy: None,
            proxy_auth_file: None,
            algorithms: vec![Algorithm::Rs256],
            runner_ids: Vec::new(),
            repository_urls: Vec::new(),
            keys_max_age: DEFAULT_KEYS_MAX_AGE,
            user_check: UserCheck::Required,
        }
    }

    /// All URLs below which its repositories are.
    pub fn repositories(&self) -> Vec<String> {
        std::iter::once(&self.url).chain(&self.repository_urls).cloned().collect()
    }
}

/// The host's name as a server's: it names the keys file.
fn server_name(url: &str) -> String {
    let authority = url.split("://").nth(1).unwrap_or("").split('/').next().unwrap_or("");
    let host = match authority.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or(""),
        None => authority.split(':').next().unwrap_or(""),
    };
    let label = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = host.chars().map(label).take(64).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "gitlab".to_owned() } else { name.to_owned() }
}

/// `[[gitlab]]`.
#[rustfmt::skip]
pub static GITLAB_KEYS: Table<GitLabServer> = Table {
    path: "gitlab[]",
    defaults: || GitLabServer::with_url(String::new()),
    keys: &[
        Key::<GitLabServer>::new("name", Form::Own { takes: "text", get: |t| Some(Setting::Text(t.name.clone())) },
            "names the keys file and appears in audit events: lower-case letters, digits, `-`").or("required"),
        Key::<GitLabServer>::new("url", Form::Own { takes: "text", get: |t| Some(Setting::Text(t.url.clone())) },
            "HTTPS; plain HTTP for loopback alone").or("required"),
        Key::<GitLabServer>::new("audience", Form::Texts { get: |t| Some(t.audience.clone()), set: |t, at| t.audience = audience(at) },
            "a token must have one of these in `aud`").or("required"),
        Key::<GitLabServer>::new("issuer", Form::Text { get: |t| Some(t.issuer.clone()), set: |t, at| t.issuer = at.value.to_owned() },
            "the exact `iss` of its tokens").or("`url`"),
        Key::<GitLabServer>::new("ca_file", form!(PathOrNone: ca_file), "PEM file with the authorities for its certificate").or("the system's"),
        Key::<GitLabServer>::new("proxy", Form::Text { get: |t| t.proxy.clone(), set: |t, at| t.proxy = Some(proxy(at)) },
            "forward proxy by which every request to the server goes, `http://HOST:PORT`, below").or("none, and never the environment's"),
        Key::<GitLabServer>::new("proxy_auth_file", form!(PathOrNone: proxy_auth_file),
            "file with one line `USER:PASSWORD` for the proxy, which others cannot read").or("none"),
        Key::<GitLabServer>::new("algorithms",
            Form::Texts { get: |t| Some(t.algorithms.iter().map(|one| one.word().to_owned()).collect()), set: |t, at| t.algorithms = algorithms(at) },
            "signature algorithms accepted: `RS256`, which GitLab uses, `ES256`, `ES384`"),
        Key::<GitLabServer>::new("runner_ids", Form::Numbers(lens!(runner_ids)),
            "ids of the runners whose jobs are accepted; other jobs are refused with `runner-ids`, and the audit event has the id").or("any"),
        Key::<GitLabServer>::new("repository_urls",
            Form::Texts { get: |t| (!t.repository_urls.is_empty()).then(|| t.repository_urls.clone()), set: |t, at| t.repository_urls = at.value.iter().map(url).collect() },
            "further URLs of its repositories, below").or("none"),
        Key::<GitLabServer>::new("keys_max_age", form!(Seconds: keys_max_age, HOUR, 3650 * 24 * HOUR),
            "how long a key is used after it was last fetched, below"),
        Key::<GitLabServer>::new("user_check", form!(Word: user_check, UserCheck),
            "whether the server is asked about the user of each job, see \"Who a login is\""),
    ],
};

pub(super) fn read(root: &mut Section<'_>) -> Vec<GitLabServer> {
    let tables = root.tables("gitlab");
    if tables.is_empty() {
        let help = "add a `[[gitlab]]` table with `name`, `url` and `audience`";
        root.find("no GitLab server is configured", help);
    }
    let mut names = BTreeMap::new();
    tables.into_iter().map(|table| server(table, &mut names)).collect()
}

fn server<'t>(mut table: Section<'t>, names: &mut BTreeMap<String, Spot<'t>>) -> GitLabServer {
    for key in ["name", "url", "audience"] {
        if !table.has(key) {
            table.find(format!("missing key `{key}`"), format!("add `{key} = \"…\"`"));
        }
    }
    let mut server = GitLabServer::with_url(String::new());
    if let Some(name) = table.text("name") {
        check_name(&name, names);
        server.name = name.value.to_owned();
    }
    server.url = table.text("url").map(|at| url(&at)).unwrap_or_default();
    server.issuer.clone_from(&server.url);
    GITLAB_KEYS.read(&mut table, &mut server);
    if server.proxy.is_some() && server.url.starts_with("http://") {
        table.clash_at("proxy", "url", PLAIN_BY_PROXY.0, PLAIN_BY_PROXY.1);
    }
    if server.proxy.is_none() && server.proxy_auth_file.is_some() && !table.has("proxy") {
        let help = "add `proxy = \"http://HOST:PORT\"`, or remove this key";
        table.find_at("proxy_auth_file", NO_PROXY, help);
    }
    table.finish();
    server
}

/// A finding and what to do about it.
const PLAIN_BY_PROXY: (&str, &str) = (
    "a server that is reached by plain HTTP has no proxy",
    "remove it: plain HTTP is for a GitLab server on this host, and the proxy would see the jobs' tokens",
);
const NO_PROXY: &str = "a password for a proxy, and no `proxy`";

/// The proxy that the list of configurations gives a server, and the file with its password.
pub(super) fn listed_proxy(server: &ListedServer<'_>) -> (Option<String>, Option<PathBuf>) {
    let ListedServer { url, proxy: address, proxy_auth_file } = server;
    if let Some(at) = address.as_ref().filter(|_| url.value.starts_with("http://")) {
        at.spot.find(PLAIN_BY_PROXY.0, PLAIN_BY_PROXY.1);
    }
    if let Some(at) = proxy_auth_file.as_ref().filter(|_| address.is_none()) {
        at.spot.find(NO_PROXY, "add `proxy=http://HOST:PORT`, or remove this word");
    }
    (address.as_ref().map(proxy), proxy_auth_file.as_ref().map(values::path))
}

fn check_name<'t>(name: &At<'t, &str>, names: &mut BTreeMap<String, Spot<'t>>) {
    let text = name.value;
    if !is_server_name(text) {
        let help = "use lower-case letters, digits and `-`; it names the keys file";
        name.spot.find("invalid name of a server", help);
    }
    if let Some(first) = names.insert(text.to_owned(), name.spot) {
        name.spot.clash(Some(first), "two servers have this name", "give each server its own name");
    }
}

pub(super) fn url(at: &At<'_, &str>) -> String {
    let text = at.value.trim_end_matches('/');
    if let Err(help) = check_url(text) {
        at.spot.find("invalid URL of a GitLab server", help);
    }
    text.to_owned()
}

fn proxy(at: &At<'_, &str>) -> String {
    let text = at.value.strip_suffix('/').unwrap_or(at.value);
    if let Err(help) = check_proxy(text) {
        at.spot.find("invalid address of a proxy", help);
    }
    text.to_owned()
}

fn audience(at: At<'_, Vec<At<'_, &str>>>) -> Vec<String> {
    if at.value.is_empty() || at.value.iter().any(|one| one.value.is_empty()) {
        let help = "name the `aud` of the jobs' `id_tokens:`";
        at.spot.find("a server without an audience accepts no token", help);
    }
    at.value.iter().map(|one| one.value.to_owned()).collect()
}

fn algorithms(at: At<'_, Vec<At<'_, &str>>>) -> Vec<Algorithm> {
    if at.value.is_empty() {
        at.spot.find("a server without an algorithm accepts no token", "GitLab signs with `RS256`");
    }
    let known = |one: &At<'_, &str>| {
        let found = Algorithm::of(one.value);
        if found.is_none() {
            let message = format!("unknown algorithm `{}`", Untrusted(one.value));
            one.spot.find(message, "known here: RS256, ES256, ES384");
        }
        found
    };
    at.value.iter().filter_map(known).collect()
}

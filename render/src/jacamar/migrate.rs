//! A Jacamar configuration as the text of Nunbird's own, with the reason for each line: for `nunbirdctl migrate`.
//!
//! A file without findings gives a text that decides as the file does. With findings the text has what could be read, the
//! findings as comments, and a first rule that denies every job: what was dropped may have been what kept somebody out.

use super::{JACAMAR_KEYS, KeyEffect};
use crate::to_toml;
use nunbird_handover::Untrusted;
use nunbird_policy::*;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What became of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Migration {
    /// It is Nunbird's own already.
    Native,
    /// It is not TOML, so its keys are unknown.
    Unreadable(Vec<Diagnostic>),
    /// It is Jacamar's.
    Migrated {
        /// Nunbird's own configuration. With findings it denies every job.
        text: String,
        /// What has no counterpart.
        findings: Vec<Diagnostic>,
        /// Why the text is no configuration yet; its lines are the text's. Empty without findings.
        refused: Vec<Diagnostic>,
    },
}

/// What the admin says of the server, in place of what the file says or leaves out.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// The server's URL, which has passed [`nunbird_policy::check_url`].
    pub gitlab_server: Option<String>,
    /// The audience of the jobs' id tokens.
    pub audience: Option<String>,
    /// The forward proxy by which the server is reached, which has passed [`nunbird_policy::check_proxy`].
    pub proxy: Option<String>,
    /// The file with the proxy's user and password.
    pub proxy_auth_file: Option<PathBuf>,
}

/// Writes Jacamar's configuration as Nunbird's own.
pub fn migrate(source: &SourceFile, options: &ServerOptions) -> Migration {
    let PartialReading { policy, mut findings, origins, .. } =
        Policy::read_partially(std::slice::from_ref(source));
    let Some(mut policy) = policy else { return Migration::Unreadable(findings) };
    if policy.dialect == Dialect::Native {
        return Migration::Native;
    }
    if options.gitlab_server.is_some() {
        findings.retain(|finding| finding.message != NO_GITLAB_SERVER);
    }
    set_server(&mut policy, options, &origins);
    let mut text = header(source, &policy, &origins, &findings);
    if !findings.is_empty() {
        policy.rules.insert(0, not_whole());
    }
    text.push('\n');
    text.push_str(&to_toml(&policy, &|key| {
        option_comment(key, options).or_else(|| comment(key, &policy, &origins))
    }));
    if let Executor::Described(name) = &policy.job.executor {
        text.push_str(&not_described(name));
    }
    let refused = Policy::parse(Path::new("written.toml"), &text).err().unwrap_or_default();
    Migration::Migrated { text, findings, refused }
}

/// Puts what the admin says into the policy. Without an audience of its own a server's is its URL.
fn set_server(policy: &mut Policy, options: &ServerOptions, origins: &BTreeMap<String, Location>) {
    for server in &mut policy.gitlab {
        if let Some(url) = &options.gitlab_server {
            let named = GitLabServer::with_url(url.clone());
            (server.name, server.issuer, server.url) = (named.name, named.issuer, named.url);
            if !origins.contains_key("auth.jwt_required_aud") {
                server.audience = vec![url.clone()];
            }
        }
        if let Some(audience) = &options.audience {
            server.audience = vec![audience.clone()];
        }
        if let Some(proxy) = &options.proxy {
            server.proxy = Some(proxy.clone());
            server.proxy_auth_file.clone_from(&options.proxy_auth_file);
        }
    }
}

/// The comment on a line that an option decided.
fn option_comment(key: &str, options: &ServerOptions) -> Option<String> {
    let option = match key {
        "gitlab[0].url" => options.gitlab_server.as_ref().map(|_| "--gitlab-server"),
        "gitlab[0].audience" => options.audience.as_ref().map(|_| "--audience"),
        "gitlab[0].proxy" => options.proxy.as_ref().map(|_| "--proxy"),
        "gitlab[0].proxy_auth_file" => options.proxy_auth_file.as_ref().map(|_| "--proxy-auth-file"),
        _ => None,
    };
    option.map(|option| format!("given by {option}"))
}

/// The table that is missing for an executor that is not built in, as a comment.
fn not_described(name: &str) -> String {
    let name = one_line(name);
    format!(
        "\n# There is no executor `{name}` yet, and `nunbirdctl check` refuses this file until there is: describe a scheduler\n\
         # of that name, or change `executor` under [job] to the one that jobs are to run by.\n\
         #[scheduler.{name}]\n#description = \"/etc/nunbird/{name}.toml\"  # docs/schedulers.md\n"
    )
}

fn not_whole() -> Rule {
    Rule {
        name: "not migrated yet".to_owned(),
        place: Location { file: "".into(), line: 0, column: 0 },
        conditions: Vec::new(),
        exceptions: Vec::new(),
        outcome: RuleOutcome::Deny("this host's configuration is being changed".to_owned()),
        profile: None,
        limits: None,
        pinning: true,
        bots: false,
        user_check: None,
    }
}

// A String takes everything, so the results of writing are dropped.
fn header(
    source: &SourceFile,
    policy: &Policy,
    origins: &BTreeMap<String, Location>,
    findings: &[Diagnostic],
) -> String {
    let file = source.path.to_string_lossy();
    let file = one_line(&file);
    let mut text = format!("# Written by `nunbirdctl migrate` from {file}.\n");
    if findings.is_empty() {
        let _ = write!(
            text,
            "# It decides every job as that file does; hold the two against your audit file:\n\
             # nunbirdctl diff {file} THIS-FILE --log /var/log/nunbird/audit.jsonl\n"
        );
    } else {
        text.push_str(
            "#\n# Not whole: the first rule denies every job. Settle what is refused, then remove it.\n",
        );
    }
    for finding in findings {
        let place = format!("{}:{}:{}", file, finding.place.line, finding.place.column);
        let _ = writeln!(text, "# REFUSED {place}: {}", one_line(&finding.message));
        let _ = writeln!(text, "#     {}", one_line(finding.source_line.trim()));
        if let Some(help) = &finding.help {
            let _ = writeln!(text, "#     {}", one_line(help));
        }
    }
    let without = keys_without_effect(origins);
    if !without.is_empty() {
        text.push_str("#\n# Without effect under Nunbird:\n");
    }
    for (key, place, why) in without {
        let _ = writeln!(text, "# line {}, {}: {why}", place.line, one_line(key));
    }
    if policy.downscope == Downscope::None {
        text.push_str(
            "#\n# Jobs run as the account of the runner, and only its own are admitted. Where others' jobs are to run as a shared\n\
             # account, name it: `run_as = \"shared\"`, with conditions on who and which projects.\n",
        );
    }
    if policy.validation.is_some() {
        text.push_str(
            "#\n# The validation program runs as root, as under Jacamar. An account of its own is safer: `user` under [validation].\n",
        );
    }
    text
}

/// The keys of Jacamar's that a configuration sets and that do nothing under Nunbird, in the order of the file, with the
/// reason. `origins` are those of the configuration's [`Reading`](nunbird_policy::Reading).
pub fn keys_without_effect(origins: &BTreeMap<String, Location>) -> Vec<(&str, &Location, &'static str)> {
    let why = |path: &str| {
        let (table, key) = path.rsplit_once('.').unwrap_or(("", path));
        let known = JACAMAR_KEYS.iter().find(|(t, k, _)| *t == table && *k == key);
        match known {
            Some((_, _, KeyEffect::WithoutEffect(why))) => Some(*why),
            Some(("general.podman", ..)) if !origins.contains_key("general.run_mechanism") => {
                Some("the table is for `run_mechanism = \"podman\"`")
            }
            Some(_) => None,
            None => key.starts_with("ff_").then_some("a feature flag of Jacamar's"),
        }
    };
    let mut all: Vec<_> =
        origins.iter().filter_map(|(path, place)| Some((path.as_str(), place, why(path)?))).collect();
    all.sort_by_key(|(_, place, _)| (place.line, place.column));
    all
}

/// Why a line of the native configuration is as it is.
fn comment(key: &str, policy: &Policy, origins: &BTreeMap<String, Location>) -> Option<String> {
    if let Some(index) = key.strip_prefix("rule[").and_then(|rest| rest.strip_suffix(']')) {
        let rule = policy.rules.get(index.parse::<usize>().ok()?)?;
        return match rule.place.line {
            0 => Some("remove this rule when everything that is refused is settled".to_owned()),
            line => Some(format!("line {line}")),
        };
    }
    if let (Executor::Described(_), "job.executor") = (&policy.job.executor, key)
        && let Some(place) = origins.get("general.run_mechanism")
    {
        return Some(format!("general.run_mechanism, line {}: jobs in containers", place.line));
    }
    if key == "accounts.min_uid" {
        return Some("Jacamar has no such bound".to_owned());
    }
    if key == "job.jacamar_variables" {
        return Some("Jacamar sets JACAMAR_CI_SHELL; remove this if no profile asks for it".to_owned());
    }
    let key = match key.strip_prefix("container.podman.") {
        Some(name) => format!("container[].{name}"),
        None => key.replace("[0]", "[]"),
    };
    let sources = || {
        JACAMAR_KEYS
            .iter()
            .filter(|(_, _, effect)| matches!(effect, KeyEffect::Honoured(native) if *native == key))
    };
    let set: Vec<String> = sources()
        .filter_map(|(table, name, _)| {
            let place = origins.get(&format!("{table}.{name}"))?;
            Some(format!("{table}.{name}, line {}", place.line))
        })
        .collect();
    if !set.is_empty() {
        return Some(set.join("; "));
    }
    let (table, name, _) = sources().next()?;
    let unset = format!("{table}.{name} is not set");
    Some(match key.as_str() {
        "gitlab[].audience" => format!("{unset}: Jacamar would take any audience"),
        "job.no_new_privileges" => {
            "Jacamar's filter of system calls brings it; the filter itself is not here".to_owned()
        }
        "audit.file" if policy.audit.file.is_some() => {
            format!("{unset}; this file is written in any case")
        }
        _ => unset,
    })
}

fn one_line(text: &str) -> String {
    Untrusted(&text.replace(['\n', '\r'], " ")).to_string()
}

//! What a CI user writes into .gitlab-ci.yml so that this site accepts the job's id token.

use crate::refusal::{Code, Refusal};
use nunbird_policy::{GitLabServer, IdentitySource, Policy, origin};
use std::fmt::Write;

/// Adds the lines to paste to a refusal that they would mend. `server_url` is what the job says of its server, which chooses words for
/// the job's user and nothing else; it may be empty.
pub fn add(refusal: Refusal, server_url: &str, policy: &Policy) -> Refusal {
    let by_id_token = policy.identity.sources.contains(&IdentitySource::IdToken);
    let variable = policy.identity.token_variables.first().filter(|_| by_id_token);
    match (refusal.code, variable) {
        (Code::NoToken | Code::TokenEmpty | Code::TokenMalformed, Some(variable)) => {
            let servers = servers_of(server_url, policy);
            refusal.help(missing(variable, &servers))
        }
        (Code::TokenAudience, Some(_)) => {
            let servers = servers_of(server_url, policy);
            refusal.help(audience(&servers))
        }
        _ => refusal,
    }
}

/// For the admin: the runner's id and the configured ones.
pub(crate) fn other_runner(server: usize, runner_id: Option<u64>, policy: &Policy) -> String {
    let Some(server) = policy.gitlab.get(server) else {
        return "the verifier named a server that is not configured".to_owned();
    };
    let ids: Vec<String> = server.runner_ids.iter().map(u64::to_string).collect();
    let seen = runner_id.map_or_else(|| "names no runner".to_owned(), |id| format!("is of runner {id}"));
    format!("the job {seen}; server `{}` has runner_ids = [{}]", server.name, ids.join(", "))
}

/// The servers that the job can be of: those of the host that the job says it comes from, or all.
fn servers_of<'p>(server_url: &str, policy: &'p Policy) -> Vec<&'p GitLabServer> {
    let known = |server: &&GitLabServer| {
        [&server.url, &server.issuer].iter().any(|own| origin(own) == origin(server_url))
    };
    let fit: Vec<&GitLabServer> = policy.gitlab.iter().filter(known).collect();
    if fit.is_empty() { policy.gitlab.iter().collect() } else { fit }
}

fn missing(variable: &str, servers: &[&GitLabServer]) -> String {
    let mut help = "add these lines to the job, or to `default:`, in .gitlab-ci.yml:".to_owned();
    for server in servers {
        if servers.len() > 1 {
            // A String takes everything.
            let _ = write!(help, "\n# for projects on {}", server.url);
        }
        let audience = server.audience.first().map_or("", String::as_str);
        let _ = write!(help, "\nid_tokens:\n  {variable}:\n    aud: {}", quoted(audience));
    }
    help
}

fn audience(servers: &[&GitLabServer]) -> String {
    let mut help =
        "set `aud:` of the id token in .gitlab-ci.yml to a value that this site accepts:".to_owned();
    for server in servers {
        let of =
            if servers.len() > 1 { format!("  # for projects on {}", server.url) } else { String::new() };
        for audience in &server.audience {
            let _ = write!(help, "\naud: {}{of}", quoted(audience));
        }
    }
    help
}

/// A double-quoted scalar of YAML, which JSON's strings are (YAML 1.2, 7.3.1).
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

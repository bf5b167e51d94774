//! One decision, rule by rule, in words.

use nunbird_handover::Untrusted;
use nunbird_policy::{Condition, Policy, Subject, Verdict, decide};
use serde::Deserialize;
use std::fmt::Write;
use std::path::Path;

/// The facts that rules ask about, as an admin writes them down. Names are those of GitLab's claims.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Facts {
    server: Option<String>,
    user_login: String,
    user_id: u64,
    project_path: String,
    #[serde(default)]
    project_id: u64,
    namespace_path: Option<String>,
    #[serde(rename = "ref")]
    git_ref: String,
    ref_protected: bool,
    pipeline_source: String,
    environment: Option<String>,
    runner_id: Option<u64>,
}

/// Reads the facts; server and namespace default to the first server and the project's parent.
pub(crate) fn subject(file: &Path, policy: &Policy) -> Result<Subject, String> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let facts: Facts = serde_json::from_str(&text).map_err(|e| {
        let place = format!("{}:{}:{}", file.display(), e.line(), e.column());
        format!("{place}: {}", Untrusted(&e.to_string()))
    })?;
    let first = policy.gitlab.first().map(|server| server.name.clone()).unwrap_or_default();
    let parent = facts.project_path.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
    Ok(Subject {
        server: facts.server.unwrap_or(first),
        user_login: facts.user_login,
        user_id: facts.user_id,
        namespace_path: facts.namespace_path.unwrap_or(parent),
        project_path: facts.project_path,
        project_id: facts.project_id,
        git_ref: facts.git_ref,
        ref_protected: facts.ref_protected,
        pipeline_source: facts.pipeline_source,
        environment: facts.environment,
        runner_id: facts.runner_id,
    })
}

/// The decision in words, and whether it is yes.
pub(crate) fn explain(policy: &Policy, subject: &Subject) -> (String, bool) {
    let decision = decide(policy, subject);
    let mut text = String::new();
    for (number, step) in decision.steps.iter().enumerate() {
        let outcome = match step.failed {
            None => "fits".to_owned(),
            Some(condition) => format!("does not fit: {}", describe(condition, subject)),
        };
        let (name, place) = (Untrusted(&step.rule.name), &step.rule.place);
        // A String takes everything.
        let _ = writeln!(text, "{:>3}. {name} ({place}): {outcome}", number + 1);
    }
    let (line, admitted) = match decision.verdict {
        Verdict::RunAs { account, .. } => {
            (format!("admitted: runs as `{account}`, if the account passes on the host"), true)
        }
        Verdict::DeniedByRule { message, .. } => {
            (format!("denied by that rule: {}", Untrusted(message)), false)
        }
        Verdict::DeniedAccount { account, violation, .. } => {
            (format!("denied: no job runs as `{}`: {violation}", Untrusted(&account)), false)
        }
        Verdict::DeniedBot => {
            ("denied: the login is a bot's, and accounts.allow_bots is false".to_owned(), false)
        }
        Verdict::NoRule => ("denied: no rule fits".to_owned(), false),
    };
    text.push_str(&line);
    text.push('\n');
    (text, admitted)
}

/// The condition that failed, with the value it saw.
fn describe(condition: &Condition, subject: &Subject) -> String {
    let absent = "absent".to_owned();
    let number = |n: &Option<u64>| n.map_or_else(|| absent.clone(), |n| n.to_string());
    let (name, value) = match condition {
        Condition::Server(_) => ("server", subject.server.clone()),
        Condition::Project(_) => ("project", subject.project_path.clone()),
        Condition::Namespace(_) => ("namespace", subject.namespace_path.clone()),
        Condition::User(_) => ("user", subject.user_login.clone()),
        Condition::UserId(_) => ("user_id", subject.user_id.to_string()),
        Condition::Ref(_) => ("ref", subject.git_ref.clone()),
        Condition::RefProtected(_) => ("ref_protected", subject.ref_protected.to_string()),
        Condition::PipelineSource(_) => ("pipeline_source", subject.pipeline_source.clone()),
        Condition::Environment(_) => {
            ("environment", subject.environment.clone().unwrap_or_else(|| absent.clone()))
        }
        Condition::RunnerId(_) => ("runner_id", number(&subject.runner_id)),
    };
    format!("{name} is {}", Untrusted(&value))
}

//! One decision, rule by rule, in words.

use nunbird_handover::Untrusted;
use nunbird_policy::{AccountFacts, Host, MapFile, Mismatch, Policy, Subject, Trouble, Verdict, decide};
use serde::Deserialize;
use std::borrow::Cow;
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
        ref_protected: Some(facts.ref_protected),
        pipeline_source: Some(facts.pipeline_source),
        environment: facts.environment,
        runner_id: facts.runner_id,
        ..Subject::default()
    })
}

/// The decision in words, and whether it is yes.
pub(crate) fn explain(policy: &Policy, subject: &Subject) -> (String, bool) {
    let decision = decide(policy, subject, &ThisHost, u32::MAX);
    let mut text = String::new();
    for (number, step) in decision.steps.iter().enumerate() {
        let outcome = match step.failed {
            None => "fits".to_owned(),
            Some(Mismatch::Condition(condition)) => format!("does not fit: {}", condition.key()),
            Some(Mismatch::NoAccount) => "has no account for this job".to_owned(),
        };
        let (name, place) = (Untrusted(&step.rule.name), &step.rule.place);
        // A String takes everything.
        let _ = writeln!(text, "{:>3}. {name} ({place}): {outcome}", number + 1);
    }
    let (line, admitted) = match decision.verdict {
        Verdict::Admitted { account, .. } => (format!("admitted: runs as `{}`", account.name), true),
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
        Verdict::Failed(trouble) => (format!("undecided: {}", Untrusted(&trouble.detail)), false),
    };
    text.push_str(&line);
    text.push('\n');
    (text, admitted)
}

/// The user database as this process sees it.
struct ThisHost;

impl Host for ThisHost {
    fn account(&self, name: &str) -> Result<Option<AccountFacts>, Trouble> {
        let entry = nunbird_sys::users::by_name(name)
            .map_err(|e| Trouble { code: "user-database", detail: e.to_string() })?;
        Ok(entry.map(|entry| AccountFacts {
            name: entry.name,
            uid: entry.uid,
            gid: entry.gid,
            groups: entry.groups,
            home: entry.home,
            shell: entry.shell,
            name_of_uid: entry.name_of_uid,
        }))
    }

    fn group(&self, name: &str) -> Result<Option<u32>, Trouble> {
        nunbird_sys::users::group_by_name(name)
            .map_err(|e| Trouble { code: "user-database", detail: e.to_string() })
    }

    fn map(&self, map: &MapFile) -> Result<Cow<'_, str>, Trouble> {
        std::fs::read_to_string(&map.file)
            .map(Cow::Owned)
            .map_err(|e| Trouble { code: "map", detail: format!("{}: {e}", map.file.display()) })
    }
}

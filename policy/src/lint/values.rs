//! Values that GitLab never sends, so that a condition on them never holds.

use super::Findings;
use crate::facts::{Content, FORK, Field, PIPELINE_SOURCE};
use crate::{Condition, Pattern, Rule, RuleOutcome};

/// Values of `pipeline_source` (docs.gitlab.com/ci/jobs/job_rules, `CI_PIPELINE_SOURCE`; GitLab
/// `app/models/concerns/enums/ci/pipeline.rb`).
const PIPELINE_SOURCES: [&str; 19] = [
    "api",
    "chat",
    "container_registry_push",
    "duo_workflow",
    "external",
    "external_pull_request_event",
    "merge_request_event",
    "ondemand_dast_scan",
    "ondemand_dast_validation",
    "parent_pipeline",
    "pipeline",
    "pipeline_execution_policy_schedule",
    "push",
    "schedule",
    "security_orchestration_policy",
    "trigger",
    "unknown",
    "web",
    "webide",
];

/// Values of `user_access_level` (GitLab `lib/gitlab/access.rb`, in lower case).
const ACCESS_LEVELS: [&str; 6] = ["guest", "planner", "reporter", "developer", "maintainer", "owner"];

/// What is wrong with a value.
enum Fault {
    /// GitLab never sends what it matches.
    Never(String),
    /// GitLab sends nothing known that it matches, and adds values from time to time.
    Unknown(String),
}

/// Looks at each value. `opens`: a condition that never holds lets jobs in that the rule is to keep out.
pub(super) fn look(condition: &Condition, opens: bool, findings: &mut Findings<'_>) {
    let (rule, key) = (&findings.rule.name, condition.key());
    for pattern in condition.patterns().unwrap_or(&[]) {
        let said = format!("rule `{rule}`: `{key}` = `{pattern}`");
        match fault(condition, pattern) {
            Some(Fault::Never(why)) => {
                let effect = if opens { "so the rule denies no job by it" } else { "so nothing fits it" };
                let message = format!("{said} never holds, {effect}: {why}");
                findings.add(opens, "never-fits", message, "correct the value, or remove it");
            }
            Some(Fault::Unknown(why)) => {
                findings.remark("unknown-value", format!("{said}: {why}"), "check the spelling");
            }
            None => {}
        }
    }
}

fn fault(condition: &Condition, pattern: &Pattern) -> Option<Fault> {
    let Field::Text(_, content) = condition.fact()?.field else { return None };
    let text = pattern.to_string();
    let never = |why: Option<String>| why.map(Fault::Never);
    match content {
        Content::RefType => {
            let neither = !pattern.matches("branch") && !pattern.matches("tag");
            neither.then(|| Fault::Never("a ref is a `branch` or a `tag`".to_owned()))
        }
        Content::PipelineSource => {
            let none = !PIPELINE_SOURCES.iter().any(|source| pattern.matches(source));
            none.then(|| Fault::Unknown("no pipeline source of GitLab's that is known here".to_owned()))
        }
        Content::Role => access_level(pattern, &text),
        // A regular expression says what it matches in too many ways.
        _ if pattern.is_regex() => None,
        Content::ProjectPath => never(path(&text).or_else(|| {
            let in_one = !text.contains('/') && !text.contains("**");
            in_one.then(|| match text.contains(['*', '?']) {
                true => "a project's path has a `/`, which `*` and `?` do not match; `**` does".to_owned(),
                false => format!("a project's path begins with its group or user: `{text}/…` or `…/{text}`"),
            })
        })),
        Content::NamespacePath => never(path(&text)),
        Content::Login => never(login(&text)),
        Content::Email => never(email(&text)),
        Content::Ref => {
            let full = ["refs/heads/", "refs/tags/"].into_iter().find_map(|prefix| text.strip_prefix(prefix));
            full.map(|short| Fault::Unknown(format!("GitLab sends the short name, `{short}`")))
        }
        // Names of the site's own choice.
        Content::ServerName | Content::ProviderName | Content::EnvironmentName | Content::AccountName => None,
    }
}

fn access_level(pattern: &Pattern, text: &str) -> Option<Fault> {
    if ACCESS_LEVELS.iter().any(|level| pattern.matches(level)) {
        return None;
    }
    if !pattern.is_regex() && text.chars().any(char::is_uppercase) {
        return Some(Fault::Never(format!("GitLab writes roles in lower case, `{}`", text.to_lowercase())));
    }
    if text == "none" {
        return Some(Fault::Never("GitLab sends no role for a user who has none".to_owned()));
    }
    Some(Fault::Unknown(format!("no role of GitLab's that is known here ({})", ACCESS_LEVELS.join(", "))))
}

/// Full paths of groups and projects (GitLab `lib/gitlab/path_regex.rb`).
fn path(text: &str) -> Option<String> {
    if text.contains("://") {
        return Some("a URL; write the path after the server's name".to_owned());
    }
    let plain = text.trim_matches('/');
    (plain != text).then(|| format!("no path begins or ends with `/`; write `{plain}`"))
}

/// Logins have letters, digits, `_`, `-` and `.`, and do not begin with `-` (GitLab `lib/gitlab/path_regex.rb`).
fn login(text: &str) -> Option<String> {
    let possible = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '*' | '?');
    match text.chars().find(|c| !possible(*c)) {
        Some('@') => Some("not a login; `user_email` asks for addresses".to_owned()),
        Some(' ') => Some("not a login; GitLab does not send full names".to_owned()),
        Some(_) => Some("a login has letters, digits, `_`, `-` and `.` alone".to_owned()),
        None => text.starts_with('-').then(|| "no login begins with `-`".to_owned()),
    }
}

fn email(text: &str) -> Option<String> {
    if text.contains(char::is_whitespace) {
        return Some("no address has spaces".to_owned());
    }
    let wild = text.contains(['*', '?']);
    match text.rsplit_once('@') {
        None if wild => None,
        None => Some(format!("an address has an `@`: `*@{text}`")),
        Some(("", domain)) => Some(format!("nothing before the `@`; write `*@{domain}`")),
        Some((_, "")) => Some("no domain after the `@`".to_owned()),
        Some(_) => None,
    }
}

/// `external_pull_request_event` where a rule speaks of forks or merge requests.
pub(super) fn not_forks(rule: &Rule, findings: &mut Findings<'_>) {
    let conditions = || rule.conditions.iter().chain(&rule.exceptions);
    let of_source = |condition: &&Condition| condition.fact() == Some(&PIPELINE_SOURCE);
    let sources: Vec<&Pattern> =
        conditions().filter(of_source).filter_map(Condition::patterns).flatten().collect();
    let message = if let RuleOutcome::Deny(message) = &rule.outcome { message.as_str() } else { "" };
    let said = format!("{} {message}", rule.name).to_lowercase().replace(['-', '_'], " ");
    let has = |source: &str| sources.iter().any(|pattern| pattern.to_string() == source);
    let merge_requests = said.contains("merge request") && !has("merge_request_event");
    let forks = conditions().any(|condition| condition.fact() == Some(&FORK));
    if has("external_pull_request_event") && (merge_requests || (said.contains("fork") && !forks)) {
        findings.remark(
            "not-forks",
            format!(
                "rule `{}`: `external_pull_request_event` is a pull request of a GitHub repository, not a merge request",
                rule.name
            ),
            "a merge request is `pipeline_source = \"merge_request_event\"`, and sources of a fork are `fork = true`",
        );
    }
}

//! What is allowed in a policy and yet seldom meant: rules that never decide, and rules that decide everything.

use crate::pinning::gives_by_choice;
use crate::{Condition, IdentitySource, Outcome, Pattern, Pinning, Place, Policy, Rule, RunAs};

/// One remark about a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lint {
    /// A stable word: `shadowed`, `never-fits`, `everybody`, `matches-everything`, `contradiction`, `not-told`,
    /// `other-account`, `chosen-name`, `unpinned`.
    pub code: &'static str,
    /// What is remarkable: a lower-case phrase.
    pub message: String,
    /// The rule it is about.
    pub place: Place,
    /// How to mend it.
    pub help: String,
}

/// Values that GitLab sends as `pipeline_source` (docs.gitlab.com/ci/jobs/job_rules, `CI_PIPELINE_SOURCE`).
const PIPELINE_SOURCES: [&str; 17] = [
    "api",
    "chat",
    "container_registry_push",
    "external",
    "external_pull_request_event",
    "merge_request_event",
    "ondemand_dast_scan",
    "ondemand_dast_validation",
    "parent_pipeline",
    "pipeline",
    "push",
    "schedule",
    "security_orchestration_policy",
    "trigger",
    "unknown",
    "web",
    "webide",
];

/// Looks at every rule, alone and beside those before it.
pub fn lint(policy: &Policy) -> Vec<Lint> {
    let mut remarks = Vec::new();
    for (index, rule) in policy.rules.iter().enumerate() {
        alone(policy, rule, &mut remarks);
        remarks.extend(chosen_name(policy, rule));
        let earlier = policy.rules.get(..index).unwrap_or(&[]);
        if let Some(wide) = earlier.iter().find(|wide| decides_all_of(wide, rule)) {
            let contradicts =
                matches!(wide.outcome, Outcome::Deny(_)) != matches!(rule.outcome, Outcome::Deny(_));
            let (code, also) =
                if contradicts { ("contradiction", " with the opposite outcome") } else { ("shadowed", "") };
            remarks.push(Lint {
                code,
                message: format!(
                    "rule `{}` never decides: `{}` at {} fits every job that it fits{also}",
                    rule.name, wide.name, wide.place
                ),
                place: rule.place.clone(),
                help: format!("move it above `{}`, or add a condition to `{}`", wide.name, wide.name),
            });
        }
    }
    remarks
}

fn alone(policy: &Policy, rule: &Rule, remarks: &mut Vec<Lint>) {
    let mut remark = |code, message: String, help: &str| {
        remarks.push(Lint { code, message, place: rule.place.clone(), help: help.to_owned() });
    };
    let name = &rule.name;
    if rule.conditions.is_empty() {
        match &rule.outcome {
            Outcome::RunAs(RunAs::Account(account)) => remark(
                "everybody",
                format!("rule `{name}` lets every user of every project run as `{account}`"),
                "add `when = { project = \"…\" }`",
            ),
            Outcome::RunAs(_) => remark(
                "everybody",
                format!("rule `{name}` admits every user of every project"),
                "add conditions under `when`, if that is not meant",
            ),
            Outcome::Deny(_) => {}
        }
    }
    let off = policy.accounts.pinning == Pinning::Off || !rule.pinning;
    if off && gives_by_choice(policy, rule) {
        remark(
            "unpinned",
            format!(
                "rule `{name}` gives accounts by a name that GitLab users can choose, and pinning is off: whoever takes the name gets the account"
            ),
            "remove `pinning = \"off\"`",
        );
    }
    if matches!(rule.outcome, Outcome::Deny(_)) {
        denial(policy, rule, remarks);
    }
    let mut remark = |code, message: String, help: &str| {
        remarks.push(Lint { code, message, place: rule.place.clone(), help: help.to_owned() });
    };
    for condition in &rule.conditions {
        if let Some(pattern) =
            condition.patterns().and_then(|p| p.iter().find(|p| matches_everything(p, condition)))
        {
            remark(
                "matches-everything",
                format!("rule `{name}`: `{}` = `{pattern}` matches everything", condition.key()),
                "remove the condition, or narrow it",
            );
        }
        if let Some(why) = never(policy, condition) {
            remark(
                "never-fits",
                format!("rule `{name}` never fits: {why}"),
                "remove the rule, or mend the condition",
            );
        }
    }
}

/// Conditions that no bot and nobody who took another's name can satisfy: an identity of the site's provider.
const IDENTITY_CONDITIONS: [&str; 1] = ["identity"];

/// A rule that gives an account by a name which GitLab users can choose, while the server is not asked who that is.
fn chosen_name(policy: &Policy, rule: &Rule) -> Option<Lint> {
    let guarded = rule.conditions.iter().any(|condition| IDENTITY_CONDITIONS.contains(&condition.key()));
    if guarded || !policy.goes_by_chosen_name(rule) {
        return None;
    }
    let serves = |name: &str| {
        rule.conditions.iter().all(|condition| match condition {
            Condition::Server(patterns) => patterns.iter().any(|pattern| pattern.matches(name)),
            _ => true,
        })
    };
    let open: Vec<&str> = policy
        .gitlab
        .iter()
        .filter(|server| serves(&server.name) && !policy.asks_about_user(rule, Some(server)))
        .map(|server| server.name.as_str())
        .collect();
    if open.is_empty() {
        return None;
    }
    let by = if rule.user_check.is_some() {
        "`user_check = \"off\"` in the rule".to_owned()
    } else {
        format!("`user_check = \"off\"` for server `{}`", open.join("`, `"))
    };
    Some(Lint {
        code: "chosen-name",
        message: format!(
            "rule `{}` goes by a name that GitLab users choose, and nothing checks who has it ({by})",
            rule.name
        ),
        place: rule.place.clone(),
        help: "a service account that a Maintainer names so, a user who renames themselves and the next user of a deleted \
               name get the account: remove `user_check = \"off\"`, or map accounts by `user_id` or an identity provider"
            .to_owned(),
    })
}

/// A denial that some of those whom it means can get round.
fn denial(policy: &Policy, rule: &Rule, remarks: &mut Vec<Lint>) {
    let name = &rule.name;
    let mut remark = |code, message: String, help: &str| {
        remarks.push(Lint { code, message, place: rule.place.clone(), help: help.to_owned() });
    };
    let by_job_token = policy.identity.sources.contains(&IdentitySource::JobToken);
    for condition in rule.conditions.iter().filter(|condition| untold(condition)) {
        let key = condition.key();
        if by_job_token {
            remark(
                "not-told",
                format!(
                    "rule `{name}` denies no job that is proven by its job token: `{key}` is not told there"
                ),
                "admit what is meant to run instead, or add a rule that denies `identity_source = \"job_token\"`",
            );
        } else if matches!(condition, Condition::Group(_)) {
            remark(
                "not-told",
                format!(
                    "rule `{name}` does not deny a member of more than 200 groups: GitLab leaves `{key}` out then"
                ),
                "admit the groups that are meant instead: everybody can make groups",
            );
        }
    }
    if let Some(condition) = rule.conditions.iter().find(|condition| is_local(condition))
        && let Some(other) = later(policy, rule).find(|other| gives_another_account(policy, other))
    {
        remark(
            "other-account",
            format!(
                "rule `{name}` asks for `{}` of the account that a job gets as itself, and `{}` at {} gives another",
                condition.key(),
                other.name,
                other.place
            ),
            "deny accounts and groups under `accounts.deny` and `accounts.deny_groups`, whichever account a job gets",
        );
    }
}

/// The rules behind this one.
fn later<'p>(policy: &'p Policy, rule: &Rule) -> impl Iterator<Item = &'p Rule> {
    policy.rules.iter().skip_while(|other| other.name != rule.name).skip(1)
}

/// Whether a job can get an account other than the one that rules which deny ask about.
fn gives_another_account(policy: &Policy, rule: &Rule) -> bool {
    let itself = if policy.validation.is_some() { RunAs::Validated } else { RunAs::UserLogin };
    matches!(&rule.outcome, Outcome::RunAs(run_as) if *run_as != itself)
}

fn is_local(condition: &Condition) -> bool {
    matches!(
        condition,
        Condition::Account(_) | Condition::LocalGroup(_) | Condition::Uid(_) | Condition::Shell(_)
    )
}

/// Facts that the server's answer to a job token does not have.
fn untold(condition: &Condition) -> bool {
    matches!(
        condition,
        Condition::RefProtected(_)
            | Condition::Environment(_)
            | Condition::EnvironmentProtected(_)
            | Condition::Group(_)
            | Condition::UserEmail(_)
            | Condition::AccessLevel(_)
    )
}

/// `*` covers a name without `/`; a path needs `**`.
fn matches_everything(pattern: &Pattern, condition: &Condition) -> bool {
    let names = matches!(
        condition,
        Condition::Server(_)
            | Condition::User(_)
            | Condition::PipelineSource(_)
            | Condition::RefType(_)
            | Condition::Account(_)
            | Condition::AccessLevel(_)
    );
    let text = pattern.to_string();
    text == "**"
        || (pattern.is_regex() && matches!(text.trim_matches(['^', '$']), ".*" | ".+"))
        || (names && text == "*")
}

fn never(policy: &Policy, condition: &Condition) -> Option<String> {
    match condition {
        Condition::Uid(ranges) => {
            let (min, max) = (policy.accounts.min_uid, policy.accounts.max_uid);
            let outside = ranges.iter().all(|range| *range.end() < min || *range.start() > max);
            outside.then(|| format!("its uids are outside of {min} to {max}, and no job runs there"))
        }
        Condition::RunnerId(ids) => {
            let known: Vec<u64> = policy.gitlab.iter().flat_map(|s| s.runner_ids.iter().copied()).collect();
            let limited = policy.gitlab.iter().all(|server| !server.runner_ids.is_empty());
            let none = limited && !ids.iter().any(|id| known.contains(id));
            none.then(|| "no server's `runner_ids` has its runner".to_owned())
        }
        Condition::IdentitySource(source) => {
            let off = !policy.identity.sources.contains(source);
            off.then(|| format!("`identity.sources` does not have `{}`", source.name()))
        }
        Condition::PipelineSource(patterns) => {
            let none = patterns.iter().all(|p| !PIPELINE_SOURCES.iter().any(|source| p.matches(source)));
            none.then(|| "GitLab has no such pipeline source".to_owned())
        }
        Condition::RefType(patterns) => {
            let none = patterns.iter().all(|p| !p.matches("branch") && !p.matches("tag"));
            none.then(|| "a ref is a `branch` or a `tag`".to_owned())
        }
        Condition::Shell(shells) => {
            let listed = &policy.accounts.shells;
            let none = !listed.is_empty() && !shells.iter().any(|shell| listed.contains(shell));
            none.then(|| "`accounts.shells` does not have its shell".to_owned())
        }
        _ => None,
    }
}

/// Whether `wide`, standing first, decides every job that `narrow` fits.
///
/// That is so when each condition of `wide` follows from one of `narrow`. A rule with a map may have no account for a
/// job and then does not fit; conditions on the account speak of different accounts where the outcomes differ.
fn decides_all_of(wide: &Rule, narrow: &Rule) -> bool {
    let always_fits = match &wide.outcome {
        Outcome::Deny(_) | Outcome::RunAs(RunAs::UserLogin | RunAs::Account(_)) => true,
        Outcome::RunAs(_) => wide.outcome == narrow.outcome,
    };
    always_fits
        && wide.conditions.iter().all(|condition| {
            (!is_local(condition) || wide.outcome == narrow.outcome)
                && narrow.conditions.iter().any(|other| follows(condition, other))
        })
}

/// Whether `wide` holds wherever `narrow` does.
fn follows(wide: &Condition, narrow: &Condition) -> bool {
    if let (Some(wide_patterns), Some(narrow_patterns)) = (wide.patterns(), narrow.patterns()) {
        return wide.key() == narrow.key()
            && narrow_patterns.iter().all(|n| wide_patterns.iter().any(|w| w.covers(n)));
    }
    match (wide, narrow) {
        (Condition::ProjectId(w), Condition::ProjectId(n))
        | (Condition::UserId(w), Condition::UserId(n))
        | (Condition::RunnerId(w), Condition::RunnerId(n)) => n.iter().all(|id| w.contains(id)),
        (Condition::LocalGroup(w), Condition::LocalGroup(n)) => n.iter().all(|group| w.contains(group)),
        (Condition::Shell(w), Condition::Shell(n)) => n.iter().all(|shell| w.contains(shell)),
        (Condition::Uid(w), Condition::Uid(n)) => {
            n.iter().all(|n| w.iter().any(|w| w.start() <= n.start() && n.end() <= w.end()))
        }
        _ => wide == narrow,
    }
}

#[cfg(test)]
#[path = "lint_tests.rs"]
mod tests;

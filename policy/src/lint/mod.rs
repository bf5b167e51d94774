//! What is allowed in a policy and yet seldom meant: rules that never decide, and rules that decide everything.

mod containers;
mod cover;
mod no_job;
mod values;

use crate::facts::{ByJobToken, Content, Field, GROUP, RUNNER_ID, SERVER};
use crate::pinning::gives_by_choice;
use crate::{
    Condition, IdentitySource, Local, Location, Matcher, Pattern, Pinning, Policy, Rule, RuleOutcome, RunAs,
    Wanted,
};

use cover::decides_all_of;

/// One finding about a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lint {
    /// A stable word: `shadowed`, `never-fits`, `everybody`, `matches-everything`, `contradiction`, `unknown-fact`,
    /// `other-account`, `unknown-value`, `not-forks`, `no-job`, `own-account`, `chosen-name`, `unpinned`,
    /// `unused-container`, `one-id`, `store-at-home`, `machine-memory`, `any-image`.
    pub code: &'static str,
    /// Whether the policy does something else than it seems to: it admits jobs that a rule is to deny, or denies all.
    pub error: bool,
    /// What is remarkable: a lower-case phrase.
    pub message: String,
    /// The rule or the table it is about.
    pub place: Location,
    /// How to mend it.
    pub help: String,
}

/// The findings about one rule.
struct Findings<'a> {
    rule: &'a Rule,
    all: &'a mut Vec<Lint>,
}

impl Findings<'_> {
    fn remark(&mut self, code: &'static str, message: impl Into<String>, help: impl Into<String>) {
        self.add(false, code, message, help);
    }

    fn add(&mut self, error: bool, code: &'static str, message: impl Into<String>, help: impl Into<String>) {
        let place = self.rule.place.clone();
        self.all.push(Lint { code, error, message: message.into(), place, help: help.into() });
    }
}

/// Looks at every rule, alone and beside those before it, and at the containers.
pub fn lint(policy: &Policy) -> Vec<Lint> {
    let mut all = Vec::new();
    containers::look(policy, &mut all);
    for (index, rule) in policy.rules.iter().enumerate() {
        let findings = &mut Findings { rule, all: &mut all };
        findings.all.extend(chosen_name(policy, rule));
        unpinned(policy, rule, findings);
        let earlier = policy.rules.get(..index).unwrap_or(&[]);
        let wide = earlier.iter().find(|wide| decides_all_of(wide, rule));
        if !no_job::look(policy, rule, findings) && wide.is_none() {
            everybody(rule, findings);
        }
        if matches!(rule.outcome, RuleOutcome::Deny(_)) {
            denial(policy, rule, findings);
        }
        conditions(policy, rule, findings);
        if let Some(wide) = wide {
            let contradicts =
                matches!(wide.outcome, RuleOutcome::Deny(_)) != matches!(rule.outcome, RuleOutcome::Deny(_));
            let (code, also) =
                if contradicts { ("contradiction", " with the opposite outcome") } else { ("shadowed", "") };
            findings.remark(
                code,
                format!(
                    "rule `{}` never decides: `{}` at {} fits every job that it fits{also}",
                    rule.name, wide.name, wide.place
                ),
                format!("move it above `{}`, or add a condition to `{}`", wide.name, wide.name),
            );
        }
    }
    all
}

fn everybody(rule: &Rule, findings: &mut Findings<'_>) {
    if !rule.conditions.is_empty() {
        return;
    }
    let name = &rule.name;
    let but = if rule.exceptions.is_empty() { "" } else { ", but for those of `unless`" };
    match &rule.outcome {
        RuleOutcome::RunAs(RunAs::Account(account)) => findings.remark(
            "everybody",
            format!("rule `{name}` lets every user of every project run as `{account}`{but}"),
            "add `when = { project = \"…\" }`",
        ),
        RuleOutcome::RunAs(_) => findings.remark(
            "everybody",
            format!("rule `{name}` admits every user of every project{but}"),
            "add conditions under `when`, if that is not meant",
        ),
        RuleOutcome::Deny(_) => {}
    }
}

/// A rule that gives an account by a name which GitLab users can choose, while the account belongs to none of them for good.
fn unpinned(policy: &Policy, rule: &Rule, findings: &mut Findings<'_>) {
    let off = policy.accounts.pinning == Pinning::Off || !rule.pinning;
    if off && gives_by_choice(policy, rule) {
        let message = format!(
            "rule `{}` gives accounts by a name that GitLab users can choose, and pinning is off: each user who takes the name gets the \
             account",
            rule.name
        );
        findings.remark("unpinned", message, "remove `pinning = \"off\"`");
    }
}

/// Remarks on each condition.
fn conditions(policy: &Policy, rule: &Rule, findings: &mut Findings<'_>) {
    let name = &rule.name;
    let denies = matches!(rule.outcome, RuleOutcome::Deny(_));
    for condition in &rule.conditions {
        let key = condition.key();
        if let Some(pattern) = everything(condition) {
            findings.remark(
                "matches-everything",
                format!("rule `{name}`: `{key}` = `{pattern}` matches everything"),
                "remove the condition, or narrow it",
            );
        }
        if let Some(why) = never(policy, rule, condition) {
            findings.remark(
                "never-fits",
                format!("rule `{name}` never fits: {why}"),
                "remove the rule, or mend the condition",
            );
        }
        values::look(condition, denies, findings);
    }
    for exception in &rule.exceptions {
        let key = exception.key();
        if let Some(pattern) = everything(exception) {
            findings.add(
                denies,
                "never-fits",
                format!("rule `{name}` never fits: `{key}` = `{pattern}` under `unless` matches everything"),
                "remove the rule, or narrow the exception",
            );
        }
        values::look(exception, !denies, findings);
    }
    values::not_forks(rule, findings);
}

fn everything(condition: &Condition) -> Option<&Pattern> {
    condition.patterns()?.iter().find(|pattern| matches_everything(pattern, condition))
}

/// A rule that gives an account by a name which GitLab users can choose, while the server is not asked who that is.
fn chosen_name(policy: &Policy, rule: &Rule) -> Option<Lint> {
    let guarded = rule.conditions.iter().filter_map(Condition::fact).any(|fact| fact.proves_person);
    if guarded || !policy.goes_by_chosen_name(rule) {
        return None;
    }
    let serves = |name: &str| {
        let of_server = |condition: &&Condition| condition.fact() == Some(&SERVER);
        let mut all = rule.conditions.iter().filter(of_server).filter_map(Condition::patterns);
        all.all(|patterns| patterns.iter().any(|pattern| pattern.matches(name)))
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
        error: false,
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
fn denial(policy: &Policy, rule: &Rule, findings: &mut Findings<'_>) {
    let name = &rule.name;
    let by_job_token = policy.identity.sources.contains(&IdentitySource::JobToken);
    for condition in rule.conditions.iter().filter(|condition| is_unproven(condition)) {
        let key = condition.key();
        if by_job_token {
            findings.remark(
                "unknown-fact",
                format!(
                    "rule `{name}` denies no job that is proven by its job token: `{key}` is unknown there"
                ),
                "admit what is meant to run instead, or add a rule that denies `identity_source = \"job_token\"`",
            );
        } else if condition.fact() == Some(&GROUP) {
            findings.remark(
                "unknown-fact",
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
        findings.remark(
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

/// The rules after this one.
fn later<'p>(policy: &'p Policy, rule: &Rule) -> impl Iterator<Item = &'p Rule> {
    policy.rules.iter().skip_while(|other| other.name != rule.name).skip(1)
}

/// Whether a job can get an account other than the one that rules which deny ask about.
fn gives_another_account(policy: &Policy, rule: &Rule) -> bool {
    let itself = if policy.validation.is_some() { RunAs::Validated } else { RunAs::UserLogin };
    matches!(&rule.outcome, RuleOutcome::RunAs(run_as) if *run_as != itself)
}

fn is_local(condition: &Condition) -> bool {
    condition.fact().is_none()
}

/// Facts that the server's answer to a job token does not have.
fn is_unproven(condition: &Condition) -> bool {
    condition.fact().is_some_and(|fact| match fact.by_job_token {
        ByJobToken::Proven => false,
        ByJobToken::OnlyFalse => condition.wanted() == Wanted::Flag(true),
        ByJobToken::Unknown => true,
    })
}

/// `*` covers a name without `/`; a path needs `**`.
fn matches_everything(pattern: &Pattern, condition: &Condition) -> bool {
    let content = match condition {
        Condition::Fact(fact, _) => match fact.field {
            Field::Text(_, content) => Some(content),
            Field::Id(_) | Field::Flag(_) | Field::Source(_) => None,
        },
        Condition::Local(Local::Account(_)) => Some(Content::AccountName),
        Condition::Local(Local::Group(_) | Local::Uid(_) | Local::Shell(_)) => None,
    };
    let text = pattern.to_string();
    text == "**"
        || (pattern.is_regex() && matches!(text.trim_matches(['^', '$']), ".*" | ".+"))
        || (content.is_some_and(Content::is_one_component) && text == "*")
}

/// Why the condition never holds, by what the rest of the policy says.
fn never(policy: &Policy, rule: &Rule, condition: &Condition) -> Option<String> {
    match condition {
        Condition::Local(Local::Uid(ranges)) => {
            let (min, max) = (policy.accounts.min_uid, policy.accounts.max_uid);
            let outside = ranges.iter().all(|range| *range.end() < min || *range.start() > max);
            outside.then(|| format!("its uids are outside of {min} to {max}, and no job runs there"))
        }
        Condition::Local(Local::Shell(shells)) => {
            let listed = &policy.accounts.shells;
            let none = !listed.is_empty() && !shells.iter().any(|shell| listed.contains(shell));
            none.then(|| "`accounts.shells` does not have its shell".to_owned())
        }
        Condition::Local(Local::Account(_) | Local::Group(_)) => None,
        Condition::Fact(fact, Matcher::Id(_, ids)) if **fact == RUNNER_ID => {
            let known: Vec<u64> = policy.gitlab.iter().flat_map(|s| s.runner_ids.iter().copied()).collect();
            let limited = policy.gitlab.iter().all(|server| !server.runner_ids.is_empty());
            let none = limited && !ids.iter().any(|id| known.contains(id));
            none.then(|| "no server's `runner_ids` has its runner".to_owned())
        }
        Condition::Fact(_, Matcher::Source(_, source)) => {
            let off = !policy.identity.sources.contains(source);
            off.then(|| format!("`identity.sources` does not have `{}`", source.name()))
        }
        Condition::Fact(..) => {
            // Of denials `unknown-fact` says it.
            let admits = matches!(rule.outcome, RuleOutcome::RunAs(_));
            let by_id_token = policy.identity.sources.contains(&IdentitySource::IdToken);
            (admits && is_unproven(condition) && !by_id_token)
                .then(|| format!("`{}` is unknown for a job that a job token proves", condition.key()))
        }
    }
}

#[cfg(test)]
mod tests;

//! The decision: which rule fits a job, and as which account it would run.

use crate::account::{Violation, check_name, is_bot};
use crate::{Condition, Outcome, Pattern, Policy, Rule, RunAs, Subject};

/// What the policy says about a job, and how it came to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<'p> {
    /// The answer.
    pub verdict: Verdict<'p>,
    /// Each rule looked at, in order; the last one decided, unless none fitted.
    pub steps: Vec<Step<'p>>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<'p> {
    /// Run the job as this account, if the user database and the invariants agree.
    RunAs {
        /// The rule that decided.
        rule: &'p Rule,
        /// The account's name, in portable form.
        account: String,
    },
    /// A rule refuses the job.
    DeniedByRule {
        /// The rule that decided.
        rule: &'p Rule,
        /// The site's words for the user.
        message: &'p str,
    },
    /// A rule admits the job, but to an account that no job may have.
    DeniedAccount {
        /// The rule that would have admitted the job.
        rule: &'p Rule,
        /// The account's name as it came, unchecked.
        account: String,
        /// What is wrong with it.
        violation: Violation,
    },
    /// The user is one of GitLab's bots, which the site does not allow.
    DeniedBot,
    /// No rule fits.
    NoRule,
}

/// One rule that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step<'p> {
    /// The rule.
    pub rule: &'p Rule,
    /// The first condition that did not hold; none when the rule fits.
    pub failed: Option<&'p Condition>,
}

/// Judges a job. The first rule whose conditions all hold decides; no rule means no.
pub fn decide<'p>(policy: &'p Policy, subject: &Subject) -> Decision<'p> {
    if is_bot(&subject.user_login) && !policy.accounts.allow_bots {
        return Decision { verdict: Verdict::DeniedBot, steps: Vec::new() };
    }
    let mut steps = Vec::new();
    for rule in &policy.rules {
        let failed = rule.conditions.iter().find(|condition| !holds(condition, subject));
        steps.push(Step { rule, failed });
        if failed.is_none() {
            return Decision { verdict: apply(rule, subject), steps };
        }
    }
    Decision { verdict: Verdict::NoRule, steps }
}

fn apply<'p>(rule: &'p Rule, subject: &Subject) -> Verdict<'p> {
    let account = match &rule.outcome {
        Outcome::Deny(message) => return Verdict::DeniedByRule { rule, message },
        Outcome::RunAs(RunAs::UserLogin) => subject.user_login.clone(),
        Outcome::RunAs(RunAs::Account(name)) => name.clone(),
    };
    match check_name(&account) {
        Ok(()) => Verdict::RunAs { rule, account },
        Err(violation) => Verdict::DeniedAccount { rule, account, violation },
    }
}

fn holds(condition: &Condition, subject: &Subject) -> bool {
    let fits = |patterns: &[Pattern], text: &str| patterns.iter().any(|p| p.matches(text));
    match condition {
        Condition::Server(p) => fits(p, &subject.server),
        Condition::Project(p) => fits(p, &subject.project_path),
        Condition::Namespace(p) => fits(p, &subject.namespace_path),
        Condition::User(p) => fits(p, &subject.user_login),
        Condition::UserId(ids) => ids.contains(&subject.user_id),
        Condition::Ref(p) => fits(p, &subject.git_ref),
        Condition::RefProtected(wanted) => *wanted == subject.ref_protected,
        Condition::PipelineSource(p) => fits(p, &subject.pipeline_source),
        Condition::Environment(p) => subject.environment.as_deref().is_some_and(|e| fits(p, e)),
        Condition::RunnerId(ids) => subject.runner_id.is_some_and(|id| ids.contains(&id)),
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;

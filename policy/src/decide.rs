//! The decision: which rule fits a job, as which account it would run, and whether that account may.
//!
//! [`decide`] is the only place where a job gets an account. `nunbird-auth` calls it with the host's user database,
//! `nunbirdctl` with the same or with made-up facts.

use crate::absent::rule_for_absent_account;
use crate::account::{AccountFacts, Violation, check_account, check_name, is_bot};
use crate::conditions::{Failure, holds, holds_locally};
use crate::host::{Host, Trouble};
use crate::{Condition, Downscope, Outcome, Policy, Rule, RunAs, Subject};
use nunbird_handover::Code;

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
    /// Run the job as this account, which has passed every invariant.
    Admitted {
        /// The rule that decided.
        rule: &'p Rule,
        /// The account.
        account: AccountFacts,
    },
    /// A rule refuses the job.
    DeniedByRule {
        /// The rule that decided.
        rule: &'p Rule,
        /// The site's words for the user.
        message: &'p str,
    },
    /// A rule admits the job, but to an account that it may not have; or would admit it if the user's account existed.
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
    /// The host did not answer a question that the decision needs.
    Failed(Trouble),
}

/// One rule that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step<'p> {
    /// The rule.
    pub rule: &'p Rule,
    /// Why it does not fit; none when it fits.
    pub failed: Option<Mismatch<'p>>,
}

/// Why a rule does not fit a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch<'p> {
    /// This condition does not hold.
    Condition(&'p Condition),
    /// The map or the identity provider that the rule names has no account for this job.
    NoAccount,
}

/// Judges a job. The first rule that fits decides; no rule means no.
///
/// `caller` is the uid of the account that runs gitlab-runner: a job never becomes it, except with
/// `downscope = "none"`, where it never becomes another.
pub fn decide<'p>(policy: &'p Policy, subject: &Subject, host: &dyn Host, caller: u32) -> Decision<'p> {
    let mut steps = Vec::new();
    let verdict = find(policy, subject, host, caller, &mut steps).unwrap_or_else(Verdict::Failed);
    Decision { verdict, steps }
}

fn find<'p>(
    policy: &'p Policy,
    subject: &Subject,
    host: &dyn Host,
    caller: u32,
    steps: &mut Vec<Step<'p>>,
) -> Result<Verdict<'p>, Trouble> {
    if is_bot(&subject.user_login) && !policy.accounts.allow_bots {
        return Ok(Verdict::DeniedBot);
    }
    for rule in &policy.rules {
        let failed = mismatch(policy, rule, subject, host)?;
        steps.push(Step { rule, failed });
        if failed.is_none() {
            return apply(policy, rule, subject, host, caller);
        }
    }
    Ok(match rule_for_absent_account(policy, subject, host)? {
        None => Verdict::NoRule,
        Some(rule) => {
            let account = subject.user_login.clone();
            Verdict::DeniedAccount { rule, account, violation: Violation::Missing }
        }
    })
}

fn mismatch<'p>(
    policy: &Policy,
    rule: &'p Rule,
    subject: &Subject,
    host: &dyn Host,
) -> Result<Option<Mismatch<'p>>, Trouble> {
    let mut account: Option<Option<String>> = None;
    let name = || candidate(policy, rule, subject, host);
    for condition in &rule.conditions {
        let fits = match holds(condition, subject) {
            Ok(fits) => fits,
            Err(Failure::NeedsAccount) => {
                let known = if let Some(known) = account.take() { known } else { name()? };
                let known = account.insert(known);
                if let (Condition::LocalGroup(groups), Outcome::Deny(_)) = (condition, &rule.outcome) {
                    groups.iter().try_for_each(|group| needed_group(group, host).map(drop))?;
                }
                known.as_deref().map_or(Ok(false), |name| holds_locally(condition, name, host))?
            }
        };
        if !fits {
            return Ok(Some(Mismatch::Condition(condition)));
        }
    }
    if matches!(rule.outcome, Outcome::Deny(_)) {
        return Ok(None);
    }
    let known = if let Some(known) = account { known } else { name()? };
    Ok(known.is_none().then_some(Mismatch::NoAccount))
}

/// The name of the account that the rule would give; for a rule that denies, the one the job would get as itself.
/// Unchecked.
pub(crate) fn candidate(
    policy: &Policy,
    rule: &Rule,
    subject: &Subject,
    host: &dyn Host,
) -> Result<Option<String>, Trouble> {
    let itself = || Some(subject.validated.clone().unwrap_or_else(|| subject.user_login.clone()));
    Ok(match &rule.outcome {
        Outcome::Deny(_) => itself(),
        Outcome::RunAs(RunAs::UserLogin) => Some(subject.user_login.clone()),
        Outcome::RunAs(RunAs::Validated) => subject.validated.clone(),
        Outcome::RunAs(RunAs::Account(name)) => Some(name.clone()),
        Outcome::RunAs(RunAs::Map(name)) => match policy.maps.get(name) {
            Some(map) => crate::map::look_up(map, subject, host)?,
            None => None,
        },
        Outcome::RunAs(RunAs::Identity { provider, attribute }) => {
            crate::map::identity(subject, provider, attribute.as_deref())
        }
    })
}

fn apply<'p>(
    policy: &'p Policy,
    rule: &'p Rule,
    subject: &Subject,
    host: &dyn Host,
    caller: u32,
) -> Result<Verdict<'p>, Trouble> {
    if let Outcome::Deny(message) = &rule.outcome {
        return Ok(Verdict::DeniedByRule { rule, message });
    }
    let Some(account) = candidate(policy, rule, subject, host)? else { return Ok(Verdict::NoRule) };
    Ok(match check(policy, &account, host, caller)? {
        Ok(facts) => Verdict::Admitted { rule, account: facts },
        Err(violation) => Verdict::DeniedAccount { rule, account, violation },
    })
}

/// The invariants, which hold whatever the rules say.
///
/// # Errors
/// When the host's user database does not answer. The inner error is a violation.
pub fn check(
    policy: &Policy,
    account: &str,
    host: &dyn Host,
    caller: u32,
) -> Result<Result<AccountFacts, Violation>, Trouble> {
    if let Err(violation) = check_name(account) {
        return Ok(Err(violation));
    }
    let Some(facts) = host.account(account)? else { return Ok(Err(Violation::Missing)) };
    if let Err(violation) = check_account(account, &facts, &policy.accounts) {
        return Ok(Err(violation));
    }
    for name in &policy.accounts.deny_groups {
        let gid = needed_group(name, host)?;
        if facts.gid == gid || facts.groups.contains(&gid) {
            return Ok(Err(Violation::DeniedGroup(name.clone())));
        }
    }
    Ok(match policy.downscope {
        Downscope::Setuid | Downscope::Sudo if facts.uid == caller => Err(Violation::Runner),
        Downscope::None if facts.uid != caller => Err(Violation::NotTheRunner(caller)),
        _ => Ok(facts),
    })
}

/// The gid of a group that keeps jobs out. A group that is not there, because its name is misspelt or the name service has
/// lost it, would let everybody in.
fn needed_group(name: &str, host: &dyn Host) -> Result<u32, Trouble> {
    host.group(name)?.ok_or_else(|| Trouble {
        code: Code::Group,
        detail: format!("this host has no group `{name}`, by which the policy keeps jobs out"),
    })
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;

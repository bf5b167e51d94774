//! The decision: which rule fits a job, as which account it would run, and whether that account may.
//!
//! [`decide`] is the only place where a job gets an account. `nunbird-auth` calls it with the host's user database,
//! `nunbirdctl` with the same or with made-up facts.

use crate::absent::rule_for_absent_account;
use crate::account::{AccountFacts, Violation, check_account, check_name};
use crate::conditions::Local;
use crate::host::{Host, HostError};
use crate::pinning::is_pinned;
use crate::server_user::{self, UserViolation};
use crate::{Condition, Downscope, Pinning, Policy, Rule, RuleOutcome, RunAs, Subject};
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
    /// A rule admits the job, but its account belongs to another GitLab user, or to none that is known.
    DeniedPin {
        /// The rule that would have admitted the job.
        rule: &'p Rule,
        /// The account, which has passed every invariant.
        account: AccountFacts,
        /// The GitLab user that the account belongs to; none where only known people may run and its user is not known.
        pinned: Option<u64>,
    },
    /// A rule admits the job, but not its user: a bot, or one about whom the server says otherwise.
    DeniedUser {
        /// The rule that would have admitted the job.
        rule: &'p Rule,
        /// What is wrong with the user.
        violation: UserViolation,
    },
    /// No rule fits.
    NoRule,
    /// The host did not answer a question that the decision needs.
    Failed(HostError),
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
    /// This condition of `unless` holds, or is unknown.
    Exception(&'p Condition),
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
) -> Result<Verdict<'p>, HostError> {
    for rule in &policy.rules {
        let fit = fit(policy, rule, subject, host)?;
        steps.push(Step { rule, failed: fit.as_ref().err().copied() });
        if let Ok(account) = fit {
            return apply(policy, rule, subject, host, caller, account);
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

/// The account that the rule gives, none for one that denies without having asked for it; or why the rule does not fit.
fn fit<'p>(
    policy: &Policy,
    rule: &'p Rule,
    subject: &Subject,
    host: &dyn Host,
) -> Result<Result<Option<String>, Mismatch<'p>>, HostError> {
    let mut judge = Judge { policy, rule, subject, host, account: None };
    for condition in &rule.conditions {
        if judge.holds(condition, judge.denies())? != Some(true) {
            return Ok(Err(Mismatch::Condition(condition)));
        }
    }
    for condition in &rule.exceptions {
        let keeps = match judge.holds(condition, true)? {
            Some(holds) => holds,
            // What nobody knows neither opens a rule nor takes a denial away.
            None => !judge.denies(),
        };
        if keeps {
            return Ok(Err(Mismatch::Exception(condition)));
        }
    }
    if !judge.denies() && judge.account()?.is_none() {
        return Ok(Err(Mismatch::NoAccount));
    }
    Ok(Ok(judge.account.flatten()))
}

/// One rule before one job. The account is looked up once, and only where it is asked for: a map can be long.
struct Judge<'a> {
    policy: &'a Policy,
    rule: &'a Rule,
    subject: &'a Subject,
    host: &'a dyn Host,
    account: Option<Option<String>>,
}

impl Judge<'_> {
    fn denies(&self) -> bool {
        matches!(self.rule.outcome, RuleOutcome::Deny(_))
    }

    fn account(&mut self) -> Result<Option<&str>, HostError> {
        if self.account.is_none() {
            self.account = Some(candidate(self.policy, self.rule, self.subject, self.host)?);
        }
        Ok(self.account.as_ref().and_then(Option::as_deref))
    }

    /// Whether the condition holds; none where that is not known. `needed`: a local group that it names keeps jobs out.
    fn holds(&mut self, condition: &Condition, needed: bool) -> Result<Option<bool>, HostError> {
        let local = match condition.holds(self.subject) {
            Ok(known) => return Ok(known),
            Err(local) => local,
        };
        let host = self.host;
        if let (Local::Group(groups), true) = (local, needed) {
            for group in groups {
                host.group(group)?.ok_or_else(|| missing_group(group))?;
            }
        }
        self.account()?.map_or(Ok(None), |name| local.holds(name, host))
    }
}

/// The name of the account that the rule would give; for a rule that denies, the one the job would get as itself.
/// Unchecked.
pub(crate) fn candidate(
    policy: &Policy,
    rule: &Rule,
    subject: &Subject,
    host: &dyn Host,
) -> Result<Option<String>, HostError> {
    let itself = || Some(subject.validated.clone().unwrap_or_else(|| subject.user_login.clone()));
    Ok(match &rule.outcome {
        RuleOutcome::Deny(_) => itself(),
        RuleOutcome::RunAs(RunAs::UserLogin) => Some(subject.user_login.clone()),
        RuleOutcome::RunAs(RunAs::Validated) => subject.validated.clone(),
        RuleOutcome::RunAs(RunAs::Account(name)) => Some(name.clone()),
        RuleOutcome::RunAs(RunAs::Map(name)) => match policy.maps.get(name) {
            Some(map) => crate::map::look_up(map, subject, host)?,
            None => None,
        },
        RuleOutcome::RunAs(RunAs::Identity { provider, attribute }) => {
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
    account: Option<String>,
) -> Result<Verdict<'p>, HostError> {
    if let RuleOutcome::Deny(message) = &rule.outcome {
        return Ok(Verdict::DeniedByRule { rule, message });
    }
    if let Some(violation) = server_user::check_login(policy, rule, subject) {
        return Ok(Verdict::DeniedUser { rule, violation });
    }
    let Some(account) = account else { return Ok(Verdict::NoRule) };
    let facts = match check(policy, &account, host, caller)? {
        Ok(facts) => facts,
        Err(violation) => return Ok(Verdict::DeniedAccount { rule, account, violation }),
    };
    let verdict = of_its_user(policy, rule, subject, host, facts)?;
    if !matches!(verdict, Verdict::Admitted { .. }) {
        return Ok(verdict);
    }
    // Last, because it costs a request to the server.
    Ok(match server_user::check(policy, rule, subject, host)? {
        None => verdict,
        Some(violation) => Verdict::DeniedUser { rule, violation },
    })
}

/// Admits the job unless its account, which the user could choose, belongs to another GitLab user.
fn of_its_user<'p>(
    policy: &Policy,
    rule: &'p Rule,
    subject: &Subject,
    host: &dyn Host,
    account: AccountFacts,
) -> Result<Verdict<'p>, HostError> {
    if !is_pinned(policy, rule, subject, &account.name) {
        return Ok(Verdict::Admitted { rule, account });
    }
    let pinned = host.pinned(policy.accounts.people_file.as_deref(), &subject.server, &account.name)?;
    Ok(match pinned {
        Some(user_id) if user_id == subject.user_id => Verdict::Admitted { rule, account },
        None if policy.accounts.pinning == Pinning::Remember => Verdict::Admitted { rule, account },
        _ => Verdict::DeniedPin { rule, account, pinned },
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
) -> Result<Result<AccountFacts, Violation>, HostError> {
    if let Err(violation) = check_name(account) {
        return Ok(Err(violation));
    }
    let Some(facts) = host.account(account)? else { return Ok(Err(Violation::Missing)) };
    if let Err(violation) = check_account(account, &facts, &policy.accounts) {
        return Ok(Err(violation));
    }
    for name in &policy.accounts.deny_groups {
        if host.is_member(&facts, name)?.ok_or_else(|| missing_group(name))? {
            return Ok(Err(Violation::DeniedGroup(name.clone())));
        }
    }
    Ok(match policy.downscope {
        Downscope::Setuid | Downscope::Sudo if facts.uid == caller => Err(Violation::Runner),
        Downscope::None if facts.uid != caller => Err(Violation::NotTheRunner(caller)),
        _ => Ok(facts),
    })
}

/// A group that keeps jobs out and does not exist, because its name is misspelt or the name service has lost it, would let
/// everybody in.
fn missing_group(name: &str) -> HostError {
    HostError {
        code: Code::Group,
        detail: format!("this host has no group `{name}`, by which the policy keeps jobs out"),
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
#[cfg(test)]
#[path = "unless_tests.rs"]
mod unless_tests;

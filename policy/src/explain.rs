//! Every condition of a rule with the value it saw, for people who ask why.

use crate::decide::candidate;
use crate::host::{Host, HostError};
use crate::{Condition, Policy, Rule, RuleOutcome, Subject};

/// One condition of a rule, judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predicate<'p> {
    /// The condition.
    pub condition: &'p Condition,
    /// Whether it is under `unless` instead of `when`.
    pub exception: bool,
    /// The value that it looked at; none where there is none. Unchecked: show it through `Untrusted`.
    pub seen: Option<String>,
    /// Whether it holds; none where that is not known.
    pub holds: Option<bool>,
    /// Whether the rule may fit as far as this condition goes.
    pub fits: bool,
}

/// Judges every condition of a rule, also those after the first that fails, and the account it would give: looked up where
/// the rule asks about it or fits the job, since a map can be long.
///
/// # Errors
/// When the host does not answer.
pub fn explain_rule<'p>(
    policy: &'p Policy,
    rule: &'p Rule,
    subject: &Subject,
    host: &dyn Host,
) -> Result<(Vec<Predicate<'p>>, Option<String>), HostError> {
    let denies = matches!(rule.outcome, RuleOutcome::Deny(_));
    let when = rule.conditions.iter().map(|condition| (condition, false));
    let all = || when.clone().chain(rule.exceptions.iter().map(|condition| (condition, true)));
    let fits = |exception: bool, known: Option<bool>| match (exception, known) {
        (false, known) => known == Some(true),
        (true, Some(holds)) => !holds,
        (true, None) => denies,
    };
    // Whatever needs the account may fit.
    let needed = all().any(|(condition, _)| condition.holds(subject).is_err())
        || all()
            .all(|(condition, exception)| condition.holds(subject).is_ok_and(|known| fits(exception, known)));
    let account = if needed { candidate(policy, rule, subject, host)? } else { None };
    let judge = |(condition, exception): (&'p Condition, bool)| {
        let (seen, holds) = match condition.holds(subject) {
            Ok(holds) => (condition.seen(subject), holds),
            Err(local) => match account.as_deref() {
                Some(name) => (local.seen(name, host)?, local.holds(name, host)?),
                None => (None, None),
            },
        };
        Ok(Predicate { condition, exception, seen, holds, fits: fits(exception, holds) })
    };
    let predicates = all().map(judge).collect::<Result<_, HostError>>()?;
    Ok((predicates, account))
}

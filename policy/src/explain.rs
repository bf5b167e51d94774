//! Every condition of a rule with the value it saw, for people who ask why.

use crate::conditions::{Failure, holds, holds_locally};
use crate::decide::candidate;
use crate::host::{Host, Trouble};
use crate::{Condition, Policy, Rule, Subject};

/// One condition of a rule, judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predicate<'p> {
    /// The condition.
    pub condition: &'p Condition,
    /// The value that it looked at; none where there is none. Unchecked: show it through `Untrusted`.
    pub seen: Option<String>,
    /// Whether it holds.
    pub holds: bool,
}

/// Judges every condition of a rule, also those behind the first that fails, and the account it would give: looked up where
/// the rule asks about it or fits the job, since a map can be long.
///
/// # Errors
/// When the host does not answer.
pub fn explain_rule<'p>(
    policy: &'p Policy,
    rule: &'p Rule,
    subject: &Subject,
    host: &dyn Host,
) -> Result<(Vec<Predicate<'p>>, Option<String>), Trouble> {
    let told = |condition: &Condition| holds(condition, subject).ok();
    let asked = rule.conditions.iter().any(|condition| told(condition).is_none());
    let account = if asked || rule.conditions.iter().all(|condition| told(condition) == Some(true)) {
        candidate(policy, rule, subject, host)?
    } else {
        None
    };
    let judge = |condition: &'p Condition| {
        let (seen, holds) = match holds(condition, subject) {
            Ok(holds) => (condition.seen(subject).map(|seen| seen.into_owned()), holds),
            Err(Failure::NeedsAccount) => match account.as_deref() {
                Some(name) => (local(condition, name, host)?, holds_locally(condition, name, host)?),
                None => (None, false),
            },
        };
        Ok(Predicate { condition, seen, holds })
    };
    let predicates = rule.conditions.iter().map(judge).collect::<Result<_, Trouble>>()?;
    Ok((predicates, account))
}

fn local(condition: &Condition, name: &str, host: &dyn Host) -> Result<Option<String>, Trouble> {
    if matches!(condition, Condition::Account(_)) {
        return Ok(Some(name.to_owned()));
    }
    if crate::check_name(name).is_err() {
        return Ok(None);
    }
    let facts = host.account(name)?;
    Ok(facts.map(|facts| match condition {
        Condition::Uid(_) => facts.uid.to_string(),
        Condition::Shell(_) => facts.shell.display().to_string(),
        _ => {
            let named = |gid: &u32| match host.group_name(*gid) {
                Some(name) => format!("{name} ({gid})"),
                None => gid.to_string(),
            };
            facts.groups.iter().map(named).collect::<Vec<_>>().join(", ")
        }
    }))
}

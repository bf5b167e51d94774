//! Whether one rule decides every job that another fits.

use super::is_local;
use crate::{Condition, Local, Rule, RuleOutcome, RunAs, Wanted};

/// Whether `wide`, standing first, decides every job that `narrow` fits.
///
/// That is so when each condition of `wide` follows from one of `narrow`, and each exception of `wide` implies one of `narrow`. A rule with a map may have no account for a
/// job and then does not fit; conditions on the account speak of different accounts where the outcomes differ.
pub(super) fn decides_all_of(wide: &Rule, narrow: &Rule) -> bool {
    let always_fits = match &wide.outcome {
        RuleOutcome::Deny(_) | RuleOutcome::RunAs(RunAs::UserLogin | RunAs::Account(_)) => true,
        RuleOutcome::RunAs(_) => wide.outcome == narrow.outcome,
    };
    always_fits
        && wide.conditions.iter().all(|condition| {
            (!is_local(condition) || wide.outcome == narrow.outcome)
                && narrow.conditions.iter().any(|other| follows(condition, other))
        })
        && (wide.exceptions.is_empty() || denies(wide) || !denies(narrow))
        && wide.exceptions.iter().all(|exception| {
            (!is_local(exception) || wide.outcome == narrow.outcome)
                && narrow.exceptions.iter().any(|other| follows(other, exception))
        })
}

/// A denial also matches where a fact of its exceptions is unknown.
fn denies(rule: &Rule) -> bool {
    matches!(rule.outcome, RuleOutcome::Deny(_))
}

/// Whether `wide` holds wherever `narrow` does. `false` also where that is not known.
fn follows(wide: &Condition, narrow: &Condition) -> bool {
    if wide.key() != narrow.key() {
        return false;
    }
    if let (Condition::Local(Local::Uid(w)), Condition::Local(Local::Uid(n))) = (wide, narrow) {
        return n.iter().all(|n| w.iter().any(|w| w.start() <= n.start() && n.end() <= w.end()));
    }
    match (wide.wanted(), narrow.wanted()) {
        (Wanted::Patterns(w), Wanted::Patterns(n)) => n.iter().all(|n| w.iter().any(|w| w.covers(n))),
        (Wanted::Ids(w), Wanted::Ids(n)) => n.iter().all(|id| w.contains(id)),
        (Wanted::Texts(w), Wanted::Texts(n)) => n.iter().all(|text| w.contains(text)),
        (wide, narrow) => wide == narrow,
    }
}

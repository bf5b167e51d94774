//! Whether one rule decides every job that another fits.

use super::is_local;
use crate::{Condition, Outcome, Rule, RunAs};

/// Whether `wide`, standing first, decides every job that `narrow` fits.
///
/// That is so when each condition of `wide` follows from one of `narrow`, and each exception of `wide` implies one of `narrow`. A rule with a map may have no account for a
/// job and then does not fit; conditions on the account speak of different accounts where the outcomes differ.
pub(super) fn decides_all_of(wide: &Rule, narrow: &Rule) -> bool {
    let always_fits = match &wide.outcome {
        Outcome::Deny(_) | Outcome::RunAs(RunAs::UserLogin | RunAs::Account(_)) => true,
        Outcome::RunAs(_) => wide.outcome == narrow.outcome,
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

/// A denial fits also where a fact of its exceptions is not told.
fn denies(rule: &Rule) -> bool {
    matches!(rule.outcome, Outcome::Deny(_))
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

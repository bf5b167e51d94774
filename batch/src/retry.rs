//! Whether a failed submission is repeated without what this launcher added to it.
//!
//! If the user sets no time limit, Nunbird sets the CI job's remaining time. A QOS, an association
//! or a queue may allow less, which no command reports beforehand: then the same job without a time
//! limit runs, under the scheduler's own.

use super::amounts;
use super::description::Description;
use super::engine::Engine;
use super::messages::Row;
use super::outcome::{CancelReason, StageOutcome};
use nunbird_handover::{Rules, Untrusted};

/// The message for the user about a second submission without a time limit; `None` if there is to
/// be none.
pub(super) fn without_time_limit(
    engine: &Engine<'_>,
    outcome: &StageOutcome,
    description: &Description,
    rules: &Rules,
) -> Option<String> {
    let chosen = engine.chosen_limit?;
    if engine.cancel_requested.is_some() || engine.machine.began.is_some() {
        return None;
    }
    let reason = refusal(outcome, description, rules)?;
    Some(format!(
        "{} does not accept the time limit {}, which Nunbird chose ({}): submitting the job again without one",
        description.title,
        amounts::time(chosen),
        Untrusted(reason),
    ))
}

/// The scheduler's message, if a submission without the limit may succeed.
///
/// A refusal by the submit command can have any cause, and its message may come from a site's
/// plugin or echo the user's arguments: one more attempt costs a command. If the site limits the
/// time, a refusal is final: only the queue's own reason for a waiting job counts, which states
/// that a shorter limit is required.
fn refusal<'o>(outcome: &'o StageOutcome, description: &Description, rules: &Rules) -> Option<&'o str> {
    match outcome {
        StageOutcome::Cancelled(CancelReason::Never(reason))
        | StageOutcome::Infeasible(Row { reason, .. }) => description
            .reasons
            .time_limit
            .iter()
            .any(|known| known.is_match(reason))
            .then_some(reason.as_str()),
        StageOutcome::Rejected(text) if rules.most_time.is_none() => {
            let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            Some(last.trim())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::refusal;
    use crate::description::slurm;
    use crate::outcome::{CancelReason, StageOutcome};
    use nunbird_handover::Rules;

    #[test]
    fn a_refusal_that_a_shorter_limit_cures_is_one_to_try_again() {
        let (free, bounded) = (Rules::default(), Rules { most_time: Some(3600), ..Rules::default() });
        let wall = "sbatch: error: QOSMaxWallDurationPerJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy\n";
        let never = |reason: &str| StageOutcome::Cancelled(CancelReason::Never(reason.to_owned()));
        let rejected = |text: &str| StageOutcome::Rejected(text.to_owned());
        for (outcome, without_bound, with_bound) in [
            (never("QOSMaxWallDurationPerJobLimit"), true, true),
            (never("AssocMaxWallDurationPerJobLimit"), true, true),
            (never("BadConstraints"), false, false),
            (rejected(wall), true, false),
            (rejected("qsub: Job violates queue and/or server resource limits"), true, false),
            (StageOutcome::Cancelled(CancelReason::Requested), false, false),
            (StageOutcome::Cancelled(CancelReason::TooLate), false, false),
            (StageOutcome::Failed(1), false, false),
        ] {
            let slurm = slurm();
            assert_eq!(refusal(&outcome, &slurm, &free).is_some(), without_bound, "{outcome:?}");
            assert_eq!(refusal(&outcome, &slurm, &bounded).is_some(), with_bound, "{outcome:?}");
        }
    }
}

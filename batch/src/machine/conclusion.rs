//! Decides whether enough is known to conclude the stage, and how it ended.

use super::{ACCOUNTING_LAG, CANCELLED_OUTPUT, Machine, Order, Output, RECORD_GRACE, Submission};
use crate::outcome::StageOutcome;
use crate::record::Record;
use crate::state::End;
use std::time::Duration;

/// The agent's exit code when it cannot determine how the script ended. A script that itself ends
/// with this code has a record.
const UNKNOWN_EXIT: &str = "75";

impl Machine<'_> {
    /// Whether the scheduler may report more that the user should read.
    pub(super) fn wants_detail(&self) -> bool {
        let explained = matches!(
            (self.reported_end, &self.record),
            (Some((End::Completed, _)), _) | (Some((End::Failed, _)), Some(Record { code: 1.., .. }))
        );
        let can = self.description.detail.is_some() || !self.no_accounting && !self.in_accounting;
        !self.detailed && !explained && can && self.id.is_some() && self.cancel.is_none()
    }

    /// Concludes if enough is known.
    pub(super) fn conclude(&mut self, now: Duration) {
        if self.outcome.is_some() || self.outstanding == Some(Order::Submit) {
            return;
        }
        if let Some(cancel) = &self.cancel {
            if self.submission == Submission::Intended || (self.gone.is_some() && self.began.is_none()) {
                self.outcome = Some(StageOutcome::Cancelled(cancel.why.clone()));
                return;
            }
            if cancel.given_up(now) && self.reported_end.is_none() {
                let still = self.row.as_ref().filter(|_| !self.pace.is_silent()).map(|row| row.state.clone());
                self.outcome = Some(StageOutcome::NotCancelled(cancel.why.clone(), still));
                return;
            }
        }
        let flowing = self.output == Output::Flowing;
        let waited = |since: Duration, most: Duration| {
            // Output that has arrived is passed on, however long that takes, unless the job was
            // cancelled.
            let held_up = flowing && (self.cancel.is_none() || now < since + CANCELLED_OUTPUT);
            now >= since.max(self.flowed) + most && !held_up
        };
        if let Some((end, since)) = self.reported_end {
            let decisive = matches!(end, End::Completed | End::Failed) && self.cancel.is_none();
            let limit = match end {
                _ if decisive => self.limits.nfs,
                End::Cancelled if self.wants_detail() && !self.no_accounting => ACCOUNTING_LAG,
                _ => RECORD_GRACE.min(self.limits.nfs),
            };
            // A job that never began has no record and no output to wait for.
            let never_ran = self.began.is_none() && matches!(end, End::Cancelled | End::Infeasible);
            let complete = never_ran
                || (self.record.is_some() && self.output == Output::All)
                || (self.refused.is_some() && self.record.is_none())
                || waited(since, limit);
            if complete && (self.outstanding.is_none() && !self.wants_detail() || waited(since, limit)) {
                self.outcome = Some(self.ended(end));
            }
        } else if let Some(since) = self.gone
            && ((self.record.is_some() && self.output == Output::All) || waited(since, self.record_grace()))
        {
            self.outcome = Some(self.vanished());
        }
    }

    /// How long to wait for the files of a job that is gone. A cancelled job need not have written
    /// any.
    fn record_grace(&self) -> Duration {
        let expected = self.description.forgets && self.cancel.is_some();
        if expected { RECORD_GRACE.min(self.limits.nfs) } else { self.limits.nfs }
    }

    fn ended(&self, end: End) -> StageOutcome {
        if let Some(refused) = &self.refused
            && self.cancel.is_none()
        {
            return StageOutcome::StartedTwice(refused.host.clone());
        }
        let row = self.row.clone().unwrap_or_default();
        if let Some(cancel) = &self.cancel {
            return StageOutcome::Cancelled(cancel.why.clone());
        }
        match (end, &self.record) {
            (End::Completed, Some(Record { code: 0, begun: true, .. })) if self.output == Output::All => {
                StageOutcome::Success
            }
            (End::Completed, Some(Record { code: 0, begun: true, .. })) => StageOutcome::OutputMissing,
            (End::Completed | End::Failed, Some(Record { result: false, .. })) => StageOutcome::NoResult,
            (End::Completed | End::Failed, Some(record)) if !record.begun => {
                StageOutcome::NeverBegan(record.code)
            }
            (End::Completed | End::Failed, Some(Record { code: code @ 1.., .. })) => {
                StageOutcome::Failed(*code)
            }
            (End::Completed, None) => StageOutcome::NoRecord(row),
            (End::Failed, None)
                if self.began.is_some() && row.exit.split(':').next() == Some(UNKNOWN_EXIT) =>
            {
                StageOutcome::ExitUnknown(row)
            }
            (End::Failed, None) if self.began.is_some() => StageOutcome::Killed(end, row),
            (End::Failed, None) => StageOutcome::NotStarted(row),
            (End::Infeasible, None) if self.began.is_none() => StageOutcome::Infeasible(row),
            // A cancelled stage does not end with 0 before its end is known.
            (End::Failed | End::Cancelled, Some(Record { code: 0, .. })) => StageOutcome::Contradiction(row),
            (end, _) => StageOutcome::Killed(end, row),
        }
    }

    fn vanished(&self) -> StageOutcome {
        match &self.record {
            Some(Record { code: code @ 1.., begun: true, .. }) if self.cancel.is_none() => {
                StageOutcome::Failed(*code)
            }
            _ => match &self.cancel {
                Some(cancel) if self.record.is_some() || self.description.forgets => {
                    StageOutcome::Cancelled(cancel.why.clone())
                }
                Some(cancel) => StageOutcome::NotCancelled(cancel.why.clone(), None),
                None => StageOutcome::Lost(self.record.as_ref().map(|record| record.code)),
            },
        }
    }
}

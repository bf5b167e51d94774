//! How a result from the scheduler changes the state.

use super::{ABSENT_FOR, ACCOUNTING_LAG, CommandResult, Machine, Notice, Order, Row, Submission};
use crate::cancelling::Cancel;
use crate::outcome::{CancelReason, StageOutcome};
use crate::state::{End, State};
use crate::template::Whole;
use std::time::Duration;

/// How long to wait for the accounting to catch up with the queue.
const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Machine<'_> {
    /// Whether the accounting may still report who cancelled.
    fn accounting_lags(&self, now: Duration) -> bool {
        matches!(self.reported_end, Some((End::Cancelled, at)) if now + ASK_AGAIN < at + ACCOUNTING_LAG)
    }

    pub(super) fn on_result(&mut self, now: Duration, order: Order, result: CommandResult) {
        // That the job is not in the queue does not explain a submission that could not be made.
        let unsubmitted = order == Order::Find && self.submission == Submission::Unclear;
        let no_evidence = matches!(result, CommandResult::Unclear(_) | CommandResult::Faulty(_))
            || (unsubmitted && result == CommandResult::Absent);
        if !no_evidence {
            self.pace.answered();
        }
        match (order, result) {
            (Order::Submit, CommandResult::Id(id)) => {
                self.submission = Submission::Known;
                self.notices.push(Notice::Submitted(id.clone()));
                self.id.get_or_insert(id);
                self.pace.confirm(now);
            }
            (Order::Limits, CommandResult::Unclear(text)) => {
                self.limits_left -= 1;
                self.on_failure(now, text);
            }
            (Order::Limits, _) => self.limits_left = 0,
            (Order::Submit, CommandResult::Impossible(text)) => {
                self.outcome = Some(StageOutcome::Impossible(text));
            }
            (Order::Submit, CommandResult::Later(text)) => {
                self.submission = Submission::Intended;
                let state_and_reason = (String::new(), text.clone());
                if self.reported.as_ref() != Some(&state_and_reason) {
                    self.reported = Some(state_and_reason);
                    self.notices.push(Notice::Later(text));
                }
                self.pace.waiting(now);
            }
            (Order::Submit, CommandResult::Faulty(text)) if self.faults_left > 0 => {
                self.submission = Submission::Intended;
                self.faults_left -= 1;
                self.on_failure(now, text);
            }
            (Order::Submit, CommandResult::Faulty(text)) => self.outcome = Some(StageOutcome::Faulty(text)),
            (Order::Submit, CommandResult::Rejected(text)) => {
                self.outcome = Some(StageOutcome::Rejected(text));
            }
            (Order::Signal | Order::Cancel | Order::Kill, result) => {
                if let Some(cancel) = &mut self.cancel {
                    cancel.answered(now, order, matches!(result, CommandResult::Done));
                }
                let CommandResult::Unclear(text) = result else { return self.pace.soon(now) };
                // Often there is nothing to cancel any more, and only a query shows that.
                let since = self.pace.refused(now);
                self.report_silence(now, since, text);
            }
            (order, CommandResult::Row(row)) => self.on_row(now, order, row),
            (Order::Detail, CommandResult::Absent | CommandResult::Disabled | CommandResult::Done) => {
                self.detailed = true;
            }
            (Order::Accounting, CommandResult::Disabled) => self.no_accounting = true,
            (Order::Accounting, CommandResult::Absent) if self.accounting_lags(now) => {
                self.pace.after(now, ASK_AGAIN);
            }
            (Order::Accounting, CommandResult::Absent) if self.reported_end.is_some() => {
                self.in_accounting = true;
            }
            (order, CommandResult::Absent) => self.is_absent(now, order),
            (Order::Submit, CommandResult::Unclear(text)) => {
                self.submission = Submission::Unclear;
                self.absent_since = None;
                self.on_failure(now, text);
            }
            (Order::Detail, CommandResult::Unclear(_)) => self.detailed = true,
            (_, CommandResult::Unclear(text)) => self.on_failure(now, text),
            // A result that does not fit its order is ignored.
            (_, _) => self.on_failure(now, "unexpected output of the scheduler's command".to_owned()),
        }
    }

    fn on_failure(&mut self, now: Duration, text: String) {
        let since = self.pace.failed(now);
        self.report_silence(now, since, text);
    }

    fn report_silence(&mut self, now: Duration, since: Option<Duration>, text: String) {
        if let Some(since) = since {
            self.notices.push(Notice::Silence(now.saturating_sub(since), text));
        }
    }

    fn on_row(&mut self, now: Duration, order: Order, row: Row) {
        let state = self.description.state(&row.state);
        self.submission = Submission::Known;
        self.absent_since = None;
        self.absent_by_tag = false;
        self.in_accounting = false;
        self.gone = None;
        if order == Order::Accounting && !matches!(state, State::Ended(_)) && self.accounting_lags(now) {
            return self.pace.after(now, ASK_AGAIN);
        }
        self.detailed |= matches!(order, Order::Detail | Order::Accounting);
        if self.reported_end.is_some() {
            self.row = Some(row);
            return;
        }
        if self.began.as_ref().is_none_or(|began| began.id.is_empty()) && !row.id.is_empty() {
            self.id = Some(row.id.clone());
        }
        if !matches!(state, State::Pending | State::Held) {
            self.doomed = None;
        }
        match state {
            State::Ended(end) => {
                self.reported_end.get_or_insert((end, now));
                self.pace.soon(now);
            }
            State::Running | State::Suspended if self.began.is_none() && self.record.is_none() => {
                if !self.reported_running {
                    self.reported_running = true;
                    self.notices.push(Notice::Runs(row.nodes.clone()));
                }
                self.pace.waiting(now);
            }
            State::Pending | State::Held if self.began.is_some() => self.is_requeued(now),
            State::Pending | State::Held => self.is_waiting(now, &row),
            State::Elsewhere if self.ends_by_record(now) => {}
            State::Elsewhere if self.began.is_none() => self.is_waiting(now, &row),
            // The tag led to an id and nothing else: the job with this id still has to be queried.
            State::Unknown if order == Order::Find && row.state.is_empty() => self.pace.soon(now),
            // The record exists, or the end is near: the final state is due.
            _ => self.pace.closing(now, self.record.is_some() || state == State::Ending),
        }
        self.row = Some(row);
    }

    fn is_waiting(&mut self, now: Duration, row: &Row) {
        let state_and_reason = (row.state.clone(), row.reason.clone());
        if self.reported.as_ref() != Some(&state_and_reason) {
            self.notices.push(Notice::Waits(row.clone()));
            self.reported = Some(state_and_reason);
        }
        self.pace.waiting(now);
        let reasons = &self.description.reasons;
        let listed = |list: &[Whole]| list.iter().any(|known| known.is_match(&row.reason));
        let broken = listed(&reasons.broken);
        if !broken && !listed(&reasons.never) {
            self.doomed = None;
            return;
        }
        // The reason is as old as the scheduler's last cycle, so a second check decides.
        match self.doomed {
            Some(since) if now >= since + ABSENT_FOR && self.cancel.is_none() => {
                let reason = row.reason.clone();
                self.cancel = Some(Cancel::new(
                    now,
                    if broken { CancelReason::Broken(reason) } else { CancelReason::Never(reason) },
                ));
                self.pace.soon(now);
            }
            Some(since) => self.check_again(now, since),
            None => {
                self.doomed = Some(now);
                self.pace.after(now, ABSENT_FOR);
            }
        }
    }

    /// The script has begun and the queue reports the job as waiting: the scheduler is going to run
    /// it again. The query may have begun before the script, so a second check decides.
    fn is_requeued(&mut self, now: Duration) {
        match self.doomed {
            Some(since) if now >= since + ABSENT_FOR && self.cancel.is_none() => {
                self.cancel = Some(Cancel::new(now, CancelReason::Requeued));
                self.pace.soon(now);
            }
            Some(since) => self.check_again(now, since),
            None => {
                self.doomed = Some(now);
                self.pace.after(now, ABSENT_FOR);
            }
        }
    }

    /// The queue still lists a job that should be gone: check again, or see whether the cancel
    /// worked.
    fn check_again(&mut self, now: Duration, since: Duration) {
        match self.cancel {
            Some(_) => self.pace.closing(now, true),
            None => self.pace.after(now, (since + ABSENT_FOR).saturating_sub(now)),
        }
    }

    /// If the queue drops ended jobs, the record alone shows how a job ended that the queue no
    /// longer lists.
    fn ends_by_record(&mut self, now: Duration) -> bool {
        let Some(record) = self.record.as_ref().filter(|_| self.description.forgets) else { return false };
        if self.cancel.is_some() {
            self.gone.get_or_insert(now);
        } else {
            let end = if record.code == 0 { End::Completed } else { End::Failed };
            self.reported_end.get_or_insert((end, now));
        }
        self.pace.soon(now);
        true
    }

    fn is_absent(&mut self, now: Duration, order: Order) {
        if self.cancel.is_none() && self.ends_by_record(now) {
            return;
        }
        let since = *self.absent_since.get_or_insert(now);
        match order {
            Order::Find => self.absent_by_tag = true,
            Order::Accounting => self.in_accounting = true,
            _ => {}
        }
        if now < since + self.limits.absent_for {
            return self.pace.after(now, self.limits.absent_for);
        }
        match self.submission {
            Submission::Unclear if self.began.is_none() => {
                // Looked up twice, never found: it was not submitted.
                if self.cancel.is_some() {
                    self.gone.get_or_insert(now);
                } else {
                    self.submission = Submission::Intended;
                    self.absent_since = None;
                    self.absent_by_tag = false;
                    self.pace.at_once();
                }
            }
            _ if self.absent_by_tag && (self.no_accounting || self.in_accounting) => {
                self.gone.get_or_insert(now);
                self.pace.waiting(now);
            }
            _ => self.pace.soon(now),
        }
    }
}

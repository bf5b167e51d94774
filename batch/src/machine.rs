//! What is known of a submitted stage, and what to do next. No I/O: time and events come in, orders
//! and an outcome come out, so that every case can be tested without a scheduler.
//!
//! Two witnesses report how a job ended: its own record and the scheduler. Success takes both. Only
//! the scheduler knows why a job was killed, only the record knows the exit code of the script. A
//! command that fails is no evidence; neither is an unknown state. At most one command of the
//! scheduler runs at a time.

use super::cancelling::Cancel;
use super::description::Description;
use super::messages::{CommandResult, Event, Limits, Notice, Order, Output, Row};
use super::outcome::{CancelReason, StageOutcome};
use super::polling::Pace;
use super::record::{Began, Record, Refused};
use super::state::{End, State};
use std::time::Duration;

mod conclusion;
mod results;
#[cfg(test)]
mod tests;

/// Cancels this long before GitLab ends the job, so that the user reads why.
const DEADLINE_MARGIN: Duration = Duration::from_secs(60);
/// [`Limits::absent_for`] of a job that the scheduler may have accepted; also the interval between
/// two checks of a reason.
pub(crate) const ABSENT_FOR: Duration = Duration::from_secs(5);
/// How long the accounting may lag behind the controller (slurmdbd(8) gets its updates in batches).
/// Only the accounting knows who cancelled.
const ACCOUNTING_LAG: Duration = Duration::from_secs(6);
/// How long a killed job may still take to write its record.
const RECORD_GRACE: Duration = Duration::from_secs(3);

/// How often a submission that failed by the scheduler's own fault is repeated; with growing
/// pauses, over about a minute.
const FAULTS: u8 = 5;

/// How long passing on a cancelled job's last output may take.
const CANCELLED_OUTPUT: Duration = Duration::from_secs(10);

/// Whether the scheduler has the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Submission {
    /// Nothing has been submitted.
    Intended,
    /// It may have the job: the command failed half-way, or an earlier launcher submitted.
    Unclear,
    Known,
}

#[derive(Debug)]
pub(crate) struct Machine<'d> {
    description: &'d Description,
    limits: Limits,
    submission: Submission,
    pub(crate) id: Option<String>,
    pub(crate) began: Option<Began>,
    pub(crate) record: Option<Record>,
    refused: Option<Refused>,
    /// The last log line about the job.
    row: Option<Row>,
    /// The last state that the scheduler reported, and when.
    reported_end: Option<(End, Duration)>,
    detailed: bool,
    no_accounting: bool,
    output: Output,
    /// When output last arrived.
    flowed: Duration,
    /// How many attempts to query the limits are left.
    limits_left: u8,
    /// How many attempts are left for a submission that fails by the scheduler's own fault.
    faults_left: u8,
    absent_since: Option<Duration>,
    absent_by_tag: bool,
    in_accounting: bool,
    gone: Option<Duration>,
    doomed: Option<Duration>,
    pace: Pace,
    outstanding: Option<Order>,
    cancel: Option<Cancel>,
    reported: Option<(String, String)>,
    reported_running: bool,
    notices: Vec<Notice>,
    outcome: Option<StageOutcome>,
}

impl<'d> Machine<'d> {
    /// For a stage that was never submitted (`id` and `earlier` unset), one that an earlier
    /// launcher may have submitted (`earlier`), or one that has this id.
    pub(crate) fn new(
        description: &'d Description,
        limits: Limits,
        earlier: bool,
        id: Option<String>,
    ) -> Self {
        let submission = match (&id, earlier) {
            (Some(_), _) => Submission::Known,
            (None, true) => Submission::Unclear,
            (None, false) => Submission::Intended,
        };
        Machine {
            description,
            limits,
            submission,
            id,
            began: None,
            record: None,
            refused: None,
            row: None,
            reported_end: None,
            detailed: false,
            no_accounting: description.accounting.is_none(),
            output: Output::Flowing,
            flowed: Duration::ZERO,
            limits_left: 0,
            faults_left: FAULTS,
            absent_since: None,
            absent_by_tag: false,
            in_accounting: false,
            gone: None,
            doomed: None,
            pace: Pace::new(limits.poll, limits.seed),
            outstanding: None,
            cancel: None,
            reported: None,
            reported_running: false,
            notices: Vec::new(),
            outcome: None,
        }
    }

    /// Queries the longest time limits before the submission.
    pub(crate) fn query_limits(&mut self) {
        self.limits_left = 3;
    }

    pub(crate) fn outcome(&self) -> Option<&StageOutcome> {
        self.outcome.as_ref()
    }

    pub(crate) fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Whether the state may have changed since the last query, so that only a new one counts.
    pub(crate) fn needs_fresh_state(&self) -> bool {
        self.absent_since.is_some()
            || self.doomed.is_some()
            || self.cancel.is_some()
            || self.submission != Submission::Known
    }

    /// Whether the job waits or runs as the scheduler last said, and nothing is known that will end it.
    pub(crate) fn is_settled(&self) -> bool {
        !self.needs_fresh_state()
            && self.record.is_none()
            && self.refused.is_none()
            && self.reported_end.is_none()
            && self.gone.is_none()
    }

    /// The order is not carried out; it is issued again when nothing more urgent is due.
    pub(crate) fn withdraw_order(&mut self) {
        self.outstanding = None;
    }

    /// When [`Machine::next`] may return an order without any event.
    pub(crate) fn next_wakeup(&self, now: Duration) -> Option<Duration> {
        let mut times = vec![
            self.reported_end.map(|(_, at)| at + self.limits.nfs),
            self.reported_end.map(|(_, at)| at + RECORD_GRACE),
            self.reported_end.map(|(_, at)| at + ACCOUNTING_LAG),
            self.gone.map(|at| at + self.limits.nfs),
        ];
        if self.outstanding.is_none() {
            times.push(self.pace.due());
            times.push(self.cancel.as_ref().map(|cancel| cancel.due(self.limits.grace)));
        }
        if self.is_pending() {
            times.push(self.limits.deadline.map(|at| at.saturating_sub(DEADLINE_MARGIN)));
        }
        times.into_iter().flatten().filter(|at| *at > now).min()
    }

    /// Whether the job is, as far as is known, not running yet.
    fn is_pending(&self) -> bool {
        let state = self.row.as_ref().map(|row| self.description.state(&row.state));
        self.began.is_none()
            && self.reported_end.is_none()
            && matches!(state, None | Some(State::Pending | State::Held | State::Elsewhere | State::Unknown))
    }

    /// Handles an event.
    pub(crate) fn handle(&mut self, now: Duration, event: Event) {
        match event {
            Event::Began(began) => self.has_begun(now, began),
            Event::Recorded(record) => {
                if self.record.is_none() {
                    self.record = Some(record);
                    // The agent still has to exit and the scheduler to notice.
                    self.pace.script_ended(now);
                }
            }
            Event::Refused(refused) => self.refused = Some(refused),
            Event::LogGrew => self.pace.soon(now),
            Event::Output(output) => {
                self.output = output;
                if output == Output::Flowing {
                    self.flowed = now;
                }
            }
            Event::Cancel(again) => match &mut self.cancel {
                Some(cancel) if again => cancel.hurry(now),
                Some(_) => {}
                None => self.cancel = Some(Cancel::new(now, CancelReason::Requested)),
            },
            Event::CommandResult(order, result) => {
                self.outstanding = None;
                self.on_result(now, order, result);
            }
        }
        self.conclude(now);
    }

    /// The command to run now, if any; its result must be handled before the next.
    pub(crate) fn next(&mut self, now: Duration) -> Option<Order> {
        if self.is_pending() && self.cancel.is_none() {
            let deadline = self.limits.deadline.map(|at| at.saturating_sub(DEADLINE_MARGIN));
            if deadline.is_some_and(|at| now >= at) {
                self.cancel = Some(Cancel::new(now, CancelReason::TooLate));
            }
        }
        self.conclude(now);
        if self.outcome.is_some() || self.outstanding.is_some() {
            return None;
        }
        let order = self.choose(now)?;
        self.outstanding = Some(order);
        Some(order)
    }

    fn choose(&mut self, now: Duration) -> Option<Order> {
        if self.reported_end.is_some() {
            let order =
                if self.no_accounting || self.in_accounting { Order::Detail } else { Order::Accounting };
            return (self.wants_detail() && self.pace.is_due(now)).then_some(order);
        }
        if self.gone.is_none()
            && self.submission != Submission::Intended
            && (self.id.is_some() || self.description.cancels_by_tag())
            && let Some(cancel) = &mut self.cancel
        {
            // The queue's last state may be older than the agent's report.
            let state = self.row.as_ref().map(|row| self.description.state(&row.state));
            let runs = match self.began {
                Some(_) => cancel.why != CancelReason::Requeued,
                None => matches!(state, Some(State::Running | State::Suspended)),
            };
            if let Some(order) = cancel.order(now, self.limits.grace, runs, self.description) {
                return Some(order);
            }
        }
        if !self.pace.is_due(now) {
            return None;
        }
        match self.submission {
            Submission::Intended if self.limits_left > 0 => Some(Order::Limits),
            Submission::Intended => Some(Order::Submit),
            Submission::Unclear => Some(Order::Find),
            // The job has reported itself, but not its id.
            Submission::Known if self.id.is_none() && self.absent_since.is_none() => Some(Order::Find),
            Submission::Known if self.absent_since.is_none() => Some(Order::Query),
            Submission::Known if !self.absent_by_tag => Some(Order::Find),
            Submission::Known if !self.no_accounting && !self.in_accounting => Some(Order::Accounting),
            Submission::Known if self.id.is_none() => Some(Order::Find),
            Submission::Known => Some(Order::Query),
        }
    }

    fn has_begun(&mut self, now: Duration, began: Began) {
        if self.began.is_some() {
            return;
        }
        if !began.id.is_empty() {
            // Two submissions may have collided, and this is the one that runs.
            self.id = Some(began.id.clone());
        }
        self.submission = Submission::Known;
        self.absent_since = None;
        if self.record.is_none() {
            self.pace.calm(now);
        }
        if !self.reported_running {
            self.reported_running = true;
            self.notices.push(Notice::Runs(began.host.clone()));
        }
        self.began = Some(began);
    }
}

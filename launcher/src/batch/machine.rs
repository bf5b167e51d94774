//! What a submitted stage is known to be doing, and what to do next. No I/O: time and news come in, orders and an
//! outcome come out, so that every case can be played in a test.
//!
//! Two witnesses tell how a job ended: its own record and the scheduler. Success takes both. The scheduler alone
//! says why a job was killed, the record alone says with which number a script ended. A command that fails says
//! nothing; neither does a state that nobody knows. At most one command of the scheduler runs at a time.

use super::cancelling::Cancel;
use super::description::{Description, End, State};
use super::outcome::{Outcome, Why};
use super::polling::Pace;
use super::record::{Began, Record, Refused};
use std::time::Duration;

/// A command to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The longest time limits, before a submission that leaves ours to us.
    Limits,
    Submit,
    /// By id.
    Query,
    /// By tag.
    Find,
    Accounting,
    Detail,
    Signal,
    Cancel,
    Kill,
}

/// What a command said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Submitted, with this id.
    Id(String),
    /// Not submitted, and why.
    Rejected(String),
    /// The job, whose owner and tag are ours.
    Row(Row),
    /// The scheduler answers and has no such job of ours.
    Absent,
    /// This site has no such service.
    Disabled,
    /// The command did what it should.
    Done,
    /// Nothing is known.
    Unclear(String),
}

/// A line about the job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) reason: String,
    pub(crate) start: String,
    pub(crate) nodes: String,
    pub(crate) limit: String,
    pub(crate) by: String,
    pub(crate) exit: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Answer(Order, Answer),
    Began(Began),
    Recorded(Record),
    Refused(Refused),
    /// The scheduler wrote something into the job's log.
    Stirred,
    Output(Output),
    /// The runner asks to cancel; true when it asks again.
    Cancel(bool),
}

/// How far the output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// All that there is has been passed on; with the record: all that it counts.
    All,
    /// There is more to pass on.
    Flowing,
    /// The record counts more than there is to see here.
    Missing,
}

/// Something to tell the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    Submitted(String),
    /// State, reason and expected start of a job that waits.
    Waits(Row),
    /// Where it runs.
    Runs(String),
    /// The scheduler has not answered for so long.
    Silence(Duration, String),
}

/// What the site and the handover say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) poll: Duration,
    pub(crate) nfs: Duration,
    pub(crate) grace: Duration,
    /// When GitLab ends the job, on the machine's clock.
    pub(crate) deadline: Option<Duration>,
    /// For jitter.
    pub(crate) seed: u64,
}

/// Before GitLab's own end of the job, so that the user reads why.
const DEADLINE_MARGIN: Duration = Duration::from_secs(60);
/// Two looks that find nothing must lie this far apart before a job counts as gone or never submitted.
const ABSENT_FOR: Duration = Duration::from_secs(5);
/// What a killed job may still have to tell.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How long a cancelled job's last output may take to be passed on.
const UNWANTED: Duration = Duration::from_secs(10);

/// Whether the scheduler has the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Submission {
    /// Nothing has been tried.
    Intended,
    /// It may have it: the command failed half-way, or an earlier launcher did.
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
    /// The last line about the job.
    row: Option<Row>,
    /// The scheduler's last word, and when it came.
    word: Option<(End, Duration)>,
    detailed: bool,
    no_accounting: bool,
    output: Output,
    /// When output last moved.
    flowed: Duration,
    /// How often the limits are still asked for.
    limits_left: u8,
    absent_since: Option<Duration>,
    absent_by_tag: bool,
    in_accounting: bool,
    gone: Option<Duration>,
    doomed: Option<Duration>,
    pace: Pace,
    outstanding: Option<Order>,
    cancel: Option<Cancel>,
    told: Option<(String, String)>,
    told_running: bool,
    notices: Vec<Notice>,
    outcome: Option<Outcome>,
}

impl<'d> Machine<'d> {
    /// For a stage that was never submitted (`id` and `earlier` unset), one that an earlier launcher may have
    /// submitted (`earlier`), or one that has this id.
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
            word: None,
            detailed: false,
            no_accounting: description.accounting.is_none(),
            output: Output::Flowing,
            flowed: Duration::ZERO,
            limits_left: 0,
            absent_since: None,
            absent_by_tag: false,
            in_accounting: false,
            gone: None,
            doomed: None,
            pace: Pace::new(limits.poll, limits.seed),
            outstanding: None,
            cancel: None,
            told: None,
            told_running: false,
            notices: Vec::new(),
            outcome: None,
        }
    }

    /// Has the longest time limits asked for before the submission.
    pub(crate) fn ask_limits(&mut self) {
        self.limits_left = 3;
    }

    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    pub(crate) fn notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// When [`Machine::next`] may have something to say without any news.
    pub(crate) fn wake(&self, now: Duration) -> Option<Duration> {
        let mut times = vec![
            self.word.map(|(_, at)| at + self.limits.nfs),
            self.word.map(|(_, at)| at + LAST_WORDS),
            self.gone.map(|at| at + self.limits.nfs),
        ];
        if self.outstanding.is_none() {
            times.push(self.pace.due());
            times.push(self.cancel.as_ref().map(|cancel| cancel.due(self.limits.grace)));
        }
        if self.waits() {
            times.push(self.limits.deadline.map(|at| at.saturating_sub(DEADLINE_MARGIN)));
        }
        times.into_iter().flatten().filter(|at| *at > now).min()
    }

    /// Whether the job is, as far as anybody knows, not running yet.
    fn waits(&self) -> bool {
        let state = self.row.as_ref().map(|row| self.description.state(&row.state));
        self.began.is_none()
            && self.word.is_none()
            && matches!(state, None | Some(State::Pending | State::Held | State::Unknown))
    }

    /// Takes news in.
    pub(crate) fn take(&mut self, now: Duration, event: Event) {
        match event {
            Event::Began(began) => self.has_begun(now, began),
            Event::Recorded(record) => {
                if self.record.is_none() {
                    self.record = Some(record);
                    // The agent still has to exit and the scheduler to notice.
                    self.pace.soon(now);
                }
            }
            Event::Refused(refused) => self.refused = Some(refused),
            Event::Stirred => self.pace.soon(now),
            Event::Output(output) => {
                self.output = output;
                if output == Output::Flowing {
                    self.flowed = now;
                }
            }
            Event::Cancel(again) => match &mut self.cancel {
                Some(cancel) if again => cancel.hurry(now),
                Some(_) => {}
                None => self.cancel = Some(Cancel::new(now, Why::Asked)),
            },
            Event::Answer(order, answer) => {
                self.outstanding = None;
                self.answered(now, order, answer);
            }
        }
        self.conclude(now);
    }

    /// The command to run now, if any; its answer must come back before the next.
    pub(crate) fn next(&mut self, now: Duration) -> Option<Order> {
        if self.waits() && self.cancel.is_none() {
            let deadline = self.limits.deadline.map(|at| at.saturating_sub(DEADLINE_MARGIN));
            if deadline.is_some_and(|at| now >= at) {
                self.cancel = Some(Cancel::new(now, Why::TooLate));
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
        if self.word.is_some() {
            let order =
                if self.no_accounting || self.in_accounting { Order::Detail } else { Order::Accounting };
            return (self.wants_detail() && self.pace.is_due(now)).then_some(order);
        }
        if self.gone.is_none()
            && self.submission != Submission::Intended
            && let Some(cancel) = &mut self.cancel
        {
            let runs = match self.row.as_ref().map(|row| self.description.state(&row.state)) {
                Some(State::Running | State::Suspended) => true,
                Some(State::Pending | State::Held) => false,
                _ => self.began.is_some(),
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
            Submission::Known if self.absent_since.is_none() => Some(Order::Query),
            Submission::Known if !self.absent_by_tag => Some(Order::Find),
            Submission::Known if !self.no_accounting && !self.in_accounting => Some(Order::Accounting),
            Submission::Known => Some(Order::Query),
        }
    }

    fn has_begun(&mut self, now: Duration, began: Began) {
        if self.began.is_some() {
            return;
        }
        if !began.id.is_empty() {
            // Two submissions may have met, and this is the one that runs.
            self.id = Some(began.id.clone());
        }
        self.submission = Submission::Known;
        self.absent_since = None;
        if self.record.is_none() {
            self.pace.calm(now);
        }
        if !self.told_running {
            self.told_running = true;
            self.notices.push(Notice::Runs(began.host.clone()));
        }
        self.began = Some(began);
    }

    fn answered(&mut self, now: Duration, order: Order, answer: Answer) {
        if !matches!(answer, Answer::Unclear(_)) {
            self.pace.answered();
        }
        match (order, answer) {
            (Order::Submit, Answer::Id(id)) => {
                self.submission = Submission::Known;
                self.notices.push(Notice::Submitted(id.clone()));
                self.id.get_or_insert(id);
                self.pace.confirm(now);
            }
            (Order::Limits, Answer::Unclear(text)) => {
                self.limits_left -= 1;
                self.silence(now, text);
            }
            (Order::Limits, _) => self.limits_left = 0,
            (Order::Submit, Answer::Rejected(text)) => self.outcome = Some(Outcome::Rejected(text)),
            (Order::Signal | Order::Cancel | Order::Kill, answer) => {
                if let Some(cancel) = &mut self.cancel {
                    cancel.answered(now, order, matches!(answer, Answer::Done));
                }
                if let Answer::Unclear(text) = answer {
                    self.silence(now, text);
                } else {
                    self.pace.soon(now);
                }
            }
            (order, Answer::Row(row)) => self.heard(now, order, row),
            (Order::Detail, Answer::Absent | Answer::Disabled | Answer::Done) => self.detailed = true,
            (Order::Accounting, Answer::Disabled) => self.no_accounting = true,
            (Order::Accounting, Answer::Absent) if self.word.is_some() => self.in_accounting = true,
            (order, Answer::Absent) => self.is_absent(now, order),
            (Order::Submit, Answer::Unclear(text)) => {
                self.submission = Submission::Unclear;
                self.absent_since = None;
                self.silence(now, text);
            }
            (Order::Detail, Answer::Unclear(_)) => self.detailed = true,
            (_, Answer::Unclear(text)) => self.silence(now, text),
            // An answer that does not fit its question says nothing.
            (_, _) => self.silence(now, "an answer that makes no sense".to_owned()),
        }
    }

    fn silence(&mut self, now: Duration, text: String) {
        if let Some(since) = self.pace.failed(now) {
            self.notices.push(Notice::Silence(now.saturating_sub(since), text));
        }
    }

    fn heard(&mut self, now: Duration, order: Order, row: Row) {
        let state = self.description.state(&row.state);
        self.submission = Submission::Known;
        self.absent_since = None;
        self.absent_by_tag = false;
        self.in_accounting = false;
        self.gone = None;
        self.detailed |= matches!(order, Order::Detail | Order::Accounting);
        if self.word.is_some() {
            self.row = Some(row);
            return;
        }
        if self.began.is_none() && !row.id.is_empty() {
            self.id = Some(row.id.clone());
        }
        if !matches!(state, State::Pending | State::Held) {
            self.doomed = None;
        }
        match state {
            State::Ended(end) => {
                self.word.get_or_insert((end, now));
                self.pace.soon(now);
            }
            State::Running | State::Suspended if self.began.is_none() && self.record.is_none() => {
                if !self.told_running {
                    self.told_running = true;
                    self.notices.push(Notice::Runs(row.nodes.clone()));
                }
                self.pace.waiting(now);
            }
            State::Pending | State::Held if self.began.is_some() => self.is_requeued(now),
            State::Pending | State::Held => self.is_waiting(now, &row),
            // The record is there, or the end is near: the last word is due.
            _ => self.pace.closing(now, self.record.is_some() || state == State::Ending),
        }
        self.row = Some(row);
    }

    fn is_waiting(&mut self, now: Duration, row: &Row) {
        let says = (row.state.clone(), row.reason.clone());
        if self.told.as_ref() != Some(&says) {
            self.notices.push(Notice::Waits(row.clone()));
            self.told = Some(says);
        }
        self.pace.waiting(now);
        let reasons = &self.description.reasons;
        let listed = |list: &[String]| list.contains(&row.reason);
        let broken = listed(&reasons.broken);
        if !broken && !listed(&reasons.never) {
            self.doomed = None;
            return;
        }
        // A reason is as old as the last round of the scheduler, so a second look decides.
        match self.doomed {
            Some(since) if now >= since + ABSENT_FOR && self.cancel.is_none() => {
                let reason = row.reason.clone();
                self.cancel =
                    Some(Cancel::new(now, if broken { Why::Broken(reason) } else { Why::Never(reason) }));
            }
            Some(_) => self.pace.soon(now),
            None => {
                self.doomed = Some(now);
                self.pace.after(now, ABSENT_FOR);
            }
        }
    }

    /// The script has begun and the queue says that the job waits: the scheduler means to run it again. The
    /// question may be older than the beginning, so a second look decides.
    fn is_requeued(&mut self, now: Duration) {
        match self.doomed {
            Some(since) if now >= since + ABSENT_FOR => {
                self.cancel.get_or_insert_with(|| Cancel::new(now, Why::Requeued));
                self.pace.soon(now);
            }
            Some(_) => self.pace.soon(now),
            None => {
                self.doomed = Some(now);
                self.pace.after(now, ABSENT_FOR);
            }
        }
    }

    fn is_absent(&mut self, now: Duration, order: Order) {
        let since = *self.absent_since.get_or_insert(now);
        match order {
            Order::Find => self.absent_by_tag = true,
            Order::Accounting => self.in_accounting = true,
            _ => {}
        }
        if now < since + ABSENT_FOR {
            return self.pace.after(now, ABSENT_FOR);
        }
        match self.submission {
            Submission::Unclear if self.began.is_none() => {
                // Looked for twice, never there: it was not submitted.
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

    fn wants_detail(&self) -> bool {
        let explained = matches!(
            (self.word, &self.record),
            (Some((End::Completed, _)), _) | (Some((End::Failed, _)), Some(Record { code: 1.., .. }))
        );
        let can = self.description.detail.is_some() || !self.no_accounting && !self.in_accounting;
        !self.detailed && !explained && can && self.id.is_some() && self.cancel.is_none()
    }

    /// Sees whether enough is known.
    fn conclude(&mut self, now: Duration) {
        if self.outcome.is_some() || self.outstanding == Some(Order::Submit) {
            return;
        }
        if let Some(cancel) = &self.cancel {
            if self.submission == Submission::Intended || (self.gone.is_some() && self.began.is_none()) {
                self.outcome = Some(Outcome::Cancelled(cancel.why.clone()));
                return;
            }
            if cancel.given_up(now) && self.word.is_none() {
                self.outcome = Some(Outcome::NotCancelled(cancel.why.clone()));
                return;
            }
        }
        let flowing = self.output == Output::Flowing;
        let waited = |since: Duration, most: Duration| {
            // Output that is here is passed on, however long that takes; unless nobody wants it any more.
            let held_up = flowing && (self.cancel.is_none() || now < since + UNWANTED);
            now >= since.max(self.flowed) + most && !held_up
        };
        if let Some((end, since)) = self.word {
            let decisive = matches!(end, End::Completed | End::Failed) && self.cancel.is_none();
            let patience = if decisive { self.limits.nfs } else { LAST_WORDS.min(self.limits.nfs) };
            // A job that never began has no record and no output to wait for.
            let nothing = self.began.is_none() && end == End::Cancelled;
            let heard_out = nothing
                || (self.record.is_some() && self.output == Output::All)
                || (self.refused.is_some() && self.record.is_none())
                || waited(since, patience);
            if heard_out && (self.outstanding.is_none() && !self.wants_detail() || waited(since, patience)) {
                self.outcome = Some(self.ended(end));
            }
        } else if let Some(since) = self.gone
            && ((self.record.is_some() && self.output == Output::All) || waited(since, self.limits.nfs))
        {
            self.outcome = Some(self.vanished());
        }
    }

    fn ended(&self, end: End) -> Outcome {
        if let Some(refused) = &self.refused
            && self.cancel.is_none()
        {
            return Outcome::StartedTwice(refused.host.clone());
        }
        let row = self.row.clone().unwrap_or_default();
        if let Some(cancel) = &self.cancel {
            return Outcome::Cancelled(cancel.why.clone());
        }
        match (end, &self.record) {
            (End::Completed, Some(Record { code: 0, begun: true, .. })) if self.output == Output::All => {
                Outcome::Success
            }
            (End::Completed, Some(Record { code: 0, begun: true, .. })) => Outcome::OutputMissing,
            (End::Completed | End::Failed, Some(record)) if !record.begun => Outcome::NeverBegan(record.code),
            (End::Completed | End::Failed, Some(Record { code: code @ 1.., .. })) => Outcome::Failed(*code),
            (End::Completed, None) => Outcome::NoRecord(row),
            (End::Failed, None) if self.began.is_some() => Outcome::Killed(end, row),
            (End::Failed, None) => Outcome::NotStarted(row),
            // Whoever was cancelled does not end with 0 before it knows.
            (End::Failed | End::Cancelled, Some(Record { code: 0, .. })) => Outcome::Contradiction(row),
            (end, _) => Outcome::Killed(end, row),
        }
    }

    fn vanished(&self) -> Outcome {
        match &self.record {
            Some(Record { code: code @ 1.., begun: true, .. }) if self.cancel.is_none() => {
                Outcome::Failed(*code)
            }
            _ => match &self.cancel {
                Some(cancel) if self.record.is_some() => Outcome::Cancelled(cancel.why.clone()),
                Some(cancel) => Outcome::NotCancelled(cancel.why.clone()),
                None => Outcome::Lost(self.record.as_ref().map(|record| record.code)),
            },
        }
    }
}

//! What passes between the machine and the world around it.

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
    /// Not submitted as long as the account has so many jobs, and why.
    Later(String),
    /// Not submitted for trouble that is the scheduler's own.
    Faulty(String),
    /// The command cannot be started on this host, so nothing was submitted.
    Impossible(String),
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
    /// Why it cannot be submitted yet.
    Later(String),
    /// Where it runs.
    Runs(String),
    /// The scheduler has not answered for so long.
    Silence(Duration, String),
}

/// What the site and the handover say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Two looks that find nothing must lie this far apart before a job counts as gone or never submitted.
    pub(crate) absent_for: Duration,
    pub(crate) poll: Duration,
    pub(crate) nfs: Duration,
    pub(crate) grace: Duration,
    /// When GitLab ends the job, on the machine's clock.
    pub(crate) deadline: Option<Duration>,
    /// For jitter.
    pub(crate) seed: u64,
}

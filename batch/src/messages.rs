//! The messages between the machine and the code around it.

use super::record::{Began, Record, Refused};
use std::time::Duration;

/// A command to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Queries the longest time limits, before a submission with a limit that Nunbird chooses.
    Limits,
    Submit,
    /// Queries by id.
    Query,
    /// Queries by tag.
    Find,
    Accounting,
    Detail,
    Signal,
    Cancel,
    Kill,
}

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommandResult {
    /// Submitted, with this id.
    Id(String),
    /// Not submitted, and why.
    Rejected(String),
    /// Not submitted because the account has reached its limit of jobs; the scheduler's message.
    Later(String),
    /// Not submitted because of a fault of the scheduler.
    Faulty(String),
    /// The command cannot be started on this host, so nothing was submitted.
    Impossible(String),
    /// The job, checked to be ours by owner and tag.
    Row(Row),
    /// The scheduler responds and has no such job of ours.
    Absent,
    /// This site does not have the service.
    Disabled,
    /// The command succeeded.
    Done,
    /// No evidence: the command failed or its output cannot be parsed.
    Unclear(String),
}

/// A log line about the job.
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

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    CommandResult(Order, CommandResult),
    Began(Began),
    Recorded(Record),
    Refused(Refused),
    /// The scheduler wrote something into the job's log.
    LogGrew,
    Output(Output),
    /// The runner requests a cancel; true for a repeated request.
    Cancel(bool),
}

/// How much of the output has been passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// All available output has been passed on; with a record: all that the record counts.
    All,
    /// There is more to pass on.
    Flowing,
    /// The record counts more than is visible here.
    Missing,
}

/// A message for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    Submitted(String),
    /// State, reason and expected start of a waiting job.
    Waits(Row),
    /// Why it cannot be submitted yet.
    Later(String),
    /// The nodes that it runs on.
    Runs(String),
    /// The scheduler has not responded for this long.
    Silence(Duration, String),
}

/// Limits from the site's configuration and the handover.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// A job counts as gone, or never submitted, only after two queries this far apart do not find
    /// it.
    pub(crate) absent_for: Duration,
    pub(crate) poll: Duration,
    pub(crate) nfs: Duration,
    pub(crate) grace: Duration,
    /// When GitLab ends the job, on the machine's clock.
    pub(crate) deadline: Option<Duration>,
    /// Seed of the jitter.
    pub(crate) seed: u64,
}

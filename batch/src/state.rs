//! The states of a job that all schedulers have, and its ends.

/// A state of a job that all schedulers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Pending,
    Held,
    Running,
    Suspended,
    Ending,
    /// Another server of the scheduler's has it, into which this one does not see. Never an end.
    Elsewhere,
    Ended(End),
    /// A word that the description does not have. Never an end.
    Unknown,
}

/// How a job ended, in the scheduler's judgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Completed,
    Failed,
    Cancelled,
    TimedOut,
    OutOfMemory,
    NodeFail,
    Preempted,
    /// The scheduler gave the job up before it began: what it asks for cannot be had.
    Infeasible,
}

//! The states of a job that all schedulers have in common, and the ways it ends.

/// A state of a job that all schedulers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Pending,
    Held,
    Running,
    Suspended,
    Ending,
    /// The job is with another server, whose state this one does not see. Never an end.
    Elsewhere,
    Ended(End),
    /// A name that the description does not list. Never an end.
    Unknown,
}

/// How a job ended, according to the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Completed,
    Failed,
    Cancelled,
    TimedOut,
    OutOfMemory,
    NodeFail,
    Preempted,
    /// The scheduler gave up the job before it began: what it asks for is not available.
    Infeasible,
}

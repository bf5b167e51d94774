//! A scheduler as the compliance suite sees it: how to request something, the state of a job, and
//! which faults can be injected.
//!
//! What is not available, or cannot be injected, is an `Err` with the reason, which the suite
//! prints.

use super::bed::Bed;
use nunbird_handover::Scheduler;

/// A value, or why it is not available here.
pub type Possible<T> = Result<T, String>;

/// What a test requests with the user's arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// To wait until [`Fault::Release`].
    Hold,
    /// The shortest time limit that a site has.
    ShortTime,
    /// A partition that does not exist, which the scheduler refuses at once.
    NoSuchQueue,
    /// More than the cluster has.
    TooMuch,
    /// A partition where other jobs have precedence.
    Preemptible,
    /// A memory limit of 50 MiB.
    LittleMemory,
    /// The node that [`Fault::NodeDown`] takes.
    DoomedNode,
    /// An argument that Nunbird sets itself.
    Owned,
    /// One node.
    OneNode,
    /// Three nodes.
    ThreeNodes,
    /// A time limit of two hours.
    TwoHours,
}

/// The state of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// In the queue.
    Waiting,
    /// On a node.
    Running,
    /// Ended, as the scheduler still knows.
    Ended,
    /// Not listed.
    Gone,
}

/// An injected fault. Jobs are identified by the scheduler's ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault<'a> {
    /// A held job may start.
    Release(&'a str),
    /// The scheduler does not respond.
    Down,
    /// It responds again, with all its state.
    Up,
    /// A job's node is lost, with everything that ran there.
    NodeDown(&'a str),
    /// A job of higher priority preempts it.
    Preempt(&'a str),
    /// The scheduler stops the job and is going to start it again.
    Requeue(&'a str),
    /// Another authorized user cancels it.
    CancelByAdmin(&'a str),
    /// The job takes more memory than it asked for.
    OutOfMemory(&'a str),
    /// The queue forgets the job, which continues; its accounting data stays.
    Forget(&'a str),
    /// The same, and the accounting never records it.
    ForgetAll(&'a str),
    /// The same, and the next job gets its id.
    GiveAway(&'a str),
    /// A state that no known release has.
    StrangeWord(&'a str),
    /// States as they are, again.
    PlainWord(&'a str),
    /// Garbage output.
    Nonsense,
    /// The next queries take this many seconds.
    Slow(u32),
    /// Neither.
    Sane,
}

/// A scheduler with accounts and launchers.
pub trait Cluster: Sync {
    /// Its name in the table.
    fn name(&self) -> &str;

    /// Its name in Nunbird's configuration.
    fn scheduler(&self) -> &str;

    /// The same as a setting.
    fn setting(&self) -> Scheduler {
        Scheduler::Named(self.scheduler().to_owned())
    }

    /// Its bed.
    fn bed(&self) -> &Bed;

    /// Whether this fault can be injected; asked before a job is started for it.
    ///
    /// # Errors
    /// Why it cannot.
    fn can(&self, _fault: Fault<'_>) -> Possible<()> {
        Ok(())
    }

    /// Whether the suite has its own query about a job.
    ///
    /// # Errors
    /// Why it has none.
    fn asks(&self) -> Possible<()> {
        Ok(())
    }

    /// Environment of its commands, as a site configures it.
    fn environment(&self) -> Vec<(String, String)>;

    /// Whether each of the launcher's commands is recorded.
    fn counts_calls(&self) -> bool {
        true
    }

    /// Arguments of every job here.
    fn always(&self) -> String {
        String::new()
    }

    /// The user's arguments for a request.
    ///
    /// # Errors
    /// Why this scheduler has no such thing.
    fn want(&self, want: Want) -> Possible<String>;

    /// Whether the scheduler reports this cause of an end: `time limit`, `out of memory`, `node
    /// failure`, `preempted`, `cancelled`. If it does not, a case only requires that there is no
    /// success.
    ///
    /// # Errors
    /// Why it does not.
    fn reports(&self, _cause: &str) -> Possible<()> {
        Ok(())
    }

    /// Whether the queue or its history lists jobs that have ended.
    fn shows_ended(&self) -> bool {
        true
    }

    /// The state of a job.
    fn standing(&self, id: &str) -> JobState;

    /// Injects a fault.
    ///
    /// # Errors
    /// Why it cannot be made to.
    fn inflict(&self, fault: Fault<'_>) -> Possible<()>;
}

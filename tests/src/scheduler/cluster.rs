//! A scheduler as the compliance suite sees it: how to ask for something, what a job is doing, and what can go wrong.
//!
//! What cannot be had, or cannot be made to go wrong on purpose, is an `Err` with the reason, which the suite prints.

use super::bed::Bed;
use nunbird_handover::Scheduler;

/// Something, or why it cannot be had here.
pub type Possible<T> = Result<T, String>;

/// What a test asks for with the user's arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// To wait until [`Fault::Release`].
    Hold,
    /// The shortest time limit that a site has.
    ShortTime,
    /// A place that does not exist, and which the scheduler refuses at once.
    NoSuchQueue,
    /// More than the cluster has.
    TooMuch,
    /// A place where others take precedence.
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

/// What a job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In the queue.
    Waiting,
    /// On a node.
    Running,
    /// Ended, as the scheduler still knows.
    Ended,
    /// Not there.
    Gone,
}

/// What goes wrong, on purpose. Jobs are named by the scheduler's ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault<'a> {
    /// A held job may start.
    Release(&'a str),
    /// The scheduler answers nobody.
    Down,
    /// It answers again, with all that it knew.
    Up,
    /// A job's node is lost, and what ran there.
    NodeDown(&'a str),
    /// A job of higher priority takes the place.
    Preempt(&'a str),
    /// The scheduler stops the job and means to start it again.
    Requeue(&'a str),
    /// Somebody else with the right to do so cancels it.
    CancelByAdmin(&'a str),
    /// The job takes more memory than it asked for.
    OutOfMemory(&'a str),
    /// The queue forgets the job, which goes on; what it leaves in accounting stays.
    Forget(&'a str),
    /// The same, and accounting never hears of it.
    ForgetAll(&'a str),
    /// The same, and the next job gets its id.
    GiveAway(&'a str),
    /// A state that no release known here has.
    StrangeWord(&'a str),
    /// States as they are, again.
    PlainWord(&'a str),
    /// Answers that make no sense.
    Nonsense,
    /// The next questions take this many seconds.
    Slow(u32),
    /// Neither.
    Sane,
}

/// A scheduler with accounts and launchers before it.
pub trait Cluster: Sync {
    /// Its name in the table.
    fn name(&self) -> &str;

    /// Its name in Nunbird's configuration.
    fn scheduler(&self) -> &str;

    /// The same as a setting.
    fn setting(&self) -> Scheduler {
        Scheduler::Named(self.scheduler().to_owned())
    }

    /// Where it lives.
    fn bed(&self) -> &Bed;

    /// Whether this can be made to go wrong, which is asked before a job is started for it.
    ///
    /// # Errors
    /// Why it cannot.
    fn can(&self, _fault: Fault<'_>) -> Possible<()> {
        Ok(())
    }

    /// Whether the suite has a question of its own about a job.
    ///
    /// # Errors
    /// Why it has none.
    fn asks(&self) -> Possible<()> {
        Ok(())
    }

    /// Environment of its commands, as a site configures it.
    fn environment(&self) -> Vec<(String, String)>;

    /// Whether each of the launcher's commands is written down.
    fn counts_calls(&self) -> bool {
        true
    }

    /// Arguments of every job here.
    fn always(&self) -> String {
        String::new()
    }

    /// The user's arguments for something.
    ///
    /// # Errors
    /// Why this scheduler has no such thing.
    fn want(&self, want: Want) -> Possible<String>;

    /// Whether the scheduler knows this cause of an end: `time limit`, `out of memory`, `node failure`, `preempted`,
    /// `cancelled`. Where it does not, a case asks only that there is no success.
    ///
    /// # Errors
    /// Why it does not.
    fn tells(&self, _cause: &str) -> Possible<()> {
        Ok(())
    }

    /// Whether the queue or its history has a word for jobs that have ended.
    fn shows_ended(&self) -> bool {
        true
    }

    /// What a job is doing.
    fn standing(&self, id: &str) -> Standing;

    /// Makes something go wrong.
    ///
    /// # Errors
    /// Why it cannot be made to.
    fn inflict(&self, fault: Fault<'_>) -> Possible<()>;
}

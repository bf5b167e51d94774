//! Fakes of batch schedulers that cannot be installed here: their commands, with a queue in a directory.
//!
//! They are written from transcripts of the real programs (OpenPBS 23.06, Flux 0.88, Son of Grid
//! Engine 8.1.9, HTCondor 23.9, OpenLava 2.2) and, for the output of IBM's LSF and Cobalt, from
//! their manual pages; never from Nunbird's own descriptions, which they check. Each command has
//! the options that a CI job can use, and refuses others as the real one does. They are stateful:
//! `nbt-fake-scheduler DIALECT QUEUE COMMAND ARGUMENTS…` (tests/src/bin) puts a job into the queue
//! as the account that calls it, and a process of that account, the job's [`mom`], runs it,
//! enforces its time limit and handles requests: hold, release, signal, cancel.
//!
//! | file below the queue | what |
//! |---|---|
//! | `next` | the next job's number |
//! | `jobs/N/job` | the job ([`Job`]), JSON, replaced by rename |
//! | `jobs/N/request` | one request per line ([`MomRequest`]); commands append, the mom reads |
//! | `jobs/N/forgotten`, `unrecorded` | when they are there, the queue or the accounting does not know the job |
//! | `jobs/N/word` | a state that replaces the scheduler's own |
//! | `faults/down` | commands cannot reach the scheduler |
//! | `faults/nonsense` | queries are answered with garbage |
//! | `faults/slow` | extra seconds that each command takes |
//! | `openlava` | when it is there, LSF's commands are those of OpenLava 2.2 |
//! | `minute` | length of a minute of a time limit in seconds, to shorten tests |
//!
//! Shorter than in reality: a minute, and the pauses between the signals of a cancel ([`mom`]).

mod classad;
mod cobalt;
mod command;
mod flux;
mod gridengine;
mod htcondor;
mod lsf;
mod mom;
mod options;
mod pbs;
mod queue;
mod times;

pub use command::main;
pub use queue::{Cause, Job, JobState, MomRequest, Queue};

/// Whose commands they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// OpenPBS and PBS Professional.
    Pbs,
    /// IBM Spectrum LSF.
    Lsf,
    /// Flux.
    Flux,
    /// Cobalt.
    Cobalt,
    /// HTCondor.
    HtCondor,
    /// Grid Engine.
    GridEngine,
}

impl Dialect {
    /// All there are.
    pub const ALL: [Dialect; 6] =
        [Dialect::Pbs, Dialect::Lsf, Dialect::Flux, Dialect::Cobalt, Dialect::HtCondor, Dialect::GridEngine];

    /// Its name in Nunbird's configuration.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::Pbs => "pbs",
            Dialect::Lsf => "lsf",
            Dialect::Flux => "flux",
            Dialect::Cobalt => "cobalt",
            Dialect::HtCondor => "htcondor",
            Dialect::GridEngine => "gridengine",
        }
    }

    /// The commands that there are.
    pub fn commands(self) -> &'static [&'static str] {
        match self {
            Dialect::Pbs => &["qsub", "qstat", "qdel", "qsig", "qselect", "qhold", "qrls"],
            Dialect::Lsf => &["bsub", "bjobs", "bkill", "bhist", "bstop", "bresume", "bqueues"],
            Dialect::Flux => &["flux"],
            Dialect::Cobalt => &["qsub", "qstat", "qdel", "qhold", "qrls"],
            Dialect::HtCondor => {
                &["condor_submit", "condor_q", "condor_rm", "condor_history", "condor_hold", "condor_release"]
            }
            Dialect::GridEngine => &["qsub", "qstat", "qdel", "qacct", "qhold", "qrls"],
        }
    }
}

impl Dialect {
    /// The number in an id as the scheduler prints it, or as its questions do.
    pub fn number(self, id: &str) -> Option<u64> {
        match self {
            Dialect::Flux => flux::number(id),
            _ => id.split('.').next()?.parse().ok(),
        }
    }
}

/// What a job is doing, for tests.
pub fn standing_of(queue: &Queue, number: u64) -> crate::scheduler::JobState {
    let job = queue.known().into_iter().find(|job| job.number == number);
    match job.map(|job| job.standing) {
        None => crate::scheduler::JobState::Gone,
        Some(JobState::Waiting) => crate::scheduler::JobState::Waiting,
        Some(JobState::Running | JobState::Leaving) => crate::scheduler::JobState::Running,
        Some(JobState::Ended) => crate::scheduler::JobState::Ended,
    }
}

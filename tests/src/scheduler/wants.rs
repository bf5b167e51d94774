//! How each scheduler's users request things, and which faults are not possible with it. The
//! reasons are printed.

use super::cluster::{Fault, Possible, Want};
use crate::fake::Dialect;

/// The user's arguments.
pub(super) fn want(dialect: Dialect, want: Want) -> Possible<String> {
    let no = |why: &str| Err(why.to_owned());
    let text = match (dialect, want) {
        (_, Want::Preemptible | Want::DoomedNode) => "",
        (Dialect::Pbs, Want::Hold) => "-h",
        (Dialect::Pbs, Want::ShortTime) => "-l walltime=00:01:00",
        (Dialect::Pbs, Want::TwoHours) => "-l walltime=02:00:00",
        (Dialect::Pbs, Want::NoSuchQueue) => "-q nonesuch",
        (Dialect::Pbs, Want::TooMuch) => "-l select=1000:ncpus=1",
        (Dialect::Pbs, Want::LittleMemory) => "-l mem=50mb",
        (Dialect::Pbs, Want::Owned) => "-o mine.txt",
        (Dialect::Pbs, Want::OneNode) => "-l select=1",
        (Dialect::Pbs, Want::ThreeNodes) => "-l select=3",
        (Dialect::Lsf, Want::Hold) => "-H",
        (Dialect::Lsf, Want::ShortTime) => "-W 1",
        (Dialect::Lsf, Want::TwoHours) => "-W 120",
        (Dialect::Lsf, Want::NoSuchQueue) => "-q nonesuch",
        (Dialect::Lsf, Want::TooMuch) => return no("bsub refuses more than there is at once"),
        (Dialect::Lsf, Want::LittleMemory) => "-M 50MB",
        (Dialect::Lsf, Want::Owned) => "-o mine.txt",
        (Dialect::Lsf, Want::OneNode) => "-n 1",
        (Dialect::Lsf, Want::ThreeNodes) => "-nnodes 3",
        (Dialect::Flux, Want::Hold) => "--urgency=hold",
        (Dialect::Flux, Want::ShortTime) => "-t 1m",
        (Dialect::Flux, Want::TwoHours) => "-t 2h",
        (Dialect::Flux, Want::NoSuchQueue) => "-q nonesuch",
        // More than any instance has: Flux accepts the job and fails it at once.
        (Dialect::Flux, Want::TooMuch) => "-N 100000",
        (Dialect::Flux, Want::LittleMemory) => "",
        (Dialect::Flux, Want::Owned) => "--output=mine.txt",
        (Dialect::Flux, Want::OneNode) => "-N 1",
        (Dialect::Flux, Want::ThreeNodes) => "-N 3",
        (Dialect::Cobalt, Want::Hold) => "--held",
        (Dialect::Cobalt, Want::ShortTime) => "-t 1",
        (Dialect::Cobalt, Want::TwoHours) => "-t 120",
        (Dialect::Cobalt, Want::NoSuchQueue) => "-q nonesuch",
        (Dialect::Cobalt, Want::TooMuch) => return no("qsub refuses more than there is at once"),
        (Dialect::Cobalt, Want::LittleMemory) => {
            return no("Cobalt gives whole nodes and has no request for memory");
        }
        (Dialect::Cobalt, Want::Owned) => "-o mine.txt",
        (Dialect::Cobalt, Want::OneNode) => "-n 1",
        (Dialect::Cobalt, Want::ThreeNodes) => "-n 3",
        (Dialect::HtCondor, Want::Hold) => {
            return no("`hold` is Nunbird's; condor_hold comes after the submission");
        }
        (Dialect::HtCondor, Want::ShortTime) => "allowed_execute_duration=60",
        (Dialect::HtCondor, Want::TwoHours) => "allowed_execute_duration=7200",
        (Dialect::HtCondor, Want::NoSuchQueue) => "request_memory='abc def'",
        (Dialect::HtCondor, Want::TooMuch) => {
            return no("HTCondor leaves what can never run idle, and says nothing");
        }
        (Dialect::HtCondor, Want::LittleMemory) => "request_memory=50MB",
        (Dialect::HtCondor, Want::Owned) => "output=mine.txt",
        (Dialect::HtCondor, Want::OneNode) => "machine_count=1",
        (Dialect::HtCondor, Want::ThreeNodes) => "machine_count=3",
        (Dialect::GridEngine, Want::Hold) => "-h",
        (Dialect::GridEngine, Want::ShortTime) => "-l h_rt=60",
        (Dialect::GridEngine, Want::TwoHours) => "-l h_rt=7200",
        (Dialect::GridEngine, Want::NoSuchQueue) => "-q nonesuch.q",
        (Dialect::GridEngine, Want::TooMuch) => return no("with -w e, Grid Engine refuses it at once"),
        (Dialect::GridEngine, Want::LittleMemory) => "-l h_vmem=50M",
        (Dialect::GridEngine, Want::Owned) => "-o mine.txt",
        (Dialect::GridEngine, Want::OneNode) => "-pe mpi 1",
        (Dialect::GridEngine, Want::ThreeNodes) => "-pe mpi 3",
    };
    Ok(text.to_owned())
}

/// Whether a fault exists there.
pub(super) fn can(dialect: Dialect, fault: Fault<'_>) -> Possible<()> {
    let why = match (dialect, fault) {
        (Dialect::Flux, Fault::Requeue(_)) => "Flux never runs a job a second time",
        (Dialect::Cobalt, Fault::Nonsense) => {
            "an answer of qstat that does not name the job and ends with 0 is all that Cobalt says of an ended job"
        }
        (Dialect::Cobalt, Fault::Requeue(_)) => "Cobalt never runs a script job a second time",
        (Dialect::Cobalt, Fault::Preempt(_)) => "Cobalt preempts only jobs that can be continued",
        (Dialect::Cobalt, Fault::OutOfMemory(_)) => "Cobalt has no request for memory",
        (Dialect::GridEngine, Fault::NodeDown(_)) => {
            "Grid Engine says that the job runs until the node is back (reschedule_unknown 0)"
        }
        (Dialect::GridEngine, Fault::Preempt(_)) => "Grid Engine suspends, it does not preempt",
        (Dialect::Lsf, Fault::NodeDown(_)) => "LSF says UNKWN until the host is back",
        _ => return Ok(()),
    };
    Err(why.to_owned())
}

/// Whether the scheduler knows this cause of an end.
pub(super) fn reports(dialect: Dialect, cause: &str) -> Possible<()> {
    let why = match (dialect, cause) {
        (Dialect::Cobalt, _) => "Cobalt keeps an exit code of its job, and no cause",
        (Dialect::Pbs, "preempted") => "PBS signals a preempted job like a deleted one",
        (Dialect::Flux, "out of memory") => "Flux sees that the kernel killed, not why",
        (Dialect::HtCondor, "node failure" | "preempted" | "put back") => {
            "HTCondor puts the job back and does not say why"
        }
        (Dialect::GridEngine, "out of memory") => "Grid Engine has one code for all limits",
        (Dialect::GridEngine, "grace") => {
            "Grid Engine ends a job by KILL alone (queue_conf(5), terminate_method)"
        }
        (Dialect::GridEngine, "cancelled") => "Grid Engine has one code for all that was killed",
        _ => return Ok(()),
    };
    Err(why.to_owned())
}

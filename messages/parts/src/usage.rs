//! What the processes of a job have used together.

use nunbird_wire::layout;

/// As the kernel counts for the job's control group; `None` where it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// The most memory at one time, in bytes, the page cache included.
    pub memory_peak: Option<u64>,
    /// Processor time, in microseconds.
    pub cpu_time: Option<u64>,
    /// Time for which the processor limit held processes back, in microseconds.
    pub throttled: Option<u64>,
    /// The most processes and threads at one time.
    pub pids_peak: Option<u64>,
    /// Bytes read from disks.
    pub read: Option<u64>,
    /// Bytes written to disks.
    pub written: Option<u64>,
    /// Processes that the kernel killed because the memory was used up.
    pub oom_kills: Option<u64>,
    /// Processes that were not started because there were as many as allowed.
    pub forks_refused: Option<u64>,
}

layout!(Usage { memory_peak, cpu_time, throttled, pids_peak, read, written, oom_kills, forks_refused });

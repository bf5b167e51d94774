//! The limits of a job, as its record keeps them for the later stages.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a job may use at most. What is not said is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amounts {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of swap beside the memory.
    pub swap: Option<u64>,
    /// Thousandths of a processor.
    pub cpu: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Share of the disks' time, 1 to 1000; 100 is what everybody has.
    pub io_weight: Option<u64>,
}

/// The amount of a limit of processes that stands for no limit at all (`RLIM_INFINITY`).
pub const UNLIMITED: u64 = u64::MAX;

/// Limits of each process (setrlimit(2)), soft and hard alike but for the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rlimits {
    /// `RLIMIT_NOFILE`: descriptors.
    pub nofile: Option<u64>,
    /// `RLIMIT_NPROC`: processes and threads of the account.
    pub nproc: Option<u64>,
    /// `RLIMIT_FSIZE`: bytes of a file.
    pub fsize: Option<u64>,
    /// `RLIMIT_CORE`: bytes of a core dump.
    pub core: Option<u64>,
    /// `RLIMIT_STACK`, soft: bytes; [`UNLIMITED`] is as much as the hard one.
    pub stack: Option<u64>,
    /// `RLIMIT_STACK`, hard: bytes.
    pub stack_hard: Option<u64>,
    /// `RLIMIT_MEMLOCK`: bytes that are not swapped out.
    pub memlock: Option<u64>,
    /// `RLIMIT_AS`: bytes of address space.
    #[serde(rename = "as")]
    pub address_space: Option<u64>,
    /// `RLIMIT_CPU`: seconds of processor time.
    pub cpu_time: Option<u64>,
}

/// How the job's processes stand against others; what is not said is 0 for the score and the runner's for the nice value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// The nice value, 0 to 19.
    pub nice: Option<u8>,
    /// The out-of-memory killer's score, 0 to 1000.
    pub oom_score_adj: Option<u16>,
}

/// The most that a job may read from and write to one disk. What is not said is not limited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskLimit {
    /// The disk, or a path on it, as the site wrote it.
    pub device: PathBuf,
    /// Bytes a second.
    pub read: Option<u64>,
    /// Bytes a second.
    pub write: Option<u64>,
    /// Operations a second.
    pub read_ops: Option<u64>,
    /// Operations a second.
    pub write_ops: Option<u64>,
}

/// The limits that a job was admitted with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobLimits {
    /// The site's name of them.
    pub name: String,
    /// What was given, the user's requests included.
    pub amounts: Amounts,
    /// Limits of each process.
    pub rlimits: Rlimits,
    /// How its processes stand against others.
    #[serde(default)]
    pub standing: Standing,
    /// Bandwidth and operations of disks.
    #[serde(default)]
    pub disks: Vec<DiskLimit>,
}

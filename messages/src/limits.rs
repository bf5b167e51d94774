//! The limits of a job's processes that setrlimit(2), setpriority(2) and `oom_score_adj` take.

use nunbird_wire::layout;

/// Limits of each process, and how the kernel ranks it. What is `None` is left as the runner has it; the out-of-memory score is then 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProcessLimits {
    /// Descriptors, processes of the account, bytes of a file, bytes of a core dump, soft and hard bytes of the stack, locked bytes, bytes of
    /// address space, seconds of processor time: in the order of `nunbird_sys::rlimits::Bounds`.
    pub rlimits: [Option<u64>; 9],
    /// The nice value, 0 to 19.
    pub nice: Option<u8>,
    /// The out-of-memory killer's score, 0 to 1000.
    pub oom_score_adj: Option<u16>,
}

layout!(ProcessLimits { rlimits, nice, oom_score_adj });

//! What a job may use, and which controllers of which version count it.

/// Which version of control groups a job's group is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The unified hierarchy (version 2).
    Unified,
    /// One hierarchy for each controller (version 1).
    Separate,
}

/// What a job may use at most. What is not said is not limited.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Amounts {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of swap beside the memory.
    pub swap: Option<u64>,
    /// Thousandths of one processor.
    pub cpu: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// The share of the disks' time, 1 to 1000; 100 is what everybody has.
    pub io_weight: Option<u64>,
    /// Bandwidth and operations of disks.
    pub disks: Vec<DiskAmounts>,
}

/// The most that a job may read from and write to one disk. What is not said is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskAmounts {
    /// The disk's major and minor number; the kernel takes no partition.
    pub number: (u32, u32),
    /// Bytes a second.
    pub read: Option<u64>,
    /// Bytes a second.
    pub write: Option<u64>,
    /// Operations a second.
    pub read_ops: Option<u64>,
    /// Operations a second.
    pub write_ops: Option<u64>,
}

impl Amounts {
    /// The kernel's names of the controllers that these limits need.
    pub fn controllers(&self, way: Way) -> Vec<&'static str> {
        let io = if way == Way::Unified { "io" } else { "blkio" };
        let wanted = [
            ("memory", self.memory.is_some() || self.swap.is_some()),
            ("cpu", self.cpu.is_some()),
            ("pids", self.pids.is_some()),
            (io, self.io_weight.is_some() || !self.disks.is_empty()),
        ];
        wanted.into_iter().filter_map(|(name, needed)| needed.then_some(name)).collect()
    }
}

//! What the decider wants a group to be.

use nunbird_wire::layout;
use std::path::PathBuf;

/// The most disks of one order.
pub const MAX_DISKS: usize = 64;

/// A group to be made. What is not said is not limited.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Order {
    /// By which control groups: the key's word.
    pub way: String,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of swap beside the memory.
    pub swap: Option<u64>,
    /// Thousandths of a processor.
    pub cpu: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Share of the disks' time.
    pub io_weight: Option<u64>,
    /// Bandwidth and operations of disks.
    pub disks: Vec<Disk>,
}

/// The most that a job may read from and write to one disk, a second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The disk, or a path on it.
    pub device: PathBuf,
    /// Bytes read and written, operations that read and write.
    pub rates: [Option<u64>; 4],
}

layout!(Order { way, memory, swap, cpu, pids, io_weight, disks });
layout!(Disk { device, rates });

//! What the decider wants a group to be.

use nunbird_wire::{Malformed, Message, Reader, Writer};
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

impl Order {
    fn amounts(&self) -> [Option<u64>; 5] {
        [self.memory, self.swap, self.cpu, self.pids, self.io_weight]
    }
}

impl Message for Order {
    fn write(&self, out: &mut Writer) {
        out.text(&self.way);
        for amount in self.amounts() {
            out.optional(amount, Writer::u64);
        }
        out.list(&self.disks, |out, disk| {
            out.path(&disk.device);
            for rate in disk.rates {
                out.optional(rate, Writer::u64);
            }
        });
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let number = |input: &mut Reader<'_>| input.optional(Reader::u64);
        Ok(Order {
            way: input.text()?,
            memory: number(input)?,
            swap: number(input)?,
            cpu: number(input)?,
            pids: number(input)?,
            io_weight: number(input)?,
            disks: input.list(MAX_DISKS, |input| {
                let device = input.path()?;
                let rates = [number(input)?, number(input)?, number(input)?, number(input)?];
                Ok(Disk { device, rates })
            })?,
        })
    }
}

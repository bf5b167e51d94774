//! What the decider wants a group to be.

use nunbird_wire::layout;
use std::path::PathBuf;

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

#[cfg(test)]
mod tests {
    use super::{Disk, Order};
    use nunbird_wire::Message;

    #[test]
    fn an_order_is_read_as_it_was_written_and_never_in_part() {
        let disk = Disk { device: "/scratch".into(), rates: [Some(1), None, Some(u64::MAX), Some(0)] };
        let (way, disks) = ("v1".to_owned(), vec![disk]);
        let order = Order { way, memory: Some(1 << 30), pids: Some(10), disks, ..Order::default() };
        let bytes = order.to_bytes();
        assert_eq!(Order::from_bytes(&bytes), Ok(order));
        for end in 0..bytes.len() {
            assert!(Order::from_bytes(&bytes[..end]).is_err(), "cut at {end}");
        }
        assert!(Order::from_bytes(&[bytes.as_slice(), b"!"].concat()).is_err());
    }
}

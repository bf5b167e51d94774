//! Which files of a group's say what a job has used.

use super::{Folder, Trouble, Way};
use nix::fcntl::OFlag;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nunbird_gauges::{Count, Reading};
use nunbird_groups::Counter;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// A count, the controller whose group has the file, the file, the word before the number, and the divisor.
type Known = (Count, &'static str, &'static str, &'static str, u32);

const UNIFIED: [Known; 8] = [
    (Count::MemoryPeak, "memory", "memory.peak", "", 1),
    (Count::CpuTime, "cpu", "cpu.stat", "usage_usec", 1),
    (Count::Throttled, "cpu", "cpu.stat", "throttled_usec", 1),
    (Count::PidsPeak, "pids", "pids.peak", "", 1),
    (Count::Read, "io", "io.stat", "rbytes", 1),
    (Count::Written, "io", "io.stat", "wbytes", 1),
    (Count::OomKills, "memory", "memory.events", "oom_kill", 1),
    (Count::ForksRefused, "pids", "pids.events", "max", 1),
];
/// Lines of disks there are `8:0 Read 4096`; times are nanoseconds.
const SEPARATE: [Known; 8] = [
    (Count::MemoryPeak, "memory", "memory.max_usage_in_bytes", "", 1),
    (Count::CpuTime, "cpuacct", "cpuacct.usage", "", 1000),
    (Count::Throttled, "cpu", "cpu.stat", "throttled_time", 1000),
    (Count::PidsPeak, "pids", "pids.peak", "", 1),
    (Count::Read, "blkio", "blkio.throttle.io_service_bytes", "Read", 1),
    (Count::Written, "blkio", "blkio.throttle.io_service_bytes", "Write", 1),
    (Count::OomKills, "memory", "memory.oom_control", "oom_kill", 1),
    (Count::ForksRefused, "pids", "pids.events", "max", 1),
];

/// Counters, open, behind what each of them is.
pub type Gauges = (Vec<(Count, Reading)>, Vec<Counter>);

/// Opens every counter that the kernel has.
pub(super) fn gauges<'f>(way: Way, folder: impl Fn(&str) -> Option<&'f Folder>) -> Gauges {
    let known = if way == Way::Unified { UNIFIED } else { SEPARATE };
    let open = |(count, controller, file, word, divisor): Known| {
        let file = folder(controller)?.file(file, OFlag::O_RDONLY).ok()?;
        Some(((count, Reading::Text(word.to_owned(), divisor)), Counter::new(file).ok()?))
    };
    known.into_iter().filter_map(open).unzip()
}

/// Kills for want of memory from now on, for a group of version 1 whose processes lie in groups below it: these count for themselves alone,
/// and go with their last process. The event is of every group that has come to its limit with them (cgroup-v1/memory.rst, "OOM
/// Control").
pub(super) fn bell(memory: &Folder) -> Result<Counter, Trouble> {
    let name = "memory.oom_control";
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let bell =
        EventFd::from_value_and_flags(0, flags).map_err(|e| memory.trouble(name, "cannot be watched", e))?;
    let events = memory.file(name, OFlag::O_RDONLY)?;
    let order = format!("{} {}", bell.as_fd().as_raw_fd(), events.as_raw_fd());
    memory.write("cgroup.event_control", &order)?;
    let bell = File::from(OwnedFd::from(bell));
    Counter::new(bell).map_err(|e| memory.trouble(name, "cannot be watched", e))
}

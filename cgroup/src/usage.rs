//! What a job used, read from its group.

use super::{Folder, Trouble, Way};
use nix::fcntl::OFlag;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;

/// What the processes of a group have used together. What the kernel does not count is not known.
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

/// The value behind a word: `oom_kill 3`.
pub(super) fn value_of(text: &str, word: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The sum of all `word=number` in the lines of devices.
fn sum_of(text: &str, word: &str) -> u64 {
    let values = text.split_whitespace().filter_map(|part| part.strip_prefix(word)?.strip_prefix('='));
    values.filter_map(|n| n.parse::<u64>().ok()).fold(0, u64::saturating_add)
}

pub(super) fn read<'f>(way: Way, folder: impl Fn(&str) -> Option<&'f Folder>) -> Usage {
    let look = |controller: &str, file: &str| folder(controller).and_then(|folder| folder.look(file));
    let number = |controller: &str, file: &str| look(controller, file)?.parse::<u64>().ok();
    let word = |controller: &str, file: &str, word: &str| value_of(&look(controller, file)?, word);
    match way {
        Way::Unified => {
            let io = look("io", "io.stat");
            Usage {
                memory_peak: number("memory", "memory.peak"),
                cpu_time: word("cpu", "cpu.stat", "usage_usec"),
                throttled: word("cpu", "cpu.stat", "throttled_usec"),
                pids_peak: number("pids", "pids.peak"),
                read: io.as_deref().map(|text| sum_of(text, "rbytes")),
                written: io.as_deref().map(|text| sum_of(text, "wbytes")),
                oom_kills: word("memory", "memory.events", "oom_kill"),
                forks_refused: word("pids", "pids.events", "max"),
            }
        }
        Way::Separate => {
            let io = look("blkio", "blkio.throttle.io_service_bytes");
            // Lines of devices: `8:0 Read 4096`.
            let sum = |text: &str, what: &str| {
                let lines = text.lines().filter_map(|line| line.split_once(' ')?.1.strip_prefix(what));
                lines.filter_map(|n| n.trim().parse::<u64>().ok()).fold(0, u64::saturating_add)
            };
            Usage {
                memory_peak: number("memory", "memory.max_usage_in_bytes"),
                cpu_time: number("cpuacct", "cpuacct.usage").map(|nanoseconds| nanoseconds / 1000),
                throttled: word("cpu", "cpu.stat", "throttled_time").map(|nanoseconds| nanoseconds / 1000),
                pids_peak: number("pids", "pids.peak"),
                read: io.as_deref().map(|text| sum(text, "Read ")),
                written: io.as_deref().map(|text| sum(text, "Write ")),
                oom_kills: word("memory", "memory.oom_control", "oom_kill"),
                forks_refused: word("pids", "pids.events", "max"),
            }
        }
    }
}

/// Counts the kernel's out-of-memory kills by a file that was opened with privilege and is read without.
#[derive(Debug)]
pub enum Gauge {
    /// A counter of the group's, and what it said at first.
    Counter(File, u64),
    /// An event of the group's and of those below it.
    Bell(EventFd),
}

impl Gauge {
    pub(super) fn open(way: Way, memory: &Folder) -> Result<Self, Trouble> {
        let name = if way == Way::Unified { "memory.events" } else { "memory.oom_control" };
        let events = memory.file(name, OFlag::O_RDONLY)?;
        let before = count(&events);
        Ok(Gauge::Counter(events, before))
    }

    /// For a group of version 1 whose processes lie in groups below it: these count for themselves alone, and go with their
    /// last process. The event is of every group that has come to its limit with them (cgroup-v1/memory.rst, "OOM Control").
    pub(super) fn bell(memory: &Folder) -> Result<Self, Trouble> {
        let name = "memory.oom_control";
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let bell = EventFd::from_value_and_flags(0, flags)
            .map_err(|e| memory.trouble(name, "cannot be watched", e))?;
        let events = memory.file(name, OFlag::O_RDONLY)?;
        let order = format!("{} {}", bell.as_fd().as_raw_fd(), events.as_raw_fd());
        memory.write("cgroup.event_control", &order)?;
        Ok(Gauge::Bell(bell))
    }

    /// Processes that the kernel has killed for want of memory since the gauge was opened; asked once.
    pub fn oom_kills(&self) -> u64 {
        match self {
            Gauge::Counter(events, before) => count(events).saturating_sub(*before),
            // It fails as long as nothing has happened.
            Gauge::Bell(bell) => bell.read().unwrap_or(0),
        }
    }
}

fn count(events: &File) -> u64 {
    let mut bytes = [0; 4096];
    let length = events.read_at(&mut bytes, 0).unwrap_or(0);
    let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or(&[])).into_owned();
    value_of(&text, "oom_kill").unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{sum_of, value_of};

    #[test]
    fn counters_are_found_by_their_whole_word() {
        let events = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n";
        assert_eq!(value_of(events, "oom"), Some(3));
        assert_eq!(value_of(events, "oom_kill"), Some(2));
        assert_eq!(value_of(events, "oom_"), None);
        assert_eq!(sum_of("8:0 rbytes=10 wbytes=1\n8:16 rbytes=5 wbytes=x\n", "rbytes"), 15);
        assert_eq!(sum_of("8:0 rbytes=10 wbytes=1\n8:16 rbytes=5 wbytes=x\n", "wbytes"), 1);
    }
}

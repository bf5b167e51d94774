//! What a group's processes have used, read from files of the kernel's that are open.
//!
//! They are opened by `nunbird-limits` and read by it, and by the shepherd, which has no privilege and whose user must not be able to make
//! it wait: a file that is on no control group file system is none of these, but for the event of version 1.

use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, FsType, fstatfs};
use nunbird_parts::Usage;
use nunbird_sys::answer;
use nunbird_wire::choice;
use std::fs::File;
use std::io::{self, PipeReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// More than any of these files has, in bytes, but for disks without number, of which the first count.
const MOST: usize = 16 << 10;

/// Of eventfd(2) and its like: `ANON_INODE_FS_MAGIC` (linux/magic.h).
const ANON_INODE: FsType = FsType(0x0904_1934);

/// One of the numbers of [`Usage`](nunbird_parts::Usage).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields of Usage have them")]
pub enum Count {
    MemoryPeak,
    CpuTime,
    Throttled,
    PidsPeak,
    Read,
    Written,
    OomKills,
    ForksRefused,
}

fn usage(counts: impl Fn(Count) -> Option<u64>) -> Usage {
    Usage {
        memory_peak: counts(Count::MemoryPeak),
        cpu_time: counts(Count::CpuTime),
        throttled: counts(Count::Throttled),
        pids_peak: counts(Count::PidsPeak),
        read: counts(Count::Read),
        written: counts(Count::Written),
        oom_kills: counts(Count::OomKills),
        forks_refused: counts(Count::ForksRefused),
    }
}

/// How the number is read from the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// The sum of all numbers behind this word, or the first number of the file where that is empty, divided by this.
    Text(String, u32),
    /// The counter of an eventfd(2), which is read once.
    Event,
}

/// An open counter.
#[derive(Debug)]
pub struct Gauge {
    count: Count,
    reading: Reading,
    file: File,
}

impl Gauge {
    /// A counter in this file.
    ///
    /// # Errors
    /// As fstatfs(2); `EINVAL` for a file that is neither on a control group file system nor, for an event, one of the kernel's without a name.
    pub fn new(count: Count, reading: Reading, file: File) -> io::Result<Self> {
        let kind = fstatfs(&file)?.filesystem_type();
        let expected: &[FsType] = match reading {
            Reading::Event => &[ANON_INODE],
            Reading::Text(..) => &[CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC],
        };
        if !expected.contains(&kind) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Gauge { count, reading, file })
    }

    /// What is counted, how it is read, and the file.
    pub fn parts(&self) -> ((Count, Reading), &File) {
        ((self.count, self.reading.clone()), &self.file)
    }

    fn look(&self) -> Option<u64> {
        match &self.reading {
            Reading::Text(word, divisor) => {
                let mut bytes = vec![0; MOST];
                let length = self.file.read_at(&mut bytes, 0).ok()?;
                let text = String::from_utf8_lossy(bytes.get(..length)?);
                // Whole lines: the last one may be cut.
                let (text, _) = text.rsplit_once('\n')?;
                number_in(text, word).map(|n| n.checked_div(u64::from(*divisor)).unwrap_or(n))
            }
            Reading::Event => {
                let pipe = PipeReader::from(OwnedFd::from(self.file.try_clone().ok()?));
                let said = answer::what_is_there(pipe, size_of::<u64>()).ok()?;
                said.try_into().ok().map(u64::from_ne_bytes)
            }
        }
    }
}

/// What the gauges say now.
pub fn read(gauges: &[Gauge]) -> Usage {
    usage(|count| gauges.iter().find(|gauge| gauge.count == count)?.look())
}

/// Lines of the kernel's are `word number`, `device word number` and `device word=number`.
fn number_in(text: &str, word: &str) -> Option<u64> {
    if word.is_empty() {
        return text.split_whitespace().next()?.parse().ok();
    }
    let mut parts = text.split(|c: char| c.is_whitespace() || c == '=');
    let mut sum = None;
    while parts.any(|part| part == word) {
        let number = parts.next().and_then(|number| number.parse().ok()).unwrap_or(0);
        sum = Some(sum.map_or(number, |sum: u64| sum.saturating_add(number)));
    }
    sum
}

choice!(Reading { 0 => Text(word, divisor), 1 => Event });
choice!(Count {
    0 => MemoryPeak,
    1 => CpuTime,
    2 => Throttled,
    3 => PidsPeak,
    4 => Read,
    5 => Written,
    6 => OomKills,
    7 => ForksRefused,
});

#[cfg(test)]
mod tests {
    use super::{Count, Gauge, Reading, number_in};
    use std::fs::File;

    #[test]
    fn counters_are_found_by_their_whole_word() {
        let events = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n";
        assert_eq!(number_in(events, "oom"), Some(3));
        assert_eq!(number_in(events, "oom_kill"), Some(2));
        assert_eq!(number_in(events, "oom_"), None);
        assert_eq!(number_in("8:0 rbytes=10 wbytes=1\n8:16 rbytes=5 wbytes=x\n", "rbytes"), Some(15));
        assert_eq!(number_in("8:0 rbytes=10 wbytes=1\n8:16 rbytes=5 wbytes=x\n", "wbytes"), Some(1));
        assert_eq!(number_in("8:0 Read 4096\n8:0 Write 1\n8:0 Total 4097\nTotal 4097\n", "Read"), Some(4096));
        assert_eq!(number_in("4711\n", ""), Some(4711));
        assert_eq!((number_in("max\n", ""), number_in("", ""), number_in("", "x")), (None, None, None));
        assert_eq!(
            number_in(&format!("a {0}\na {0}\n", u64::MAX), "a"),
            Some(u64::MAX),
            "no sum is more than the greatest number"
        );
    }

    #[test]
    fn a_file_that_is_no_control_groups_is_no_gauge() {
        for path in ["/dev/null", "/proc/self/stat", "/etc/passwd"] {
            let file = File::open(path).expect(path);
            let gauge = Gauge::new(Count::CpuTime, Reading::Text(String::new(), 1), file);
            assert!(gauge.is_err(), "{path}");
        }
    }
}

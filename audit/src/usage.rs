//! What a job has used, read from what is in the counters of its control group.

use nunbird_gauges::{Count, Reading};

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

/// What these contents of the files say, in the order of their description.
pub fn usage(files: &[(Count, Reading)], contents: &[Vec<u8>]) -> Usage {
    let of = |wanted: Count| {
        let mut described = files.iter().zip(contents);
        let ((_, reading), content) = described.find(|((count, _), _)| *count == wanted)?;
        number(reading, content)
    };
    Usage {
        memory_peak: of(Count::MemoryPeak),
        cpu_time: of(Count::CpuTime),
        throttled: of(Count::Throttled),
        pids_peak: of(Count::PidsPeak),
        read: of(Count::Read),
        written: of(Count::Written),
        oom_kills: of(Count::OomKills),
        forks_refused: of(Count::ForksRefused),
    }
}

fn number(reading: &Reading, content: &[u8]) -> Option<u64> {
    match reading {
        Reading::Text(word, divisor) => {
            let text = String::from_utf8_lossy(content);
            // Whole lines: the last one may be cut.
            let (text, _) = text.rsplit_once('\n')?;
            number_in(text, word).map(|n| n.checked_div(u64::from(*divisor)).unwrap_or(n))
        }
        Reading::AboveZero(word) => {
            number(&Reading::Text(word.clone(), 1), content).filter(|number| *number > 0)
        }
        Reading::Event => content.try_into().ok().map(u64::from_ne_bytes),
    }
}

/// The numbers behind a word, together, or the first number where there is no word.
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

#[cfg(test)]
mod tests {
    use super::{Count, Reading, Usage, number_in, usage};

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
    fn each_file_is_read_as_it_is_described() {
        let files = vec![
            (Count::CpuTime, Reading::Text(String::new(), 1000)),
            (Count::Read, Reading::Text("rbytes".to_owned(), 1)),
            (Count::OomKills, Reading::Event),
            (Count::PidsPeak, Reading::Text(String::new(), 0)),
        ];
        let contents: [Vec<u8>; 4] =
            [b"4711000\n".into(), b"8:0 rbytes=7\n8:16 rbyt".into(), 3_u64.to_ne_bytes().into(), Vec::new()];
        let expected = Usage { cpu_time: Some(4711), read: Some(7), oom_kills: Some(3), ..Usage::default() };
        assert_eq!(usage(&files, &contents), expected, "a line without an end may be cut");
        assert_eq!(usage(&files, &contents[..2]).oom_kills, None);
        assert_eq!(usage(&files, &[Vec::new(), Vec::new(), vec![1]]), Usage::default());
        let below = vec![(Count::OomKills, Reading::AboveZero("oom_kill".to_owned()))];
        for (text, kills) in [("oom_kill 0\n", None), ("oom_kill 2\n", Some(2))] {
            assert_eq!(usage(&below, &[text.into()]).oom_kills, kills, "{text}");
        }
    }
}

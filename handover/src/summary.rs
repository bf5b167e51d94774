//! What the launcher reports about a stage in the batch scheduler, for the audit event of the stage's end.
//!
//! The launcher runs as the account, so this is the account's word: nothing is decided by it, and
//! what is written from it names its origin. It lies in a file of fixed size behind [`crate::SUMMARY_FD`], one line and zeros, and
//! is read once, after the launcher's end. Every summary has one form; other bytes are none.

use nunbird_messages::SUMMARY_SIZE;
use serde::Serialize;

/// Schedulers' ids are shorter: `123[7].pbs-server.example.org`.
const LONGEST_ID: usize = 96;

/// How the scheduler's job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchEnd {
    /// The script ended with 0, and the scheduler says the same.
    Success,
    /// The script's own failure.
    Failed,
    /// The scheduler did not take the job.
    Rejected,
    /// Taken, and it could never start, or not in time.
    NeverStarted,
    /// Taken, and the scheduler or its node failed to start it.
    NotStarted,
    /// By gitlab-runner's request.
    Cancelled,
    /// By its owner, an administrator or the scheduler.
    CancelledByOthers,
    /// The kernel or the scheduler killed it for its memory.
    OutOfMemory,
    /// Its time limit was reached.
    TimedOut,
    /// The scheduler lost its node.
    NodeFailed,
    /// Its node went to a job of higher priority.
    Preempted,
    /// Ended without a reason.
    Killed,
    /// The scheduler wanted to run it again.
    Requeued,
    /// Nobody knows: records are missing or contradict each other, or the scheduler forgot the job.
    Unknown,
}

const ENDS: [(BatchEnd, &str); 14] = [
    (BatchEnd::Success, "success"),
    (BatchEnd::Failed, "failed"),
    (BatchEnd::Rejected, "rejected"),
    (BatchEnd::NeverStarted, "never_started"),
    (BatchEnd::NotStarted, "not_started"),
    (BatchEnd::Cancelled, "cancelled"),
    (BatchEnd::CancelledByOthers, "cancelled_by_others"),
    (BatchEnd::OutOfMemory, "out_of_memory"),
    (BatchEnd::TimedOut, "timed_out"),
    (BatchEnd::NodeFailed, "node_failed"),
    (BatchEnd::Preempted, "preempted"),
    (BatchEnd::Killed, "killed"),
    (BatchEnd::Requeued, "requeued"),
    (BatchEnd::Unknown, "unknown"),
];

/// A stage in the batch scheduler, in its account's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// How it ended.
    pub end: BatchEnd,
    /// Seconds from the submission to the beginning, by the launcher's and the node's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_s: Option<u32>,
    /// Seconds from the script's beginning to its end, by the node's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ran_s: Option<u32>,
    /// The scheduler's id of the job: printable ASCII without spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler_id: Option<String>,
    /// Processor time of the script and its children, in milliseconds, where the node could measure it.
    #[serde(rename = "used_cpu_ms", skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// The most memory of the scheduler's job at one time, in bytes, where the node could measure it.
    #[serde(rename = "used_memory_peak", skip_serializing_if = "Option::is_none")]
    pub memory_peak: Option<u64>,
}

impl Summary {
    /// The whole file. An id that has no place in it is left out.
    pub fn to_bytes(&self) -> [u8; SUMMARY_SIZE] {
        let word = ENDS.iter().find(|(end, _)| *end == self.end).map_or("unknown", |(_, word)| *word);
        let mut line = format!("nunbird-summary 2 {word}");
        for number in [self.queued_s.map(u64::from), self.ran_s.map(u64::from), self.cpu_ms, self.memory_peak]
        {
            line.push(' ');
            line.push_str(&number.map_or_else(|| "-".to_owned(), |number| number.to_string()));
        }
        line.push(' ');
        line.push_str(self.scheduler_id.as_deref().filter(|id| is_id(id)).unwrap_or("-"));
        line.push('\n');
        let mut bytes = [0; SUMMARY_SIZE];
        for (to, from) in bytes.iter_mut().zip(line.bytes()) {
            *to = from;
        }
        bytes
    }

    /// None for anything but what [`Summary::to_bytes`] makes.
    pub fn parse(bytes: &[u8; SUMMARY_SIZE]) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let line = std::str::from_utf8(&bytes[..end]).ok()?;
        let mut words = line.strip_prefix("nunbird-summary 2 ")?.split(' ');
        let word = words.next()?;
        let end = ENDS.iter().find(|(_, known)| *known == word)?.0;
        let (queued_s, ran_s) = (number(words.next()?)?, number(words.next()?)?);
        let (cpu_ms, memory_peak) = (number(words.next()?)?, number(words.next()?)?);
        let scheduler_id = Some(words.next()?).filter(|id| *id != "-").map(str::to_owned);
        let summary = Summary { end, queued_s, ran_s, scheduler_id, cpu_ms, memory_peak };
        (summary.to_bytes() == *bytes).then_some(summary)
    }
}

/// A number, or `-` for none.
fn number<T: std::str::FromStr>(word: &str) -> Option<Option<T>> {
    if word == "-" { Some(None) } else { word.parse().ok().map(Some) }
}

fn is_id(id: &str) -> bool {
    (1..=LONGEST_ID).contains(&id.len()) && id != "-" && id.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::{BatchEnd, ENDS, SUMMARY_SIZE, Summary};

    fn summary() -> Summary {
        Summary {
            end: BatchEnd::TimedOut,
            queued_s: Some(12),
            ran_s: None,
            scheduler_id: Some("123[7].pbs".to_owned()),
            cpu_ms: Some(2500),
            memory_peak: None,
        }
    }

    #[test]
    fn every_summary_comes_back_as_it_went() {
        for (end, word) in ENDS {
            for (queued_s, ran_s, most) in
                [(None, Some(0), None), (Some(u32::MAX), Some(u32::MAX), Some(u64::MAX))]
            {
                for id in [None, Some("8".to_owned()), Some("x".repeat(96))] {
                    let (cpu_ms, memory_peak) = (most, most);
                    let summary = Summary { end, queued_s, ran_s, scheduler_id: id, cpu_ms, memory_peak };
                    assert_eq!(Summary::parse(&summary.to_bytes()).as_ref(), Some(&summary));
                }
            }
            assert_eq!(serde_json::to_value(end).expect("a word"), word);
        }
    }

    #[test]
    fn an_id_that_could_be_something_else_is_left_out() {
        for id in ["", "-", "a b", "a\n", "ƒ1", "\u{1b}[31m", &"x".repeat(97)] {
            let summary = Summary { scheduler_id: Some(id.to_owned()), ..summary() };
            let parsed = Summary::parse(&summary.to_bytes()).expect("a summary");
            assert_eq!(parsed, Summary { scheduler_id: None, ..summary });
        }
    }

    #[test]
    fn one_other_byte_anywhere_makes_another_summary_or_none() {
        let bytes = summary().to_bytes();
        assert!(Summary::parse(&[0; SUMMARY_SIZE]).is_none(), "a launcher that reported nothing");
        for at in 0..SUMMARY_SIZE {
            for byte in 0..=255 {
                let mut changed = bytes;
                changed[at] = byte;
                if let Some(parsed) = Summary::parse(&changed) {
                    assert_eq!(parsed.to_bytes(), changed);
                    let id = parsed.scheduler_id.unwrap_or_default();
                    assert!(id.bytes().all(|byte| byte.is_ascii_graphic()), "{id:?}");
                }
            }
        }
    }
}

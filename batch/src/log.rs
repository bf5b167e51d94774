//! What the user reads in the job log while the stage waits and when it has ended.
//!
//! The queue's part is a GitLab section, which folds (GitLab's documentation, "custom collapsible
//! sections"). Lines are written when something changes, and rarely otherwise.

use super::follow::Tail;
use super::messages::{Notice, Row};
use super::record::{Began, Record};
use super::words::lines;
use nunbird_handover::Untrusted;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The shortest interval between two lines about a queue whose reasons change all the time.
const SELDOM: Duration = Duration::from_secs(20);

/// The log of one stage.
#[derive(Debug)]
pub(crate) struct Log {
    title: String,
    tag: String,
    open: bool,
    last: Option<Instant>,
    held_back: bool,
}

impl Log {
    pub(crate) fn new(title: &str, tag: &str) -> Self {
        Log { title: title.to_owned(), tag: tag.to_owned(), open: false, last: None, held_back: false }
    }

    pub(crate) fn remark(&self, tail: &mut Tail<'_>, text: &str) {
        tail.add_text(&format!("nunbird: {text}\n"));
    }

    pub(crate) fn notice(&mut self, tail: &mut Tail<'_>, notice: &Notice, id: Option<&str>) {
        let title = self.title.clone();
        match notice {
            Notice::Submitted(id) => {
                self.open = true;
                tail.add_text(&format!("\x1b[0Ksection_start:{}:nunbird_queue\r\x1b[0K", epoch()));
                self.remark(tail, &format!("{title} job {} ({})", Untrusted(id), Untrusted(&self.tag)));
            }
            Notice::Waits(row) => {
                // The first line always, then no more than a few a minute.
                if self.last.is_some_and(|at| at.elapsed() < SELDOM) && self.held_back {
                    return;
                }
                self.held_back = self.last.is_some();
                self.last = Some(Instant::now());
                self.remark(tail, &format!("{title} job {}: {}", Untrusted(id.unwrap_or("?")), waits(row)));
            }
            Notice::Later(text) => self.remark(
                tail,
                &format!(
                    "waiting to submit: {title} accepts no more of your jobs for now ({}); trying \
                     again until the CI job's time is up",
                    lines(text)
                ),
            ),
            Notice::Runs(node) => {
                self.close(tail);
                let on = if node.is_empty() { String::new() } else { format!(" on {}", Untrusted(node)) };
                self.remark(tail, &format!("{title} job {} runs{on}", Untrusted(id.unwrap_or("?"))));
            }
            Notice::Silence(time, text) => self.remark(
                tail,
                &format!(
                    "{title} has not responded for {} s, trying again; its last output: {}",
                    time.as_secs(),
                    lines(text)
                ),
            ),
        }
    }

    /// Ends the section of the queue.
    pub(crate) fn close(&mut self, tail: &mut Tail<'_>) {
        if std::mem::take(&mut self.open) {
            tail.add_text(&format!("\x1b[0Ksection_end:{}:nunbird_queue\r\x1b[0K\n", epoch()));
        }
    }
}

/// A line about the time limit that Nunbird set.
pub(crate) fn time_limit(seconds: u64, of_partition: bool) -> String {
    let of = if of_partition {
        "the most that the partition allows"
    } else {
        "the rest of the CI job's time, or the most that this site allows"
    };
    format!("time limit {} ({of}); set your own in the scheduler arguments", super::amounts::time(seconds))
}

/// The last line: how long the job waited and ran, and what it used.
pub(crate) fn summary(
    title: &str,
    id: Option<&str>,
    submitted: u64,
    began: Option<&Began>,
    record: Option<&Record>,
) -> Option<String> {
    let id = Untrusted(id?);
    let Some(began) = began else { return Some(format!("{title} job {id} did not begin")) };
    // The node's clock and ours may differ.
    let queued = duration(began.time.saturating_sub(submitted));
    let Some(record) = record else {
        return Some(format!("{title} job {id}: waited {queued}, ran on {}", Untrusted(&began.host)));
    };
    let ran = duration(record.end.saturating_sub(record.start));
    let hosts = if record.hosts.is_empty() { &record.host } else { &record.hosts };
    let mut text = format!("{title} job {id}: waited {queued}, ran {ran} on {}", Untrusted(hosts));
    if let Some(cpu) = record.cpu {
        text.push_str(&format!(", CPU time {}.{} s", cpu / 1000, cpu % 1000 / 100));
    }
    if let Some(memory) = record.memory {
        text.push_str(&format!(", peak memory {} MiB", memory.div_ceil(1 << 20)));
    }
    Some(format!("{text}, exit code {}", record.code))
}

fn waits(row: &Row) -> String {
    let mut text = format!("waits ({}", Untrusted(&row.state.to_lowercase()));
    if !matches!(row.reason.as_str(), "" | "None") {
        text.push_str(&format!(", {}", Untrusted(&row.reason)));
    }
    text.push(')');
    if !matches!(row.start.as_str(), "" | "N/A" | "Unknown") {
        text.push_str(&format!(", expected start {}", Untrusted(&row.start)));
    }
    text
}

fn duration(seconds: u64) -> String {
    match (seconds / 3600, seconds % 3600 / 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

/// Seconds since the epoch.
pub(crate) fn epoch() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

//! The digest of a file that a job names as its image, from sha256sum(1): read in a bounded time, from an open file, and noted, so that
//! a large one is read once.

use crate::call::wait;
use crate::copies::is_older;
use crate::names::is_digest;
use nunbird_stage::signals::Signals;
use nunbird_stage::small_files;
use nunbird_stage::words::lines;
use nunbird_unprivileged::job_command;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The longest of these files, and the most that is read of what sha256sum(1) says, in bytes.
const LONGEST: u64 = 1 << 10;
/// What stands in the place of a digest where a file was too large to be read in time.
pub(crate) const LATE: &str = "late";
/// How long that counts, so that not each job waits for it.
const LATE_KEPT: Duration = Duration::from_secs(24 * 3600);
/// The longest time for the digest of a file, which is only for the log; and its largest part of `pull_timeout`.
const READING: Duration = Duration::from_secs(120);
const PART: u64 = 4;
/// How long a killed process may take to go: one that waits for a network file system may take for ever.
const DYING: Duration = Duration::from_secs(5);

/// What an earlier job has noted of a file in this state.
pub(crate) fn known(kept: &Path, state: &str) -> Option<Result<String, String>> {
    let text = String::from_utf8(small_files::beginning(kept, LONGEST).ok()?).ok()?;
    let known = text.strip_prefix(state)?.trim();
    if known == LATE && !is_older(kept, LATE_KEPT) {
        return Some(Err("reading it took too long for a job that has tried since yesterday".to_owned()));
    }
    is_digest(known).then(|| Ok(known.to_owned()))
}

pub(crate) fn reading_time(pull_timeout: u64) -> Duration {
    READING.min(Duration::from_secs(pull_timeout / PART))
}

pub(crate) fn late(time: Duration) -> String {
    format!("reading it took more than {} s", time.as_secs())
}

/// How the reading of a file has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sum {
    Said(String),
    Failed(String),
    Late,
    Cancelled,
}

/// Has sha256sum(1) read an open file; a program without a slash is looked for in `path`.
pub(crate) fn sum(file: &File, path: &str, time: Duration, signals: Option<&Signals>) -> io::Result<Sum> {
    let mut command = Command::new("sha256sum");
    command.env_clear().env("PATH", path).env("LC_ALL", "C");
    command.stdin(file.try_clone()?).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = job_command::spawn(command, &[])?;
    let mut deadline = Instant::now() + time;
    let mut ended = None;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let stop = if left.is_zero() {
            Sum::Late
        } else {
            wait(signals, left)?;
            match signals {
                Some(signals) if signals.request()?.is_some() => Sum::Cancelled,
                _ => continue,
            }
        };
        if let Some(ended) = ended {
            return Ok(ended);
        }
        child.kill()?;
        deadline = Instant::now() + DYING;
        ended = Some(stop);
    };
    if let Some(ended) = ended {
        return Ok(ended);
    }
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().map(|pipe| pipe.take(LONGEST).read_to_string(&mut out)).transpose()?;
    child.stderr.take().map(|pipe| pipe.take(LONGEST).read_to_string(&mut err)).transpose()?;
    let digest = format!("sha256:{}", out.split(' ').next().unwrap_or_default());
    Ok(match status.success() && is_digest(&digest) {
        true => Sum::Said(digest),
        false => Sum::Failed(lines(&format!("{err}\n{out}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::{LATE, LATE_KEPT, READING, Sum, known, reading_time, sum};
    use std::fs::{self, File, FileTimes};
    use std::time::{Duration, Instant, SystemTime};

    #[test]
    fn reading_a_huge_file_has_an_end_well_before_the_pull_and_is_remembered() {
        assert_eq!(reading_time(1800), READING);
        assert_eq!(reading_time(40), Duration::from_secs(10));
        let scratch = tempfile::tempdir().expect("a directory");
        let huge = File::create(scratch.path().join("huge.sif")).expect("a file");
        huge.set_len(1 << 42).expect("a size");
        let huge = File::open(scratch.path().join("huge.sif")).expect("a file");
        let begin = Instant::now();
        let said = sum(&huge, crate::outer::PATH, Duration::from_millis(100), None);
        assert_eq!(said.expect("sha256sum"), Sum::Late);
        assert!(begin.elapsed() < Duration::from_secs(30));
        // The next job does not try again, until the file or the day is another one.
        let kept = scratch.path().join("kept");
        fs::write(&kept, format!("file 1 2 3.4 5.6 {LATE}\n")).expect("a note");
        assert!(known(&kept, "file 1 2 3.4 5.6").expect("known").unwrap_err().contains("too long"));
        assert_eq!(known(&kept, "file 1 2 3.4 5.7"), None);
        let old = FileTimes::new().set_modified(SystemTime::now() - 2 * LATE_KEPT);
        File::options().write(true).open(&kept).and_then(|file| file.set_times(old)).expect("times");
        assert_eq!(known(&kept, "file 1 2 3.4 5.6"), None);
        let digest = format!("sha256:{}", "0a".repeat(32));
        fs::write(&kept, format!("file 1 2 3.4 5.6 {digest}\n")).expect("a note");
        assert_eq!(known(&kept, "file 1 2 3.4 5.6"), Some(Ok(digest)));
    }
}

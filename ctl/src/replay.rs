//! The audit file, line by line. It can be larger than memory.

use crate::output::Trouble;
use flate2::read::MultiGzDecoder;
use nunbird_handover::Untrusted;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// Calls `each` with every event and its line number, in order. Gives the numbers of the lines that are no events.
pub(crate) fn events(
    file: &Path,
    mut each: impl FnMut(usize, Map<String, Value>) -> Result<(), Trouble>,
) -> Result<Vec<usize>, Trouble> {
    let failed = |e: std::io::Error| Trouble::new(format!("{}: {e}", file.display()));
    let opened = File::open(file).map_err(failed)?;
    let mut reader: Box<dyn BufRead> = match file.extension().is_some_and(|extension| extension == "gz") {
        true => Box::new(BufReader::new(MultiGzDecoder::new(opened))),
        false => Box::new(BufReader::new(opened)),
    };
    let (mut unread, mut number) = (Vec::new(), 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(failed)? == 0 {
            return Ok(unread);
        }
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice::<Value>(&line) {
            Ok(Value::Object(event)) => each(number, event)?,
            // A write that a full disk cut short leaves half a line.
            _ => unread.push(number),
        }
    }
}

/// What to say of lines that could not be read.
pub(crate) fn unread_note(file: &Path, unread: &[usize]) -> String {
    if unread.is_empty() {
        return String::new();
    }
    let mut numbers: Vec<String> = unread.iter().take(10).map(ToString::to_string).collect();
    if unread.len() > 10 {
        numbers.push("…".to_owned());
    }
    let file = file.to_string_lossy();
    format!("{}: {} lines are no events: {}\n", Untrusted(&file), unread.len(), numbers.join(", "))
}

/// The file with those that logrotate(8) has made of it (`audit.jsonl-20261101.gz`, `audit.jsonl.1`), the oldest first. Left out are
/// those that were last written before `since`, in seconds since the epoch.
pub(crate) fn with_rotated(file: &Path, since: Option<u64>) -> Vec<PathBuf> {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or("");
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let rotated = |path: &PathBuf| {
        let found =
            path.file_name().and_then(|found| found.to_str()).and_then(|found| found.strip_prefix(name));
        found.is_some_and(|rest| {
            let rest = rest.strip_suffix(".gz").unwrap_or(rest);
            rest.strip_prefix(['-', '.'])
                .is_some_and(|date| !date.is_empty() && date.bytes().all(|b| b.is_ascii_digit() || b == b'-'))
        })
    };
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut all: Vec<(u64, PathBuf)> = entries
        .filter(rotated)
        .filter_map(|path| {
            let written = path.metadata().and_then(|meta| meta.modified()).ok()?;
            Some((written.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs(), path))
        })
        .filter(|(written, _)| since.is_none_or(|since| *written >= since))
        .collect();
    all.sort();
    all.into_iter().map(|(_, path)| path).chain([file.to_path_buf()]).collect()
}

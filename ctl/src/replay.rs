//! Reads the audit file line by line. It can be larger than memory.

use crate::audit_files;
use crate::output::CtlError;
use nunbird_handover::Untrusted;
use serde_json::{Map, Value};
use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// In bytes; `nunbird-auth` writes 32 KiB at most.
const LONGEST_LINE: u64 = 1 << 20;

/// Calls `each` with every event and its line number, in order. Returns the numbers of the lines
/// that are not events.
pub(crate) fn events(
    file: &Path,
    mut each: impl FnMut(usize, Map<String, Value>) -> Result<(), CtlError>,
) -> Result<Vec<usize>, CtlError> {
    let failed = |e: std::io::Error| CtlError::new(format!("{}: {e}", file.display()));
    let mut reader = audit_files::open(file)?;
    let (mut unread, mut number) = (Vec::new(), 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(failed)? == 0 {
            return Ok(unread);
        }
        number += 1;
        // No event is this long; a longer line must not fill the memory.
        if line.len() as u64 == LONGEST_LINE && line.last() != Some(&b'\n') {
            unread.push(number);
            reader.skip_until(b'\n').map_err(failed)?;
            continue;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice::<Value>(&line) {
            Ok(Value::Object(event)) => each(number, event)?,
            // A write that failed on a full disk leaves a partial line.
            _ => unread.push(number),
        }
    }
}

/// The message about lines that could not be parsed.
pub(crate) fn unread_note(file: &Path, unread: &[usize]) -> String {
    if unread.is_empty() {
        return String::new();
    }
    let mut numbers: Vec<String> = unread.iter().take(10).map(ToString::to_string).collect();
    if unread.len() > 10 {
        numbers.push("…".to_owned());
    }
    let file = file.to_string_lossy();
    format!("{}: {} lines are not events: {}\n", Untrusted(&file), unread.len(), numbers.join(", "))
}

/// The file with its rotated files, the oldest first, without those that were last written before
/// `since`, in seconds since the epoch.
///
/// # Errors
/// If the directory cannot be listed.
pub(crate) fn with_rotated(file: &Path, since: Option<u64>) -> Result<Vec<PathBuf>, CtlError> {
    let recent = |path: &PathBuf| {
        let changed = path.metadata().and_then(|meta| meta.modified());
        let seconds =
            |time: std::time::SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        // A file that cannot be inspected is opened, which reports why.
        path == file || changed.map_or(true, |time| since.is_none_or(|since| seconds(time) >= since))
    };
    let mut files = audit_files::find(file)?.files;
    files.retain(recent);
    Ok(files)
}

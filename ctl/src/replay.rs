//! The audit file, line by line. It can be larger than memory.

use crate::output::Trouble;
use nunbird_handover::Untrusted;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// In bytes; `nunbird-auth` writes 32 KiB at most.
const LONGEST_LINE: u64 = 1 << 20;

/// Calls `each` with every event and its line number, in order. Gives the numbers of the lines that are no events.
pub(crate) fn events(
    file: &Path,
    mut each: impl FnMut(usize, Map<String, Value>) -> Result<(), Trouble>,
) -> Result<Vec<usize>, Trouble> {
    let failed = |e: std::io::Error| Trouble::new(format!("{}: {e}", file.display()));
    let mut reader = BufReader::new(File::open(file).map_err(failed)?);
    let (mut unread, mut number) = (Vec::new(), 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(failed)? == 0 {
            return Ok(unread);
        }
        number += 1;
        // An event is never so long: what is, must not fill the memory.
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

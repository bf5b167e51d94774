//! How far the audit file was read, and the file that remembers it.

use super::counts::Counts;
use crate::audit_files;
use crate::event::Event;
use crate::output::CtlError;
use crate::replace::put;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// In bytes; `nunbird-auth` writes 32 KiB at most.
const LONGEST_LINE: u64 = 1 << 20;
/// How much of a file's beginning is compared, in bytes: more than a decision's id.
const HEAD: usize = 256;

/// What the state file has.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    pub(super) counts: Counts,
    pub(super) position: Position,
    /// The audit file of the last run.
    #[serde(default)]
    pub(super) audit_file: Option<PathBuf>,
}

/// The audit file that was read last, and how far. Before the first run, none.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Position {
    device: u64,
    inode: u64,
    /// Bytes: a line that is not whole yet is read by a later run.
    offset: u64,
    /// Its first bytes: a file system gives the inode of a removed file to another one.
    head: Vec<u8>,
}

/// What came of a run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// The file that was read last is gone, or was truncated: what was in its rest is not counted.
    pub(super) has_gap: bool,
}

impl State {
    /// # Errors
    /// If the file is there and cannot be read, or is none of this version's: its counters would begin anew.
    pub(super) fn read(path: &Path) -> Result<Self, CtlError> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(CtlError::new(format!("{}: {e}", path.display()))),
        };
        serde_json::from_slice(&text).map_err(|e| {
            let shown = path.display();
            CtlError::new(format!(
                "{shown}: not the state of nunbirdctl metrics: {e}; remove it to begin at 0"
            ))
        })
    }

    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        put(path, serde_json::to_string(self)?.as_bytes(), 0o600)
    }
}

impl Position {
    /// Calls `each` with every event since the last run, or with none for a line that is no event.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(super) fn advance(
        &mut self,
        file: &Path,
        mut each: impl FnMut(Option<&Event>),
    ) -> Result<Progress, CtlError> {
        let failed = |path: &Path, e: &io::Error| CtlError::new(format!("{}: {e}", path.display()));
        let mut has_gap = false;
        let opened = File::open(file).map_err(|e| failed(file, &e))?;
        let meta = opened.metadata().map_err(|e| failed(file, &e))?;
        let now = Position { device: meta.dev(), inode: meta.ino(), offset: 0, head: Vec::new() };
        if *self != Position::default() && !self.is_same_file(&now) {
            has_gap = !self.rest(file, &mut each)?;
            *self = now;
        } else if *self == Position::default() {
            *self = now;
        } else if meta.len() < self.offset || head(&opened, self.head.len())? != self.head {
            // `copytruncate` of logrotate(8), whose copy has another inode, or another file with this one's inode.
            (has_gap, self.offset) = (true, 0);
        }
        let mut reader = BufReader::new(&opened);
        reader.seek(SeekFrom::Start(self.offset)).map_err(|e| failed(file, &e))?;
        self.offset += lines(&mut reader, &mut each).map_err(|e| failed(file, &e))?;
        let known = usize::try_from(self.offset).unwrap_or(HEAD).min(HEAD);
        self.head = head(&opened, known)?;
        Ok(Progress { has_gap })
    }

    fn is_same_file(&self, other: &Position) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Reads what the file that was read last has behind the offset, and every file that was rotated after it. False where it is gone.
    fn rest(&self, file: &Path, each: &mut impl FnMut(Option<&Event>)) -> Result<bool, CtlError> {
        let failed = |path: &Path, e: &io::Error| CtlError::new(format!("{}: {e}", path.display()));
        let mut rotated = audit_files::find(file)?.files;
        rotated.pop();
        let is_last = |path: &std::path::PathBuf| {
            path.metadata().is_ok_and(|meta| (meta.dev(), meta.ino()) == (self.device, self.inode))
        };
        let Some(index) = rotated.iter().position(is_last) else { return Ok(false) };
        for (number, path) in rotated.iter().enumerate().skip(index) {
            if number == index {
                let mut reader = BufReader::new(File::open(path).map_err(|e| failed(path, &e))?);
                reader.seek(SeekFrom::Start(self.offset)).map_err(|e| failed(path, &e))?;
                lines(&mut reader, each).map_err(|e| failed(path, &e))?;
            } else {
                lines(&mut audit_files::open(path)?, each).map_err(|e| failed(path, &e))?;
            }
        }
        Ok(true)
    }
}

/// The first bytes of a file, as many as there are.
fn head(file: &File, count: usize) -> Result<Vec<u8>, CtlError> {
    let mut bytes = vec![0; count];
    let read = file.read_at(&mut bytes, 0).map_err(CtlError::new)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Reads whole lines; returns their bytes.
fn lines(reader: &mut impl BufRead, each: &mut impl FnMut(Option<&Event>)) -> io::Result<u64> {
    let (mut read, mut line) = (0, Vec::new());
    loop {
        line.clear();
        let mut count = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? as u64;
        if count == LONGEST_LINE && line.last() != Some(&b'\n') {
            count += reader.skip_until(b'\n')? as u64;
            each(None);
        } else if line.last() != Some(&b'\n') {
            return Ok(read);
        } else if !line.trim_ascii().is_empty() {
            match serde_json::from_slice::<Value>(&line) {
                Ok(Value::Object(event)) => each(Some(&event)),
                _ => each(None),
            }
        }
        read += count;
    }
}

#[cfg(test)]
mod tests {
    use super::{Position, State};
    use std::fs;
    use std::io::Write;
    use std::path::Path;

    /// Events and other lines of a run, and whether there was a gap.
    fn advance(position: &mut Position, file: &Path) -> (Vec<u64>, usize, bool) {
        let (mut events, mut others) = (Vec::new(), 0);
        let progress = position.advance(file, |event| match event {
            Some(event) => events.push(event["n"].as_u64().expect("a number")),
            None => others += 1,
        });
        (events, others, progress.expect("readable").has_gap)
    }

    fn append(file: &Path, text: &str) {
        let mut open = fs::OpenOptions::new().append(true).create(true).open(file).expect("a file");
        open.write_all(text.as_bytes()).expect("written");
    }

    #[test]
    fn each_line_is_read_once_and_half_a_line_when_it_is_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("audit.jsonl");
        let mut position = Position::default();
        append(&file, "{\"n\":1}\nrubbish\n{\"n\":");
        assert_eq!(advance(&mut position, &file), (vec![1], 1, false));
        assert_eq!(advance(&mut position, &file), (vec![], 0, false));
        append(&file, "2}\n\n");
        assert_eq!(advance(&mut position, &file), (vec![2], 0, false));
        append(&file, &format!("{}\n{{\"n\":3}}\n", "x".repeat(3 << 20)));
        assert_eq!(advance(&mut position, &file), (vec![3], 1, false));
    }

    #[test]
    fn rotated_files_are_read_to_their_end_and_one_that_is_gone_is_a_gap() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let file = at("audit.jsonl");
        let mut position = Position::default();
        append(&file, "{\"n\":1}\n");
        assert_eq!(advance(&mut position, &file).0, [1]);
        append(&file, "{\"n\":2}\n");
        fs::rename(&file, at("audit.jsonl.2")).expect("rotated");
        append(&at("audit.jsonl.1"), "{\"n\":3}\n");
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
        fs::File::options()
            .append(true)
            .open(at("audit.jsonl.1"))
            .expect("a file")
            .set_modified(later)
            .expect("a time");
        append(&file, "{\"n\":4}\n");
        assert_eq!(advance(&mut position, &file), (vec![2, 3, 4], 0, false));
        fs::remove_file(&file).expect("removed");
        // A file system may give the inode again.
        append(&at("other"), "");
        append(&file, "{\"n\":5}\n");
        let (events, _, has_gap) = advance(&mut position, &file);
        assert!(events == [5] && has_gap, "{events:?}");
        fs::write(&file, "").expect("truncated");
        assert_eq!(advance(&mut position, &file), (vec![], 0, true));
        append(&file, "{\"n\":6}\n");
        assert_eq!(advance(&mut position, &file), (vec![6], 0, false));
        // Another file with its inode, which is not shorter.
        fs::write(&file, "{\"n\":7}\n{\"n\":8}\n").expect("another file");
        assert_eq!(advance(&mut position, &file), (vec![7, 8], 0, true));
    }

    #[test]
    fn a_state_is_read_back_and_another_file_is_not_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state");
        let mut state = State::read(&path).expect("none is one");
        state.position = Position { device: 1, inode: 2, offset: 3, head: b"{".to_vec() };
        state.write(&path).expect("written");
        assert_eq!(State::read(&path).expect("a state").position, state.position);
        fs::write(&path, "{}").expect("a file");
        assert!(State::read(&path).is_err());
    }
}

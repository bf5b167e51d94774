//! Passes the job's output from files on to the runner: every byte once, in order, as soon as it is
//! available.
//!
//! The files may grow on another host, so only reading shows their length; inotify(7) is just a
//! hint when to read. The number of bytes passed on is kept in a file beside them, for a launcher
//! that continues after this one.

use super::messages::Output;
use nix::errno::Errno;
use nix::libc;
use nunbird_stage::Loss;
use nunbird_stage::outlet::Outlet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const CHUNK: usize = 128 * 1024;
/// What a job prints now and then, for which no larger memory is kept.
const LITTLE: usize = 4096;

/// How many bytes of both streams were passed on.
#[derive(Debug)]
pub(crate) struct Passed(File);

impl Passed {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.custom_flags(libc::O_NOFOLLOW).open(path).map(Passed)
    }

    /// Zero for a stream of which nothing was passed on.
    pub(crate) fn get(&self, stream: u64) -> io::Result<u64> {
        let mut bytes = [0; 8];
        match self.0.read_exact_at(&mut bytes, stream * 8) {
            Err(e) if e.kind() != io::ErrorKind::UnexpectedEof => Err(e),
            _ => Ok(u64::from_le_bytes(bytes)),
        }
    }

    fn set(&self, stream: u64, bytes: u64) -> io::Result<()> {
        self.0.write_all_at(&bytes.to_le_bytes(), stream * 8)
    }
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Tail<'fd> {
    path: PathBuf,
    number: u64,
    sink: Outlet<'fd>,
    file: Option<File>,
    /// Bytes read from the file.
    read: u64,
    /// Bytes of the file that were passed on or lost.
    passed: u64,
    pending: Vec<u8>,
    written: usize,
    /// Whether `pending` holds our own text and not the file's.
    own: bool,
    /// Our own lines that wait until the file's bytes are written.
    lines: Vec<u8>,
    /// Whether they have already waited for the end of a line.
    put_off: bool,
    in_line: bool,
    at_end: bool,
    loss: Option<Loss>,
}

impl<'fd> Tail<'fd> {
    /// Follows the file from where the previous launcher stopped.
    pub(crate) fn new(path: PathBuf, number: u64, sink: BorrowedFd<'fd>, passed: u64) -> Self {
        Tail {
            path,
            number,
            sink: Outlet::new(sink),
            file: None,
            read: passed,
            passed,
            pending: Vec::new(),
            written: 0,
            own: false,
            lines: Vec::new(),
            put_off: false,
            in_line: false,
            at_end: false,
            loss: None,
        }
    }

    /// The file may have grown. A shared file system shows new data only to a process that opens
    /// the file again.
    pub(crate) fn reopen_if_grown(&mut self, anew: bool) {
        self.at_end = false;
        if anew {
            self.file = None;
        }
    }

    /// Appends our own text behind what was read so far.
    pub(crate) fn add_text(&mut self, text: &str) {
        self.lines.extend_from_slice(text.as_bytes());
    }

    /// Reads more; true if there is something to write.
    pub(crate) fn fill(&mut self) -> bool {
        if self.has_pending() {
            return true;
        }
        let waits = !self.lines.is_empty();
        // A partial line of the script is completed first, if its end arrives soon.
        if waits && self.in_line && !self.put_off && !self.at_end {
            self.put_off = true;
            self.pull();
            let end = self.pending.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
            self.unread(end.unwrap_or(self.pending.len()));
        }
        if waits && !self.has_pending() {
            if self.in_line {
                self.pending.push(b'\n');
            }
            self.pending.append(&mut self.lines);
            (self.own, self.in_line, self.put_off) = (true, false, false);
        } else if !waits && !self.at_end {
            self.pull();
        }
        self.has_pending()
    }

    /// Drops everything behind the first `kept` bytes of the file from `pending`.
    fn unread(&mut self, kept: usize) {
        self.read -= (self.pending.len() - kept) as u64;
        self.pending.truncate(kept);
    }

    /// Writes what the sink accepts now; poll(2) has reported that it accepts something.
    pub(crate) fn push(&mut self, passed: &Passed) {
        let rest = &self.pending[self.written..];
        let done = match (&self.loss, self.sink.write(rest)) {
            (Some(_), _) => rest.len(),
            (None, Ok(n)) => n,
            (None, Err(Errno::EINTR | Errno::EAGAIN)) => 0,
            (None, Err(cause)) => {
                self.loss = Some(Loss { bytes: 0, cause });
                rest.len()
            }
        };
        self.written += done;
        if !self.own {
            self.passed += done as u64;
            if let Some(loss) = &mut self.loss {
                loss.bytes += done;
            }
            // The next launcher would repeat some bytes; that is no reason to stop here.
            let _ = passed.set(self.number, self.passed);
        }
        if !self.has_pending() {
            if let (false, Some(last)) = (self.own, self.pending.last()) {
                self.in_line = *last != b'\n';
            }
            self.pending.clear();
            (self.written, self.own) = (0, false);
        }
    }

    pub(crate) fn sink(&self) -> BorrowedFd<'fd> {
        self.sink.fd()
    }

    /// The state of this stream. `expected` is its length according to the record, if there is one.
    pub(crate) fn progress(&self, expected: Option<u64>) -> Output {
        if self.has_pending() || !self.lines.is_empty() || !self.at_end {
            Output::Flowing
        } else if expected.is_some_and(|bytes| self.passed < bytes) {
            Output::Missing
        } else {
            Output::All
        }
    }

    /// The output that the runner's side did not accept.
    pub(crate) fn loss(&self) -> Option<Loss> {
        self.loss
    }

    fn has_pending(&self) -> bool {
        self.written < self.pending.len()
    }

    fn pull(&mut self) {
        if self.file.is_none() {
            self.file = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(&self.path)
                .ok();
        }
        let Some(file) = &self.file else {
            self.at_end = true;
            return;
        };
        let mut little = [0; LITTLE];
        // An error is not the end of the file: the next attempt may succeed.
        let mut n = file.read_at(&mut little, self.read).unwrap_or(0);
        if n < LITTLE {
            self.pending = little[..n].to_vec();
        } else {
            self.pending.resize(CHUNK, 0);
            n = file.read_at(&mut self.pending, self.read).unwrap_or(0);
            self.pending.truncate(n);
        }
        self.read += n as u64;
        self.at_end = n == 0;
    }
}

#[cfg(test)]
mod tests {
    use super::{Passed, Tail};
    use crate::messages::Output;
    use std::io::{Read, Write, pipe};
    use std::os::fd::AsFd;

    #[test]
    fn every_byte_comes_once_and_lines_of_ours_begin_on_a_line_of_their_own() {
        let dir = tempfile::tempdir().expect("dir");
        let (path, state) = (dir.path().join("out"), dir.path().join("passed"));
        let mut file = std::fs::File::create(&path).expect("file");
        let (mut reader, writer) = pipe().expect("pipe");
        let passed = Passed::open(&state).expect("passed");
        let mut tail = Tail::new(path.clone(), 0, writer.as_fd(), 0);
        let drain = |tail: &mut Tail<'_>| {
            while tail.fill() {
                tail.push(&passed);
            }
        };
        file.write_all(b"one\ntw").expect("write");
        drain(&mut tail);
        // An unterminated line is terminated before ours; a terminated one stays as it is.
        tail.add_text("ours\n");
        drain(&mut tail);
        tail.add_text("more\n");
        file.write_all(b"o\nfo").expect("write");
        tail.reopen_if_grown(true);
        drain(&mut tail);
        tail.add_text("last\n");
        file.write_all(b"ur\nfi").expect("write");
        tail.reopen_if_grown(true);
        drain(&mut tail);
        assert_eq!(tail.progress(Some(15)), Output::All);
        assert_eq!(tail.progress(Some(16)), Output::Missing);
        drop(tail);

        // Another launcher continues where this one stopped.
        file.write_all(b"ve").expect("write");
        let again = Passed::open(&state).expect("passed");
        assert_eq!((again.get(0).expect("offset"), again.get(1).expect("offset")), (15, 0));
        let mut tail = Tail::new(path, 0, writer.as_fd(), again.get(0).expect("offset"));
        drain(&mut tail);
        drop(tail);
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).expect("read");
        assert_eq!(text, "one\ntw\nours\nmore\no\nfour\nlast\nfive");
    }
}

//! Passes the job's output from files on to the runner: every byte once, in order, as soon as it is
//! available.
//!
//! The files may grow on another host, so only reading shows their length; inotify(7) is just a
//! hint when to read. Of much output the kernel moves the pages (`nunbird_stage::outlet`), without a copy,
//! where the runner's end is a pipe and the file system can do it. The number of bytes passed on is kept in a file beside them, for a launcher
//! that continues after this one.

use super::messages::Output;
use nix::errno::Errno;
use nix::libc;
use nunbird_stage::Loss;
use nunbird_stage::outlet::Outlet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
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
    /// Whether the kernel moves the file's bytes, so that none are in `pending`.
    moving: bool,
    /// Whether it cannot.
    copies: bool,
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
            moving: false,
            copies: false,
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
            self.copy();
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
        if self.moving {
            return self.move_on(passed);
        }
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
        self.moving || self.written < self.pending.len()
    }

    /// Reads a little, and has the kernel move the rest where there is more.
    fn pull(&mut self) {
        let mut little = [0; LITTLE];
        let n = self.read_into(&mut little);
        if n < LITTLE || self.copies {
            return self.take_in(n, &little);
        }
        self.moving = true;
        self.load();
        if !self.moving && !self.at_end {
            self.take_in(n, &little);
        }
    }

    /// Takes the next bytes for the kernel to move. Ends that where there are none, where it cannot be done, and where lines of ours wait.
    fn load(&mut self) {
        self.open();
        let loaded = match &self.file {
            Some(file) if self.lines.is_empty() => self.sink.load(file.as_fd(), &mut self.read),
            _ => Err(Errno::EAGAIN),
        };
        match loaded {
            Ok(1..) | Err(Errno::EINTR) => return,
            Ok(0) => self.at_end = true,
            Err(Errno::EAGAIN) => {}
            Err(_) => self.copies = true,
        }
        self.moving = false;
        let mut last = [0];
        let before = self.read.checked_sub(1);
        let known = before.is_some_and(|at| {
            self.file.as_ref().is_some_and(|file| file.read_at(&mut last, at).is_ok_and(|n| n == 1))
        });
        self.in_line = known && last != *b"\n";
    }

    /// Has the kernel move what the sink accepts.
    fn move_on(&mut self, passed: &Passed) {
        match self.sink.unload() {
            Ok(n) => {
                self.passed += n as u64;
                // As above.
                let _ = passed.set(self.number, self.passed);
            }
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            // Whatever it is, writing shows it: the reader has closed, or a filter refuses splice(2).
            Err(_) => {
                (self.moving, self.copies) = (false, true);
                self.read = self.passed;
            }
        }
        if self.moving && self.sink.loaded() == 0 {
            self.load();
        }
    }

    fn open(&mut self) {
        if self.file.is_none() {
            self.file = OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(&self.path)
                .ok();
        }
    }

    /// Reads from where this stream is. An error is not the end of the file: the next attempt may succeed.
    fn read_into(&mut self, bytes: &mut [u8]) -> usize {
        self.open();
        self.file.as_ref().map_or(0, |file| file.read_at(bytes, self.read).unwrap_or(0))
    }

    /// Reads what has to be copied.
    fn copy(&mut self) {
        let mut little = [0; LITTLE];
        let n = self.read_into(&mut little);
        self.take_in(n, &little);
    }

    /// Takes in the little that was read, or more where that is not all.
    fn take_in(&mut self, mut n: usize, little: &[u8; LITTLE]) {
        if n < LITTLE {
            self.pending = little[..n].to_vec();
        } else {
            let mut pending = std::mem::take(&mut self.pending);
            pending.resize(CHUNK, 0);
            n = self.read_into(&mut pending);
            pending.truncate(n);
            self.pending = pending;
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

    #[test]
    fn much_output_is_moved_whole_with_lines_of_ours_between_its_lines_and_a_launcher_after_this_one_goes_on()
    {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("out");
        let text: String = (0..100_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&path, &text).expect("written");
        let (mut reader, writer) = pipe().expect("pipe");
        let reading = std::thread::spawn(move || {
            let mut all = String::new();
            reader.read_to_string(&mut all).map(|_| all).expect("read")
        });
        let passed = Passed::open(&dir.path().join("passed")).expect("passed");
        let mut tail = Tail::new(path.clone(), 0, writer.as_fd(), 0);
        for turn in 0_u32.. {
            if !tail.fill() {
                break;
            }
            assert!(turn > 3 || tail.pending.is_empty(), "copied and not moved");
            if turn == 3 {
                tail.add_text("ours\n");
            }
            tail.push(&passed);
            if turn > 10 && tail.passed > 900_000 {
                break;
            }
            std::thread::yield_now();
        }
        let so_far = tail.passed;
        assert!(so_far > 900_000 && tail.progress(None) == Output::Flowing, "{so_far}");
        drop(tail);
        // What was taken and not moved is not counted.
        assert_eq!(passed.get(0).expect("offset"), so_far);
        let mut tail = Tail::new(path, 0, writer.as_fd(), so_far);
        while tail.fill() {
            tail.push(&passed);
            std::thread::yield_now();
        }
        assert_eq!(tail.progress(Some(text.len() as u64)), Output::All);
        drop(tail);
        drop(writer);
        let all = reading.join().expect("the reader");
        let at = all.find("ours\n").expect("the line of ours");
        assert!(at > 0 && (all[..at].ends_with('\n')), "in a line of the script's");
        assert!(all.replacen("ours\n", "", 1) == text, "other bytes than the job has written");
    }

    #[test]
    fn much_output_to_what_is_no_pipe_is_copied_whole() {
        let dir = tempfile::tempdir().expect("dir");
        let (path, sink) = (dir.path().join("out"), tempfile::tempfile().expect("a file"));
        let text = "0123456789abcde\n".repeat(20_000);
        std::fs::write(&path, &text).expect("written");
        let passed = Passed::open(&dir.path().join("passed")).expect("passed");
        let mut tail = Tail::new(path, 0, sink.as_fd(), 0);
        while tail.fill() {
            tail.push(&passed);
        }
        let mut got = vec![0; text.len() + 1];
        let n = std::os::unix::fs::FileExt::read_at(&sink, &mut got, 0).expect("read");
        assert!(got[..n] == *text.as_bytes(), "other bytes than the job has written");
    }
}

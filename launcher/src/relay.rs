//! One output stream on its way from the job to the runner.
//!
//! The job writes into our pipe, so that a background process that keeps its end open does not keep
//! the runner waiting. A reader that has closed does not stop the job: the rest is read, counted and
//! dropped.
//!
//! Where the runner's end is a pipe, the kernel moves the bytes (splice(2)), which this process then does
//! not look at, and which never waits. Else, and where the last words are wanted, they are copied: our
//! end never blocks; the runner's may, so it is written by an [`Outlet`], and only when poll(2) reports
//! that it accepts bytes.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;
use nix::unistd::read;
use nunbird_stage::Loss;
use nunbird_stage::outlet::{self, Outlet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const CHUNK: usize = 64 * 1024;
/// What of a job's last words is kept.
const TAIL: usize = 2048;
/// The most that a pipe can hold, unless root changed its size (pipe(7),
/// `/proc/sys/fs/pipe-max-size`).
const PIPE_CAPACITY: usize = 1 << 20;
/// The most that a stream puts at once into a pipe that another one has as well.
const SHARE: usize = 16 * 1024;

/// How bytes get from the source to the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Copied by this process.
    Copied,
    /// Moved by the kernel; what is waited for.
    Moved(Wait),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// The job writes.
    Source,
    /// The runner reads.
    Sink,
}

/// A stream and its buffer.
#[derive(Debug)]
pub(crate) struct Stream<'fd> {
    /// `None` once it has ended.
    source: Option<OwnedFd>,
    sink: Outlet<'fd>,
    way: Way,
    /// The most that is moved at once, in bytes.
    most: usize,
    pending: Vec<u8>,
    /// How much of `pending` has been written.
    written: usize,
    loss: Option<Loss>,
    /// While draining: how many bytes may still be read.
    left: Option<usize>,
    /// The last bytes from the job, where they are copied.
    tail: Vec<u8>,
}

impl<'fd> Stream<'fd> {
    /// From the reading end of a pipe to `sink`.
    pub(crate) fn new(source: OwnedFd, sink: BorrowedFd<'fd>) -> nix::Result<Self> {
        fcntl(&source, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Stream {
            source: Some(source),
            sink: Outlet::new(sink),
            // Into anything but a pipe splice(2) may wait.
            way: if outlet::is_pipe(sink) { Way::Moved(Wait::Source) } else { Way::Copied },
            most: PIPE_CAPACITY,
            pending: Vec::new(),
            written: 0,
            loss: None,
            left: None,
            tail: Vec::new(),
        })
    }

    /// Keeps the last words, which have to be copied.
    pub(crate) fn with_tail(self) -> Self {
        Stream { way: Way::Copied, ..self }
    }

    /// Where both have one sink, neither may fill it alone.
    pub(crate) fn share(one: &mut Self, other: &mut Self) {
        if outlet::are_one(one.sink.fd(), other.sink.fd()) {
            (one.most, other.most) = (SHARE, SHARE);
        }
    }

    /// What to poll for before [`Stream::ready`]; `None` if there is nothing left to do.
    pub(crate) fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        if self.has_pending() || (self.source.is_some() && self.way == Way::Moved(Wait::Sink)) {
            return Some((self.sink.fd(), PollFlags::POLLOUT));
        }
        self.source.as_ref().map(|source| (source.as_fd(), PollFlags::POLLIN))
    }

    /// Does the work that [`Stream::interest`] waited for.
    pub(crate) fn ready(&mut self) {
        match self.way {
            _ if self.has_pending() => self.push(),
            Way::Copied => self.pull(),
            Way::Moved(waited) => self.pass(waited),
        }
    }

    /// Reads what is in the pipe now and no more: its writer has ended, and another process with
    /// the same end may write forever. A pipe is first in, first out, so all that the writer wrote
    /// is within what the pipe can hold.
    pub(crate) fn drain(&mut self) {
        let capacity = self.source.as_ref().and_then(|source| fcntl(source, FcntlArg::F_GETPIPE_SZ).ok());
        let capacity = capacity.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(PIPE_CAPACITY);
        self.left.get_or_insert(capacity);
        self.way = Way::Copied;
        while self.source.is_some() && !self.has_pending() {
            self.pull();
        }
    }

    /// Appends a line of ours.
    pub(crate) fn add_line(&mut self, message: &str) {
        self.take_in(format!("nunbird: {message}\n").as_bytes());
    }

    /// The end of what the job has written, at least [`TAIL`] bytes if there were so many, of a stream [`Stream::with_tail`].
    pub(crate) fn tail(&self) -> String {
        String::from_utf8_lossy(&self.tail).into_owned()
    }

    /// What could not be written.
    pub(crate) fn loss(&self) -> Option<Loss> {
        self.loss
    }

    fn has_pending(&self) -> bool {
        self.written < self.pending.len()
    }

    /// Has the kernel move what there is room for.
    fn pass(&mut self, waited: Wait) {
        let Some(source) = &self.source else { return };
        match outlet::moved(source.as_fd(), self.sink.fd(), self.most) {
            Ok(0) => self.source = None,
            // All that there is, or all that there is room for: poll(2) shows which of the two comes first.
            Ok(_) => self.way = Way::Moved(Wait::Source),
            // What was waited for is there, so the other one is not.
            Err(Errno::EAGAIN) if waited == Wait::Source => {
                // A job that prints much writes on while the runner reads. Not before: what the account's pipes may hold together is
                // bounded (pipe(7)), and most stages print little.
                outlet::widen(source.as_fd());
                self.way = Way::Moved(Wait::Sink);
            }
            Err(Errno::EAGAIN) => self.way = Way::Moved(Wait::Source),
            Err(Errno::EINTR) => {}
            // Whatever else it is, writing shows it: the reader has closed, or a filter refuses splice(2).
            Err(_) => {
                self.way = Way::Copied;
                self.pull();
            }
        }
    }

    fn pull(&mut self) {
        let Some(source) = &self.source else { return };
        let mut chunk = [0; CHUNK];
        let most = self.left.unwrap_or(CHUNK).min(CHUNK);
        match read(source, &mut chunk[..most]) {
            Ok(0) => self.source = None,
            Ok(n) => {
                self.left = self.left.map(|left| left - n);
                self.take_in(&chunk[..n]);
                self.tail.extend_from_slice(&chunk[n.saturating_sub(TAIL)..n]);
                if self.tail.len() > 2 * TAIL {
                    self.tail.drain(..self.tail.len() - TAIL);
                }
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if self.left.is_none() => {}
            Err(_) => self.source = None,
        }
    }

    fn take_in(&mut self, bytes: &[u8]) {
        match &mut self.loss {
            Some(loss) => loss.bytes += bytes.len(),
            None => self.pending.extend_from_slice(bytes),
        }
    }

    fn push(&mut self) {
        let rest = &self.pending[self.written..];
        match self.sink.write(rest) {
            Ok(n) => self.written += n,
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(cause) => {
                self.loss = Some(Loss { bytes: rest.len(), cause });
                self.written = self.pending.len();
            }
        }
        if !self.has_pending() {
            self.pending.clear();
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Stream;
    use nix::errno::Errno;
    use nunbird_stage::Loss;
    use std::io::{Read, Write, pipe};
    use std::os::fd::AsFd;

    #[test]
    fn draining_ends_although_another_process_goes_on_writing() {
        let (source, mut writer) = pipe().expect("pipe");
        let (mut reader, sink) = pipe().expect("pipe");
        let mut stream = Stream::new(source.into(), sink.as_fd()).expect("stream");
        writer.write_all(&[b'a'; 60_000]).expect("write");
        let mut got = 0;
        for round in 0.. {
            stream.drain();
            if stream.interest().is_none() {
                break;
            }
            assert!(round < 1000, "draining never ends");
            stream.ready();
            let mut bytes = [0; 4096];
            let n = reader.read(&mut bytes).expect("read");
            got += n;
            writer.write_all(&bytes[..n]).expect("the other process writes on");
        }
        drop(sink);
        got += reader.read_to_end(&mut Vec::new()).expect("read");
        // At most what the pipe can hold.
        assert!((60_000..=70_000).contains(&got), "{got}");
    }

    #[test]
    fn what_a_job_prints_is_moved_whole_and_a_reader_that_waits_is_not_waited_for() {
        let (source, mut writer) = pipe().expect("pipe");
        let (mut reader, sink) = pipe().expect("pipe");
        let mut stream = Stream::new(source.into(), sink.as_fd()).expect("stream");
        let bytes: Vec<u8> = (0..60_000_u32).map(|n| (n % 251) as u8).collect();
        let mut got = Vec::new();
        for _ in 0..3 {
            writer.write_all(&bytes).expect("write");
            // More often than there is something to do, and with the reader's pipe full.
            (0..5).for_each(|_| stream.ready());
        }
        drop(writer);
        while stream.interest().is_some() {
            let mut piece = [0; 10_000];
            let n = reader.read(&mut piece).expect("read");
            got.extend_from_slice(&piece[..n]);
            (0..3).for_each(|_| stream.ready());
        }
        assert!(stream.tail().is_empty(), "copied and not moved");
        drop(sink);
        reader.read_to_end(&mut got).expect("read");
        assert!(got == bytes.repeat(3), "other bytes than were written");
    }

    #[test]
    fn of_two_streams_with_one_reader_neither_fills_its_pipe() {
        let (sources, writers): (Vec<_>, Vec<_>) = (0..2).map(|_| pipe().expect("pipe")).unzip();
        let (mut reader, sink) = pipe().expect("pipe");
        let mut streams =
            sources.into_iter().map(|source| Stream::new(source.into(), sink.as_fd()).expect("stream"));
        let (mut one, mut other) = (streams.next().expect("one"), streams.next().expect("another"));
        Stream::share(&mut one, &mut other);
        let mut writers = writers.into_iter();
        writers.next().expect("one").write_all(&[b'a'; 60_000]).expect("write");
        writers.next().expect("another").write_all(b"b").expect("write");
        one.ready();
        other.ready();
        let mut piece = [0; 60_000];
        let n = reader.read(&mut piece).expect("read");
        assert_eq!((n, piece[n - 1]), (16 * 1024 + 1, b'b'));
    }

    #[test]
    fn a_reader_that_has_gone_costs_its_bytes_and_nothing_else() {
        let (source, mut writer) = pipe().expect("pipe");
        let (reader, sink) = pipe().expect("pipe");
        drop(reader);
        let mut stream = Stream::new(source.into(), sink.as_fd()).expect("stream");
        writer.write_all(b"12345").expect("write");
        stream.ready();
        stream.ready();
        writer.write_all(b"678").expect("write");
        stream.ready();
        drop(writer);
        stream.ready();
        assert!(stream.interest().is_none());
        assert_eq!(stream.loss(), Some(Loss { bytes: 8, cause: Errno::EPIPE }));
    }
}

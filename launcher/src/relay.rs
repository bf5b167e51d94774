//! One output stream on its way from the job to the runner.
//!
//! The job writes into our pipe, so that a background process that keeps its end open does not keep
//! the runner waiting. Our end never blocks; the runner's may, so it is written only when poll(2)
//! reports that it accepts bytes, and then no more than a pipe accepts at once. A reader that has
//! closed does not stop the job: the rest is read, counted and dropped.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::poll::PollFlags;
use nix::unistd::{read, write};
use nunbird_stage::Loss;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const CHUNK: usize = 64 * 1024;
/// What of a job's last words is kept.
const TAIL: usize = 2048;
/// After `POLLOUT` a pipe accepts this much without blocking (pipe(7)).
const AT_ONCE: usize = libc::PIPE_BUF;
/// The most that a pipe can hold, unless root changed its size (pipe(7),
/// `/proc/sys/fs/pipe-max-size`).
const PIPE_CAPACITY: usize = 1 << 20;

/// A stream and its buffer.
#[derive(Debug)]
pub(crate) struct Stream<'fd> {
    /// `None` once it has ended.
    source: Option<OwnedFd>,
    sink: BorrowedFd<'fd>,
    pending: Vec<u8>,
    /// How much of `pending` has been written.
    written: usize,
    loss: Option<Loss>,
    /// While draining: how many bytes may still be read.
    left: Option<usize>,
    /// The last bytes from the job.
    tail: Vec<u8>,
}

impl<'fd> Stream<'fd> {
    /// From the reading end of a pipe to `sink`.
    pub(crate) fn new(source: OwnedFd, sink: BorrowedFd<'fd>) -> nix::Result<Self> {
        fcntl(&source, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Stream {
            source: Some(source),
            sink,
            pending: Vec::new(),
            written: 0,
            loss: None,
            left: None,
            tail: Vec::new(),
        })
    }

    /// What to poll for before [`Stream::ready`]; `None` if there is nothing left to do.
    pub(crate) fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        if self.has_pending() {
            return Some((self.sink, PollFlags::POLLOUT));
        }
        self.source.as_ref().map(|source| (source.as_fd(), PollFlags::POLLIN))
    }

    /// Does the work that [`Stream::interest`] waited for.
    pub(crate) fn ready(&mut self) {
        if self.has_pending() { self.push() } else { self.pull() }
    }

    /// Reads what is in the pipe now and no more: its writer has ended, and another process with
    /// the same end may write forever. A pipe is first in, first out, so all that the writer wrote
    /// is within what the pipe can hold.
    pub(crate) fn drain(&mut self) {
        let capacity = self.source.as_ref().and_then(|source| fcntl(source, FcntlArg::F_GETPIPE_SZ).ok());
        let capacity = capacity.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(PIPE_CAPACITY);
        self.left.get_or_insert(capacity);
        while self.source.is_some() && !self.has_pending() {
            self.pull();
        }
    }

    /// Appends a line of ours.
    pub(crate) fn add_line(&mut self, message: &str) {
        self.take_in(format!("nunbird: {message}\n").as_bytes());
    }

    /// The end of what the job has written, at least [`TAIL`] bytes if there were so many.
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
        match write(self.sink, &rest[..rest.len().min(AT_ONCE)]) {
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
        assert!((60_000..=70_000).contains(&got), "{got}");
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

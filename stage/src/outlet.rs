//! The runner's end of an output stream: written without ever waiting for its reader.
//!
//! The runner's pipe may not be made `O_NONBLOCK`, because other processes share it. splice(2) waits for no pipe by a
//! flag of the call, and moves bytes from one pipe to another without a copy; so large pieces go through a pipe of ours.
//! What is in a file goes through it as well, without a copy at all: never straight into the runner's pipe, because the
//! kernel locks a pipe while it reads the file, and a file system that does not respond would stop the pipe's reader.
//! Both streams may have one pipe, which the other stream has filled since the caller's poll(2): a small piece is
//! written after a look of its own.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::write;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd};

/// After `POLLOUT` a pipe accepts this much without blocking (pipe(7)).
const AT_ONCE: usize = libc::PIPE_BUF;
/// What a pipe of ours holds, where the kernel allows it.
const ROOM: i32 = 256 << 10;

/// Where a stream goes.
#[derive(Debug)]
pub struct Outlet<'fd> {
    sink: BorrowedFd<'fd>,
    /// Whether that is a pipe.
    is_pipe: bool,
    /// The pipe before it, once there was a large piece.
    before: Option<(PipeReader, PipeWriter)>,
    /// How many bytes are in there: the first ones of the next call's, or of the file's.
    staged: usize,
}

impl<'fd> Outlet<'fd> {
    /// To this descriptor.
    pub fn new(sink: BorrowedFd<'fd>) -> Self {
        Outlet { sink, is_pipe: is_pipe(sink), before: None, staged: 0 }
    }

    /// The descriptor, for poll(2).
    pub fn fd(&self) -> BorrowedFd<'fd> {
        self.sink
    }

    /// Writes what the sink accepts now, of which poll(2) has reported that it accepts something. To be called with all that is still
    /// to be written: the bytes behind those that the last call wrote.
    ///
    /// # Errors
    /// As write(2); `EAGAIN` where it accepts nothing.
    pub fn write(&mut self, bytes: &[u8]) -> nix::Result<usize> {
        if self.staged == 0 && (bytes.len() <= AT_ONCE || !self.is_pipe) {
            return match accepts(self.sink)? {
                true => write(self.sink, &bytes[..bytes.len().min(AT_ONCE)]),
                false => Err(Errno::EAGAIN),
            };
        }
        if self.before.is_none() {
            self.before = pipe_before().ok();
        }
        let Some((from, to)) = &self.before else {
            self.is_pipe = false;
            return self.write(bytes);
        };
        if self.staged == 0 {
            self.staged = write(to, bytes)?;
        }
        match moved(from.as_fd(), self.sink, self.staged) {
            Ok(n) => {
                self.staged -= n;
                if n == bytes.len() {
                    // What the account's pipes may hold together is bounded (pipe(7)).
                    self.before = None;
                }
                Ok(n)
            }
            Err(e @ (Errno::EAGAIN | Errno::EINTR | Errno::EPIPE)) => Err(e),
            // A filter that refuses splice(2).
            Err(_) => {
                (self.before, self.staged, self.is_pipe) = (None, 0, false);
                self.write(bytes)
            }
        }
    }
}

impl Outlet<'_> {
    /// Takes what a file has from this offset on into the pipe before the sink, to be moved by [`Outlet::unload`], and moves the offset on.
    /// Returns how many bytes: none at the file's end.
    ///
    /// # Errors
    /// As splice(2); `EINVAL` where the sink is no pipe or the file system cannot do it, so that the bytes have to be copied.
    pub fn load(&mut self, file: BorrowedFd<'_>, offset: &mut u64) -> nix::Result<usize> {
        if !self.is_pipe || self.staged > 0 {
            return Err(Errno::EINVAL);
        }
        if self.before.is_none() {
            self.before = Some(pipe_before().map_err(|_| Errno::EINVAL)?);
        }
        let Some((_, to)) = &self.before else { return Err(Errno::EINVAL) };
        let mut at = i64::try_from(*offset).map_err(|_| Errno::EINVAL)?;
        let n = splice(file, Some(&mut at), to, None, ROOM as usize, SpliceFFlags::SPLICE_F_NONBLOCK)?;
        if n == 0 {
            self.before = None;
        }
        (self.staged, *offset) = (n, *offset + n as u64);
        Ok(n)
    }

    /// How many bytes of a file [`Outlet::load`] has taken that are not moved yet.
    pub fn loaded(&self) -> usize {
        self.staged
    }

    /// Moves what the sink accepts of them.
    ///
    /// # Errors
    /// As splice(2); `EAGAIN` where it accepts nothing. After other errors nothing is loaded any more.
    pub fn unload(&mut self) -> nix::Result<usize> {
        let Some((from, _)) = &self.before else { return Ok(0) };
        match moved(from.as_fd(), self.sink, self.staged) {
            Ok(n) => {
                self.staged -= n;
                Ok(n)
            }
            Err(e @ (Errno::EAGAIN | Errno::EINTR)) => Err(e),
            Err(e) => {
                (self.before, self.staged) = (None, 0);
                Err(e)
            }
        }
    }
}

/// Whether a descriptor accepts [`AT_ONCE`] bytes now, or shows why it never will.
fn accepts(fd: BorrowedFd<'_>) -> nix::Result<bool> {
    Ok(poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], PollTimeout::ZERO)? > 0)
}

/// Whether two descriptors are of one file: gitlab-runner may have one pipe for both streams of its child.
pub fn are_one(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    let of = |fd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).ok();
    of(one).is_some_and(|file| of(other) == Some(file))
}

/// Whether splice(2) never waits for this descriptor.
pub fn is_pipe(fd: BorrowedFd<'_>) -> bool {
    fstat(fd).is_ok_and(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFIFO)
}

/// Gives a pipe of ours more room. The user may hold more than `fs.pipe-user-pages-soft` already; it stays as it is then.
pub fn widen(pipe: BorrowedFd<'_>) {
    let _as_it_was = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(ROOM));
}

/// Moves at most so many bytes from a pipe to another one, as many as there are and as there is room for.
///
/// # Errors
/// `EAGAIN` where there are none, or no room; else as splice(2).
pub fn moved(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize) -> nix::Result<usize> {
    splice(from, None, to, None, most, SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK)
}

fn pipe_before() -> io::Result<(PipeReader, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    widen(writer.as_fd());
    Ok((reader, writer))
}

#[cfg(test)]
mod tests {
    use super::{Outlet, are_one, is_pipe};
    use nix::errno::Errno;
    use std::io::{Read, Write, pipe};
    use std::os::fd::AsFd;

    #[test]
    fn a_large_piece_arrives_whole_and_a_reader_that_waits_is_not_waited_for() {
        let (mut reader, writer) = pipe().expect("pipe");
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let mut outlet = Outlet::new(writer.as_fd());
        let (mut written, mut got, mut writes) = (0, Vec::new(), 0);
        while got.len() < bytes.len() {
            // It must come back when the pipe is full.
            while written < bytes.len() {
                writes += 1;
                match outlet.write(&bytes[written..]) {
                    Ok(n) => written += n,
                    Err(Errno::EAGAIN) => break,
                    Err(e) => panic!("{e}"),
                }
            }
            let mut piece = [0; 50_000];
            let n = reader.read(&mut piece).expect("read");
            got.extend_from_slice(&piece[..n]);
        }
        assert!(got == bytes, "other bytes than were written");
        assert!(writes < 150, "{writes} writes: not in large pieces");
    }

    #[test]
    fn what_a_file_has_arrives_whole_from_where_it_begins_and_a_reader_that_waits_is_not_waited_for() {
        let (mut reader, writer) = pipe().expect("pipe");
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&bytes).expect("written");
        let mut outlet = Outlet::new(writer.as_fd());
        let (mut offset, mut got) = (1000, Vec::new());
        let mut sent = 1000;
        loop {
            if outlet.loaded() == 0 && outlet.load(file.as_fd(), &mut offset) == Ok(0) {
                break;
            }
            match outlet.unload() {
                Ok(n) => sent += n as u64,
                Err(Errno::EAGAIN) => {
                    let mut piece = [0; 50_000];
                    let n = reader.read(&mut piece).expect("read");
                    got.extend_from_slice(&piece[..n]);
                }
                Err(e) => panic!("{e}"),
            }
            assert_eq!(sent + outlet.loaded() as u64, offset);
        }
        drop(writer);
        reader.read_to_end(&mut got).expect("read");
        assert!(got == bytes[1000..], "other bytes than the file has");
    }

    #[test]
    fn of_a_file_nothing_is_taken_for_what_is_no_pipe_or_has_no_reader() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"bytes").expect("written");
        let other = tempfile::tempfile().expect("a file");
        let mut offset = 0;
        assert_eq!(Outlet::new(other.as_fd()).load(file.as_fd(), &mut offset), Err(Errno::EINVAL));
        let (reader, writer) = pipe().expect("pipe");
        drop(reader);
        let mut outlet = Outlet::new(writer.as_fd());
        assert_eq!(outlet.load(file.as_fd(), &mut offset), Ok(5));
        assert_eq!((outlet.unload(), outlet.loaded()), (Err(Errno::EPIPE), 0));
    }

    #[test]
    fn a_reader_that_has_gone_is_an_error_for_small_and_large_pieces() {
        let (reader, writer) = pipe().expect("pipe");
        drop(reader);
        assert_eq!(Outlet::new(writer.as_fd()).write(b"x"), Err(Errno::EPIPE));
        assert_eq!(Outlet::new(writer.as_fd()).write(&[0; 100_000]), Err(Errno::EPIPE));
    }

    #[test]
    fn a_small_piece_is_not_waited_for_where_another_stream_has_filled_the_pipe() {
        let (mut reader, writer) = pipe().expect("pipe");
        let (mut one, mut other) = (Outlet::new(writer.as_fd()), Outlet::new(writer.as_fd()));
        while one.write(&[b'a'; 200_000]) != Err(Errno::EAGAIN) {}
        assert_eq!(other.write(b"small"), Err(Errno::EAGAIN));
        let mut piece = [0; 60_000];
        assert!(reader.read(&mut piece).expect("read") > 4096);
        assert_eq!(other.write(b"small"), Ok(5));
    }

    #[test]
    fn one_pipe_of_two_streams_is_found() {
        let (reader, writer) = pipe().expect("pipe");
        let again = writer.try_clone().expect("a descriptor");
        let (_reader, foreign) = pipe().expect("pipe");
        assert!(are_one(writer.as_fd(), again.as_fd()));
        assert!(!are_one(writer.as_fd(), foreign.as_fd()));
        drop(reader);
    }

    #[test]
    fn what_is_no_pipe_is_written_to_in_small_pieces() {
        let file = tempfile::tempfile().expect("a file");
        assert!(!is_pipe(file.as_fd()));
        assert_eq!(Outlet::new(file.as_fd()).write(&[0; 100_000]), Ok(4096));
    }
}

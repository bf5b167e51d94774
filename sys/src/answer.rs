//! Reading a child's whole answer from a pipe, for a bounded time and up to a bounded length.

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// What lies in the pipe now, without waiting, at most `limit` bytes.
///
/// # Errors
/// As fcntl(2) and read(2).
pub fn what_is_there(mut pipe: PipeReader, limit: usize) -> io::Result<Vec<u8>> {
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let mut said = vec![0; limit];
    let mut length = 0;
    while let Some(rest) = said.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match pipe.read(rest) {
            Ok(0) => break,
            Ok(n) => length += n,
            // A socket whose other side has gone with something unread.
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionReset) => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    said.truncate(length);
    Ok(said)
}

/// Writes to this pipe fail with `EAGAIN` instead of waiting for room.
///
/// # Errors
/// As fcntl(2).
pub fn never_wait(pipe: &PipeWriter) -> io::Result<()> {
    fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Everything up to the end of the stream.
///
/// # Errors
/// As read(2); `ETIMEDOUT` when the end does not come in time, `EFBIG` for more than `limit` bytes.
pub fn read_to_end(mut pipe: PipeReader, limit: usize, patience: Duration) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + patience;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let milliseconds = PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, milliseconds) {
            Ok(0) => return Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)),
            Ok(_) => {}
            Err(nix::Error::EINTR) => continue,
            Err(e) => return Err(e.into()),
        }
        let n = pipe.read(&mut buffer)?;
        if n == 0 {
            return Ok(answer);
        }
        answer.extend_from_slice(buffer.get(..n).unwrap_or_default());
        if answer.len() > limit {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
    }
}

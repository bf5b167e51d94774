//! Looking at what may never answer: in a child, for a bounded time.
//!
//! A system call that waits for another process's memory or file system cannot be given a deadline. Reading
//! `/proc/PID/cmdline`, `environ`, `maps`, `mem` or `auxv` takes that process's mmap_lock, which its owner holds for as long
//! as a page fault or mmap(2) of it waits for a FUSE server of the owner's own; a path below `/proc/PID/root`, in a home
//! directory or at a mount point may end at such a server, too. Killing the child ends most of these waits; where it does
//! not (a request that the server has read and does not answer), the child is left behind and not waited for.

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nunbird_sys::fork::fork_into;
use nunbird_sys::{process, signals};
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// The longest answer about one item, in bytes.
const MOST: usize = 64 << 20;
/// How long a child that was killed may take to be gone.
const GOING: Duration = Duration::from_millis(200);

/// Looks at each item and gives the answers in their order: none for an item that did not answer within `patience`, and for
/// all that were not reached within `total`.
///
/// The closure runs in a child that has this process's ids and none of its descriptors.
///
/// # Errors
/// As fork(2) and pipe(2); `EBUSY` in a process with more than one thread.
pub(crate) fn each<T>(
    items: &[T],
    patience: Duration,
    total: Duration,
    look: impl Fn(&T) -> Vec<u8>,
) -> io::Result<Vec<Option<Vec<u8>>>> {
    let end = Instant::now() + total;
    let mut answers = Vec::with_capacity(items.len());
    while answers.len() < items.len() && Instant::now() < end {
        let rest = items.get(answers.len()..).unwrap_or_default();
        let (mut reader, mut writer) = io::pipe()?;
        let child = fork_into(|| {
            // ENOSYS before Linux 5.9: then a child that is left behind holds this process's output open.
            let _as_far_as_it_goes = process::close_all_but(writer.as_raw_fd());
            let passed = rest.iter().try_for_each(|item| {
                let answer = look(item);
                let length = u64::try_from(answer.len()).map_err(io::Error::other)?;
                writer.write_all(&length.to_ne_bytes())?;
                writer.write_all(&answer)
            });
            i32::from(passed.is_err())
        })?;
        drop(writer);
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        for _ in rest {
            match answer(&mut reader, end.min(Instant::now() + patience)) {
                Ok(answer) => answers.push(Some(answer)),
                Err(_) => {
                    answers.push(None);
                    break;
                }
            }
        }
        // It may have ended by itself. One that does not end is not waited for.
        let _gone = child.signal(signals::KILL);
        child.wait_at_most(GOING)?;
    }
    answers.resize(items.len(), None);
    Ok(answers)
}

/// The answer to one question; none when it does not come in time.
///
/// # Errors
/// As [`each`].
pub(crate) fn once(patience: Duration, look: impl Fn() -> Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    Ok(each(&[()], patience, patience, |()| look())?.pop().flatten())
}

fn answer(reader: &mut PipeReader, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    fill(reader, &mut length, deadline)?;
    let length = usize::try_from(u64::from_ne_bytes(length)).unwrap_or(usize::MAX);
    if length > MOST {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut answer = vec![0; length];
    fill(reader, &mut answer, deadline)?;
    Ok(answer)
}

fn fill(reader: &mut PipeReader, mut buffer: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        match reader.read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => buffer = buffer.get_mut(n..).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                let left = PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX);
                match poll(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], left) {
                    Ok(_) | Err(nix::Error::EINTR) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

//! A program that is not Nunbird's: what it may use, and what it says until it ends.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, setrlimit};
use nunbird_started::script::program_to_be;
use nunbird_sys::exec;
use nunbird_sys::fork::{Child, Ended};
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// How often it is looked whether a program has ended whose pipes somebody else holds, in milliseconds.
const TICK: u8 = 5;

/// Bounds what a site's own program may use: so many seconds of processor time, 16 MiB for a file, 256 descriptors, as many
/// processes of its user as make a fork bomb fail, no core dumps.
///
/// # Errors
/// As setrlimit(2).
pub fn bound_resources(seconds: u64) -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CPU, seconds, seconds)?;
    setrlimit(Resource::RLIMIT_FSIZE, 16 << 20, 16 << 20)?;
    setrlimit(Resource::RLIMIT_NOFILE, 256, 256)?;
    setrlimit(Resource::RLIMIT_NPROC, 1024, 1024)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(())
}

/// A program's copy in a sealed memory file, from its beginning. `each` sees every piece; the pieces pass through `buffer`, which keeps the last ones.
///
/// # Errors
/// As memfd_create(2), read(2) and write(2); `EFBIG` for more than `limit` bytes; `EACCES` where `vm.memfd_noexec` forbids it.
pub fn sealed_program(
    name: &CStr,
    source: &File,
    limit: u64,
    buffer: &mut [u8],
    mut each: impl FnMut(&[u8]),
) -> io::Result<File> {
    let mut copy = program_to_be(name)?;
    let mut offset = 0;
    loop {
        let n = match source.read_at(buffer, offset) {
            Ok(0) => return exec::seal(copy),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        offset = offset.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
        if offset > limit {
            return Err(Errno::EFBIG.into());
        }
        let piece = buffer.get(..n).unwrap_or_default();
        each(piece);
        copy.write_all(piece)?;
    }
}

/// What a program said until it ended.
#[derive(Debug)]
pub struct Heard {
    /// Standard output, whole.
    pub output: Vec<u8>,
    /// Standard error, up to the limit.
    pub errors: Vec<u8>,
    /// How it ended. `ETIMEDOUT` when it did not in time, `EFBIG` when its output is longer than the limit.
    pub ended: io::Result<Ended>,
}

/// Listens to a program until it ends itself, whatever other process holds its pipes.
pub fn listen(child: &Child, pipes: [PipeReader; 2], limit: usize, patience: Duration) -> Heard {
    let mut said = Heard { output: Vec::new(), errors: Vec::new(), ended: Ok(Ended::Exited(0)) };
    said.ended = hear(&mut said, child, &pipes, limit, Instant::now() + patience);
    said
}

fn hear(
    said: &mut Heard,
    child: &Child,
    pipes: &[PipeReader; 2],
    limit: usize,
    deadline: Instant,
) -> io::Result<Ended> {
    let [output, errors] = pipes;
    for pipe in pipes {
        fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    loop {
        // Asked first: what it wrote before its end is in the pipes then.
        let ended = child.poll()?;
        let more = [drain(output, &mut said.output, limit)?, drain(errors, &mut said.errors, limit)?];
        if said.output.len() > limit {
            return Err(io::Error::from_raw_os_error(nix::libc::EFBIG));
        }
        said.errors.truncate(limit);
        if let Some(ended) = ended {
            return Ok(ended);
        }
        if Instant::now() >= deadline {
            return Err(io::Error::from_raw_os_error(nix::libc::ETIMEDOUT));
        }
        // A pipe at its end is always ready, and nobody would wait.
        let open = pipes.iter().zip(more).filter(|(_, more)| *more);
        let mut fds: Vec<_> = open.map(|(pipe, _)| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)).collect();
        match poll(&mut fds, PollTimeout::from(TICK)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Takes what is there, at most a little more than the limit; says whether more can come.
fn drain(mut pipe: &PipeReader, into: &mut Vec<u8>, limit: usize) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(n) => into.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        if into.len() > limit {
            return Ok(true);
        }
    }
}

//! Starting the next program by descriptor, with descriptors of our choice and nothing else.

use nix::fcntl::{AtFlags, FcntlArg, OFlag, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::execveat;
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

/// Descriptors above this are never a target of [`place`].
const HIGH: RawFd = 16;

/// A sealed memory file with these bytes.
///
/// # Errors
/// As memfd_create(2) and write(2).
pub fn sealed(name: &CStr, bytes: &[u8]) -> io::Result<File> {
    let mut file = memory(name)?;
    file.write_all(bytes)?;
    seal(file)
}

/// A memory file of this many zeros whose size stays: something to be written into by a program with less privilege.
///
/// # Errors
/// As memfd_create(2), ftruncate(2) and fcntl(2).
pub fn slate(name: &CStr, size: usize) -> io::Result<File> {
    let file = memory(name)?;
    file.set_len(u64::try_from(size).unwrap_or(u64::MAX))?;
    let size_stays = SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(size_stays))?;
    Ok(file)
}

/// A memory file with the content of `source`, from its position, sealed. The kernel copies where it can
/// (sendfile(2)), so that no other copy is left in this process's memory.
///
/// # Errors
/// As memfd_create(2), read(2) and write(2); `EFBIG` for more than `limit` bytes.
pub fn sealed_copy(name: &CStr, source: &File, limit: u64) -> io::Result<File> {
    let mut copy = memory(name)?;
    if io::copy(&mut source.take(limit.saturating_add(1)), &mut copy)? > limit {
        return Err(io::Error::from_raw_os_error(libc::EFBIG));
    }
    seal(copy)
}

/// Hosts with `vm.memfd_noexec` want a flag for a memory file that is no program; kernels before 6.3 do not know it.
fn memory(name: &CStr) -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let fd = match memfd_create(name, flags | MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL)) {
        Err(nix::Error::EINVAL) => memfd_create(name, flags)?,
        other => other?,
    };
    Ok(File::from(fd))
}

/// Lets nobody change this memory file any more, and goes to its beginning.
///
/// # Errors
/// As lseek(2) and fcntl(2).
pub fn seal(mut file: File) -> io::Result<File> {
    file.rewind()?;
    let all =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(all))?;
    Ok(file)
}

/// Puts each file at its number, so that it survives the next execve(2), and marks all other descriptors
/// from 3 on to be closed by it.
///
/// # Errors
/// As dup2(2) and close_range(2).
pub fn place(files: &[(RawFd, &File)]) -> io::Result<()> {
    let mut moved: Vec<(RawFd, OwnedFd)> = Vec::new();
    for (target, file) in files {
        moved.push((*target, duplicate_from(file, HIGH)?));
    }
    crate::process::close_on_exec_from(3)?;
    for (target, fd) in &moved {
        // SAFETY: dup2 replaces what is at `target`. Callers name the descriptors of the handover (3 to 9), which
        // nothing in this process uses: every own file was just moved above them or is closed by execve.
        if unsafe { libc::dup2(fd.as_raw_fd(), *target) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// A copy of the descriptor with the lowest free number from `lowest` on, closed by execve(2).
///
/// # Errors
/// As fcntl(2).
pub fn duplicate_from(fd: &impl AsFd, lowest: RawFd) -> io::Result<OwnedFd> {
    let raw = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(lowest))?;
    // SAFETY: F_DUPFD_CLOEXEC has just made this descriptor; no other value owns it.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(raw) })
}

/// A copy of the descriptor well above those that [`place`] fills.
///
/// # Errors
/// As fcntl(2).
pub fn out_of_the_way(file: &impl AsFd) -> io::Result<File> {
    duplicate_from(file, HIGH).map(File::from)
}

/// Makes standard output and standard error these two pipes.
///
/// # Errors
/// As dup2(2).
pub fn outputs_to(output: &io::PipeWriter, errors: &io::PipeWriter) -> io::Result<()> {
    nix::unistd::dup2_stdout(output)?;
    Ok(nix::unistd::dup2_stderr(errors)?)
}

/// Makes this file standard input, as it is.
///
/// # Errors
/// As dup2(2).
pub fn input_is(file: &File) -> io::Result<()> {
    Ok(nix::unistd::dup2_stdin(file)?)
}

/// Becomes the program of this path. For those that no descriptor can be opened of.
///
/// # Errors
/// As execve(2); comes back only then.
pub fn execute_path(path: &CStr, argv: &[CString], environment: &[CString]) -> io::Result<Infallible> {
    Ok(nix::unistd::execve(path, argv, environment)?)
}

/// Becomes the program behind `file`.
///
/// # Errors
/// As execveat(2); comes back only then.
pub fn execute(file: &File, argv: &[CString], environment: &[CString]) -> io::Result<Infallible> {
    Ok(execveat(file, c"", argv, environment, AtFlags::AT_EMPTY_PATH)?)
}

/// Reads and writes of this file wait again: it was opened with `O_NONBLOCK`.
///
/// # Errors
/// As fcntl(2).
pub fn blocking(file: &File) -> io::Result<()> {
    fcntl(file, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(())
}

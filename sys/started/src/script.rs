//! Running a program that is not Nunbird's: it may be a script, and is copied where it could change.

use nix::fcntl::AtFlags;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::execveat;
use nunbird_sys::exec::place;
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, RawFd};

/// An empty memory file that can be executed, once it has been written and [sealed](nunbird_sys::exec::seal).
///
/// # Errors
/// As memfd_create(2); `EACCES` where `vm.memfd_noexec` forbids it.
pub fn program_to_be(name: &CStr) -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Kernels before 6.3 do not know the flag.
    let fd = match memfd_create(name, flags | MFdFlags::from_bits_retain(libc::MFD_EXEC)) {
        Err(nix::Error::EINVAL) => memfd_create(name, flags)?,
        other => other?,
    };
    Ok(File::from(fd))
}

/// Becomes the program behind `file`, which may begin with `#!`: then its interpreter opens `/dev/fd/3`. Beside the standard
/// descriptors the program gets that one alone.
///
/// # Errors
/// As dup2(2) and execveat(2); comes back only then.
pub fn execute_script(file: &File, argv: &[CString], environment: &[CString]) -> io::Result<Infallible> {
    const SCRIPT: RawFd = 3;
    place(&[(SCRIPT, file)])?;
    // SAFETY: `place` has just opened this number, and this process does nothing more than the next line with it.
    let script = unsafe { BorrowedFd::borrow_raw(SCRIPT) };
    Ok(execveat(script, c"", argv, environment, AtFlags::AT_EMPTY_PATH)?)
}

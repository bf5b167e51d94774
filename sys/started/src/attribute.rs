//! Extended attributes (xattr(7)) of open files.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Reads the attribute of this name into `value`, and returns how many bytes it has.
///
/// # Errors
/// As fgetxattr(2); `ERANGE` for a value that is longer than `value`.
pub fn read(file: &impl AsFd, name: &CStr, value: &mut [u8]) -> io::Result<usize> {
    let fd = file.as_fd().as_raw_fd();
    // SAFETY: the name ends with NUL, and the buffer lives through the call and is as long as the argument for its length.
    let length = unsafe { libc::fgetxattr(fd, name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    usize::try_from(length).map_err(|_| io::Error::last_os_error())
}

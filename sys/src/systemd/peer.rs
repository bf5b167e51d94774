//! Who listens at the other end of a socket.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// Process and user id of whoever called listen(2), as the kernel noted them then (`SO_PEERCRED`, unix(7)). A process of
/// another pid namespace has the id 0 here.
///
/// # Errors
/// As getsockopt(2).
pub(super) fn of(stream: &UnixStream) -> io::Result<(i32, u32)> {
    let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `found`, which is that long, and the length back; both are
    // this function's own. The descriptor is the stream's, which lives until the call returns.
    let rc = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut length,
        )
    };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((found.pid, found.uid))
}

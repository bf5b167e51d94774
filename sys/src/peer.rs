//! Who is at the other end of a Unix socket (unix(7), `SO_PEERCRED`): the kernel's word, taken when the connection was made.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// The effective uid of the process that connected, or, seen from that one, of the process that listened.
///
/// # Errors
/// As getsockopt(2).
pub fn uid(socket: &UnixStream) -> io::Result<u32> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: SO_PEERCRED writes a ucred, for which there is room as `length` says; both live until the call returns.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(peer.uid)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_other_end_of_an_own_pair_is_oneself() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().expect("a socket");
        assert_eq!(super::uid(&one).expect("a peer"), nix::unistd::geteuid().as_raw());
    }
}

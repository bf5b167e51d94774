//! Who is at the other end of a Unix socket (unix(7), `SO_PEERCRED`): the kernel's word, taken when the connection was made.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The effective uid of the process that connected, or, seen from that one, of the process that listened.
///
/// # Errors
/// As getsockopt(2).
pub fn uid(socket: &UnixStream) -> io::Result<u32> {
    process_and_uid(socket).map(|(_, uid)| uid)
}

/// Its number as well: 0 where it is in a pid namespace that this one does not see.
///
/// # Errors
/// As getsockopt(2).
pub fn process_and_uid(socket: &UnixStream) -> io::Result<(i32, u32)> {
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
    Ok((peer.pid, peer.uid))
}

/// Connects, for a bounded time: connect(2) waits while as many have asked as the listener admits, for ever where it is stopped.
///
/// # Errors
/// As socket(2) and connect(2); `WouldBlock` when it takes longer than `patience`.
pub fn connect(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    // SAFETY: no pointer is passed.
    let raw = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: socket(2) has just made this descriptor; nobody else owns it.
    let socket = UnixStream::from(unsafe { OwnedFd::from_raw_fd(raw) });
    // SO_SNDTIMEO is what connect(2) of a Unix socket waits for (unix_stream_connect, net/unix/af_unix.c).
    socket.set_write_timeout(Some(patience))?;
    let mut address = libc::sockaddr_un { sun_family: libc::AF_UNIX as libc::sa_family_t, sun_path: [0; _] };
    let bytes = path.as_os_str().as_bytes();
    // The last zero stays.
    if bytes.is_empty() || bytes.len() >= address.sun_path.len() || bytes.contains(&0) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: `address` is a whole sockaddr_un of that length, whose path ends with a zero, and lives until the call returns.
    match unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) } {
        0 => Ok(socket),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    #[test]
    fn a_listener_that_never_answers_holds_nobody_for_long() {
        let path = std::env::temp_dir().join(format!("nbt_peer_{}", std::process::id()));
        let _listener = std::os::unix::net::UnixListener::bind(&path).expect("a listener");
        let begun = Instant::now();
        let mut held = Vec::new();
        let refused = loop {
            match super::connect(&path, Duration::from_millis(50)) {
                Ok(socket) => held.push(socket),
                Err(e) => break e,
            }
            assert!(held.len() < 10_000, "there is a bound");
        };
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
        assert!(!held.is_empty() && begun.elapsed() < Duration::from_secs(5));
        let gone = super::connect(&path, Duration::from_millis(50)).expect_err("nobody");
        assert_eq!(gone.kind(), std::io::ErrorKind::NotFound);
    }

    #[test]
    fn the_other_end_of_an_own_pair_is_oneself() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().expect("a socket");
        assert_eq!(super::uid(&one).expect("a peer"), nix::unistd::geteuid().as_raw());
    }
}

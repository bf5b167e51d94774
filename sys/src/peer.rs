//! Who is at the other end of a Unix socket (unix(7), `SO_PEERCRED`), as the kernel noted it when the connection was made.

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_to, getsockopt, socket, sockopt,
};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// The effective uid of the process that connected, or, seen from that one, of the process that listened.
///
/// # Errors
/// As getsockopt(2).
pub fn uid(socket: &UnixStream) -> io::Result<u32> {
    Ok(getsockopt(socket, sockopt::PeerCredentials)?.uid())
}

/// Connects, for a bounded time: connect(2) waits while as many have asked as the listener admits, for ever where it is stopped.
///
/// # Errors
/// As socket(2) and connect(2); `WouldBlock` when it takes longer than `timeout`.
pub fn connect(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let address = UnixAddr::new(path)?;
    let stream = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let stream = UnixStream::from(stream);
    // SO_SNDTIMEO is what connect(2) of a Unix socket waits for (unix_stream_connect, net/unix/af_unix.c).
    stream.set_write_timeout(Some(timeout))?;
    connect_to(stream.as_raw_fd(), &address)?;
    Ok(stream)
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

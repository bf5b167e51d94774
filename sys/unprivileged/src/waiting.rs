//! Long waits, before which memory is given back.

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use nunbird_sys::memory::OwnProgram;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// A wait that lasts so long is a long one: reading pages again would show in a shorter one.
pub const LONG: Duration = Duration::from_secs(1);

/// Waits until there is something to read or the stream has ended, and gives memory back where that takes long.
///
/// # Errors
/// As setsockopt(2) and recv(2).
pub fn wait_to_read(socket: &UnixStream, program: OwnProgram) -> io::Result<()> {
    socket.set_read_timeout(Some(LONG))?;
    let seen = recv(socket.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK);
    socket.set_read_timeout(None)?;
    match seen {
        Ok(_) => Ok(()),
        Err(Errno::EAGAIN | Errno::EINTR) => {
            program.give_back();
            Ok(())
        }
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::{LONG, wait_to_read};
    use nunbird_sys::memory::OwnProgram;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    #[test]
    fn what_is_there_is_not_waited_for_and_nothing_of_it_is_lost() {
        let program = OwnProgram::look();
        let (mut here, there) = UnixStream::pair().expect("a pair");
        here.write_all(b"word").expect("written");
        let began = Instant::now();
        wait_to_read(&there, program).expect("it is there");
        assert!(began.elapsed() < LONG / 2);
        let mut bytes = [0; 4];
        (&there).read_exact(&mut bytes).expect("read");
        assert_eq!(&bytes, b"word");
        wait_to_read(&there, program).expect("a long wait is no error");
        assert!(there.read_timeout().expect("a socket").is_none());
        drop(here);
        wait_to_read(&there, program).expect("its end is something to read");
    }
}

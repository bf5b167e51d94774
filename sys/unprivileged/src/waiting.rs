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
    let look = || recv(socket.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK);
    socket.set_read_timeout(Some(LONG))?;
    let seen = look();
    socket.set_read_timeout(None)?;
    let seen = match seen {
        Err(Errno::EAGAIN) => {
            program.give_back();
            // From here, and not where it will be read: each function that is called brings its part of the program back.
            look()
        }
        seen => seen,
    };
    match seen {
        // What came of a wait that a signal has ended, reading shows.
        Ok(_) | Err(Errno::EINTR) => Ok(()),
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
        let began = Instant::now();
        let waited = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(LONG * 3 / 2);
                (&here).write_all(b"x").expect("written");
            });
            wait_to_read(&there, program).expect("a long wait is no error");
            began.elapsed()
        });
        assert!(waited > LONG * 5 / 4, "it did not wait until there was something");
        assert!(there.read_timeout().expect("a socket").is_none());
        (&there).read_exact(&mut [0]).expect("read");
        drop(here);
        wait_to_read(&there, program).expect("its end is something to read");
    }
}

//! Open files that pass to another process through a socket (unix(7), `SCM_RIGHTS`), where execve(2) closes all others.

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, RawFd};
use std::os::unix::net::UnixStream;

/// The most files of one message.
const MOST: usize = 3;
/// The most that the kernel lets a sender pass (`SCM_MAX_FD`, include/net/scm.h): with room for them all none is left open unseen.
const MOST_OF_ANY: usize = 253;

/// Sends one byte with these files, at most three.
///
/// # Errors
/// As sendmsg(2); `EINVAL` for none or more than three files.
pub fn send(socket: &UnixStream, byte: u8, files: &[&File]) -> io::Result<()> {
    if files.is_empty() || files.len() > MOST {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let numbers: Vec<RawFd> = files.iter().map(|file| file.as_raw_fd()).collect();
    let (bytes, rights) = ([byte], [ControlMessage::ScmRights(&numbers)]);
    match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&bytes)], &rights, MsgFlags::MSG_NOSIGNAL, None)? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        _ => Ok(()),
    }
}

/// Receives what [`send`] sent, the files marked to be closed by execve(2).
///
/// # Errors
/// As recvmsg(2): `ENOTSOCK` when it is no socket. `EBADMSG` when it is no such message.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<(u8, Vec<File>)> {
    let mut bytes = [0];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let mut room = nix::cmsg_space!([RawFd; MOST_OF_ANY]);
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut room), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut files = Vec::new();
    for rights in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = rights {
            // SAFETY: the kernel has just opened these descriptors in this process for the receiver; no other value owns them.
            files.extend(numbers.into_iter().map(|number| unsafe { File::from_raw_fd(number) }));
        }
    }
    let whole = message.bytes == 1 && files.len() <= MOST;
    let [byte] = bytes;
    if whole { Ok((byte, files)) } else { Err(io::Error::from_raw_os_error(libc::EBADMSG)) }
}

#[cfg(test)]
mod tests {
    use super::{receive, send};
    use std::fs::File;
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn files_arrive_open_in_their_order_and_are_closed_by_the_next_program() {
        let (ours, theirs) = UnixStream::pair().expect("a socket");
        let files: Vec<File> = ["one", "two", "three"]
            .into_iter()
            .map(|text| {
                let mut file = tempfile();
                file.write_all(text.as_bytes()).expect("text");
                file.rewind().expect("rewind");
                file
            })
            .collect();
        let all: Vec<&File> = files.iter().collect();
        assert!(send(&ours, 1, &[]).is_err());
        send(&ours, 7, &all).expect("sent");
        let (byte, received) = receive(theirs.as_fd()).expect("received");
        let texts: Vec<String> = received
            .iter()
            .map(|mut file| {
                let mut text = String::new();
                file.read_to_string(&mut text).expect("text");
                let flags = nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_GETFD).expect("flags");
                assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
                text
            })
            .collect();
        assert_eq!((byte, texts), (7, vec!["one".to_owned(), "two".to_owned(), "three".to_owned()]));
    }

    #[test]
    fn more_files_than_a_message_has_are_closed_and_no_message() {
        let (ours, theirs) = UnixStream::pair().expect("a socket");
        let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
        let file = File::from(nix::sys::memfd::memfd_create(c"nbt-many", flags).expect("memory"));
        let numbers = [std::os::fd::AsRawFd::as_raw_fd(&file); super::MOST + 1];
        let rights = [nix::sys::socket::ControlMessage::ScmRights(&numbers)];
        let (byte, flags) = ([std::io::IoSlice::new(b"x")], nix::sys::socket::MsgFlags::empty());
        let socket = std::os::fd::AsRawFd::as_raw_fd(&ours);
        nix::sys::socket::sendmsg::<()>(socket, &byte, &rights, flags, None).expect("sent");
        let open = || std::fs::read_dir("/proc/self/fd").expect("descriptors").flatten();
        let of_memory = || open().filter(|e| std::fs::read_link(e.path()).is_ok_and(is_of_this_test)).count();
        assert_eq!(receive(theirs.as_fd()).expect_err("too many").raw_os_error(), Some(libc::EBADMSG));
        assert_eq!(of_memory(), 1, "the sender's own");
    }

    fn is_of_this_test(link: std::path::PathBuf) -> bool {
        link.to_string_lossy().contains("nbt-many")
    }

    #[test]
    fn what_is_no_socket_or_has_ended_gives_nothing() {
        let refused = receive(tempfile().as_fd()).expect_err("no socket");
        assert_eq!(refused.raw_os_error(), Some(libc::ENOTSOCK));
        let (ours, theirs) = UnixStream::pair().expect("a socket");
        drop(ours);
        assert_eq!(receive(theirs.as_fd()).expect_err("ended").raw_os_error(), Some(libc::EBADMSG));
    }

    fn tempfile() -> File {
        let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
        File::from(nix::sys::memfd::memfd_create(c"nbt", flags).expect("memory"))
    }
}

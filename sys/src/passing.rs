//! Open files that pass to another process through a socket (unix(7), `SCM_RIGHTS`), where execve(2) closes all others.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, RawFd};
use std::os::unix::net::UnixStream;

/// The most files of one message.
const MOST: usize = 3;
/// The bytes of their numbers.
const NUMBERS: libc::c_uint = (MOST * size_of::<RawFd>()) as libc::c_uint;
/// Room for the control message, aligned as cmsg(3) demands: more than `CMSG_SPACE` of three numbers on any architecture.
type Room = [u64; 8];

/// Sends one byte with these files, at most three.
///
/// # Errors
/// As sendmsg(2); `EINVAL` for none or more than three files.
pub fn send(socket: &UnixStream, byte: u8, files: &[&File]) -> io::Result<()> {
    if files.is_empty() || files.len() > MOST {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let (mut byte, mut room): (_, Room) = ([byte], [0; 8]);
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: byte.len() };
    let mut message = message(&mut part, &mut room);
    let length = (files.len() * size_of::<RawFd>()) as libc::c_uint;
    // SAFETY: CMSG_SPACE and CMSG_LEN only count. The room is zeroed, aligned and larger than CMSG_SPACE of three numbers, so
    // CMSG_FIRSTHDR is not null and the numbers written behind the header lie in it. sendmsg reads what `message` points to,
    // all of which lives until it returns.
    let sent = unsafe {
        message.msg_controllen = libc::CMSG_SPACE(length) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(length) as _;
        let numbers = libc::CMSG_DATA(header).cast::<RawFd>();
        for (index, file) in files.iter().enumerate() {
            numbers.add(index).write_unaligned(file.as_raw_fd());
        }
        libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)
    };
    match sent {
        1 => Ok(()),
        0 => Err(io::Error::from(io::ErrorKind::WriteZero)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Receives what [`send`] sent, the files marked to be closed by execve(2).
///
/// # Errors
/// As recvmsg(2): `ENOTSOCK` when it is no socket. `EBADMSG` when it is no such message.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<(u8, Vec<File>)> {
    let (mut byte, mut room): (_, Room) = ([0], [0; 8]);
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: byte.len() };
    let mut message = message(&mut part, &mut room);
    let mut files = Vec::new();
    // SAFETY: recvmsg writes within the byte and the room, whose lengths `message` has, and both live on. What it gives are whole
    // headers: CMSG_FIRSTHDR is null or the first of them, and `cmsg_len` counts the numbers behind it, which the kernel has
    // just opened in this process for the receiver, so that nobody else owns them.
    let received = unsafe {
        message.msg_controllen = libc::CMSG_SPACE(NUMBERS) as _;
        let received = libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC);
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        if received >= 0
            && !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SCM_RIGHTS
        {
            let bytes = ((*header).cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
            let numbers = libc::CMSG_DATA(header).cast::<RawFd>();
            for index in 0..(bytes / size_of::<RawFd>()).min(MOST) {
                files.push(File::from_raw_fd(numbers.add(index).read_unaligned()));
            }
        }
        received
    };
    if received < 0 {
        return Err(io::Error::last_os_error());
    }
    let [byte] = byte;
    let whole = received == 1 && message.msg_flags & libc::MSG_CTRUNC == 0;
    if whole { Ok((byte, files)) } else { Err(io::Error::from_raw_os_error(libc::EBADMSG)) }
}

/// A message of one piece. The pointers in it are those of its arguments, which must live as long as it is used.
fn message(part: &mut libc::iovec, room: &mut Room) -> libc::msghdr {
    // SAFETY: msghdr holds numbers and pointers, for which all zeros are valid: null and none.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message.msg_control = room.as_mut_ptr().cast();
    message
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

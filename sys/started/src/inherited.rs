//! Taking over the descriptors that a program was started with.
//!
//! The launcher gets its files open, by number, from the program before it. A number alone proves nothing
//! about who owns it: this module gives each of the numbers 3 to 9 out once, and only when the descriptor
//! there has really come through execve(2). To be called before the process opens anything of its own.

use std::fs::File;
use std::io;
use std::os::fd::{FromRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

const FIRST: RawFd = 3;
static TAKEN: [AtomicBool; 7] = [const { AtomicBool::new(false) }; 7];

/// The descriptor with this number, marked to be closed by the next execve(2).
///
/// # Errors
/// `EBADF` when the number is not open, not one of 3 to 9, given out before, or not inherited.
pub fn take(fd: RawFd) -> io::Result<File> {
    let refused = || io::Error::from_raw_os_error(libc::EBADF);
    let slot = fd.checked_sub(FIRST).and_then(|n| usize::try_from(n).ok()).and_then(|n| TAKEN.get(n));
    let slot = slot.ok_or_else(refused)?;
    // SAFETY: F_GETFD takes a number and no pointer; a closed descriptor answers EBADF.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    // What the standard library and nix open is marked close-on-exec and cannot have come through execve.
    if flags & libc::FD_CLOEXEC != 0 || slot.swap(true, Ordering::SeqCst) {
        return Err(refused());
    }
    // SAFETY: F_SETFD takes a number and no pointer.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, flags | libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open; it was inherited, so no value of this process owns it; the flag above
    // gives it out once, so no other value owns it beside the file returned.
    Ok(unsafe { File::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::take;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_descriptor_of_our_own_is_never_given_out() {
        let files: Vec<_> = (0..10).map(|_| std::fs::File::open("/dev/null").expect("null")).collect();
        for file in &files {
            assert!(take(file.as_raw_fd()).is_err());
        }
    }

    #[test]
    fn only_the_numbers_three_to_eight_are_given_out() {
        for number in [i32::MIN, -1, 0, 1, 2, 9, i32::MAX] {
            assert_eq!(take(number).expect_err("no").raw_os_error(), Some(libc::EBADF), "{number}");
        }
    }
}

//! Random numbers from the kernel.

use std::io;

/// Fills the bytes.
///
/// By the system call: a library's generator would first collect entropy of its own, for thirty milliseconds.
///
/// # Errors
/// As getrandom(2).
pub fn fill(bytes: &mut [u8; 16]) -> io::Result<()> {
    // SAFETY: the pointer and the length are of one live array. Up to 256 bytes come whole (getrandom(2)).
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if usize::try_from(got) == Ok(bytes.len()) { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_fillings_differ() {
        let (mut one, mut two) = ([0; 16], [0; 16]);
        super::fill(&mut one).expect("random bytes");
        super::fill(&mut two).expect("random bytes");
        assert_ne!(one, two);
        assert_ne!(one, [0; 16]);
    }
}

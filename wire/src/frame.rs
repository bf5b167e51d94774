//! Messages on a stream: a `u32` length, little-endian, and so many bytes.

use std::io::{self, Read, Write};

/// Writes a message.
///
/// # Errors
/// As write(2); `InvalidInput` for more than a `u32` can count.
pub fn write_frame(mut stream: impl Write, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[length.to_le_bytes().as_slice(), message].concat())
}

/// Reads a message of at most `most` bytes; none where the stream has ended before it.
///
/// # Errors
/// As read(2); `InvalidData` for a longer message, `UnexpectedEof` for one that is cut short.
pub fn read_frame(mut stream: impl Read, most: usize) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    let mut got = 0;
    while let Some(rest) = length.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest) {
            Ok(0) if got == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let length = usize::try_from(u32::from_le_bytes(length)).map_err(|_| io::ErrorKind::InvalidData)?;
    if length > most {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message)?;
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::{read_frame, write_frame};
    use std::io::ErrorKind;

    #[test]
    fn a_message_is_read_whole_or_not_at_all() {
        let mut stream = Vec::new();
        write_frame(&mut stream, b"one").expect("written");
        write_frame(&mut stream, b"").expect("written");
        let mut input = stream.as_slice();
        assert_eq!(read_frame(&mut input, 3).expect("one"), Some(b"one".to_vec()));
        assert_eq!(read_frame(&mut input, 3).expect("nothing"), Some(Vec::new()));
        assert_eq!(read_frame(&mut input, 3).expect("the end"), None);
        assert_eq!(read_frame(stream.as_slice(), 2).expect_err("too long").kind(), ErrorKind::InvalidData);
        for end in 1..7 {
            let cut = read_frame(&stream[..end], 9).expect_err("cut short");
            assert_eq!(cut.kind(), ErrorKind::UnexpectedEof, "{end}");
        }
    }

    /// A stream whose first read fails in this way.
    struct Failing(Option<ErrorKind>, &'static [u8]);

    impl std::io::Read for Failing {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            match self.0.take() {
                Some(kind) => Err(kind.into()),
                None => self.1.read(into),
            }
        }
    }

    #[test]
    fn a_read_that_a_signal_interrupts_is_done_again_and_any_other_error_is_one() {
        let message = b"\x02\0\0\0ok";
        let again = read_frame(Failing(Some(ErrorKind::Interrupted), message), 2).expect("read again");
        assert_eq!(again, Some(b"ok".to_vec()));
        let failed = read_frame(Failing(Some(ErrorKind::WouldBlock), message), 2).expect_err("an error");
        assert_eq!(failed.kind(), ErrorKind::WouldBlock);
    }
}

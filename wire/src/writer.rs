//! Writing a message.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A message that is being written.
///
/// A field longer than a `u32` can count makes the whole message empty, which no reader takes.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    too_long: bool,
}

impl Writer {
    /// One byte.
    pub fn u8(&mut self, number: u8) {
        self.bytes.push(number);
    }

    /// Two bytes.
    pub fn u16(&mut self, number: u16) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    /// Four bytes.
    pub fn u32(&mut self, number: u32) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    /// Eight bytes.
    pub fn u64(&mut self, number: u64) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    /// A truth.
    pub fn flag(&mut self, truth: bool) {
        self.u8(u8::from(truth));
    }

    fn count(&mut self, count: usize) {
        let number = u32::try_from(count);
        self.too_long |= number.is_err();
        self.u32(number.unwrap_or(0));
    }

    /// Bytes with their length before them.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// A text.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// A path.
    pub fn path(&mut self, path: &Path) {
        self.bytes(path.as_os_str().as_bytes());
    }

    /// An optional field.
    pub fn optional<T>(&mut self, field: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(field.is_some());
        if let Some(field) = field {
            write(self, field);
        }
    }

    /// A list.
    pub fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.count(items.len());
        for item in items {
            write(self, item);
        }
    }

    /// The message.
    pub fn into_bytes(self) -> Vec<u8> {
        if self.too_long { Vec::new() } else { self.bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::Writer;
    use crate::{Malformed, Reader};
    use std::path::Path;

    #[test]
    fn every_kind_of_field_is_read_as_it_was_written() {
        let mut out = Writer::default();
        out.u8(7);
        out.u16(300);
        out.u32(70_000);
        out.u64(u64::MAX);
        out.flag(true);
        out.text("Äpfel");
        out.path(Path::new("/a b"));
        out.optional(Some("x"), Writer::text);
        out.optional(None::<&str>, Writer::text);
        out.list(&[1_u32, 2], |out, n| out.u32(*n));
        let bytes = out.into_bytes();
        let mut input = Reader::new(&bytes);
        assert_eq!((input.u8(), input.u16(), input.u32()), (Ok(7), Ok(300), Ok(70_000)));
        assert_eq!((input.u64(), input.flag()), (Ok(u64::MAX), Ok(true)));
        assert_eq!(input.text(), Ok("Äpfel".to_owned()));
        assert_eq!(input.path(), Ok("/a b".into()));
        assert_eq!(input.optional(Reader::text), Ok(Some("x".to_owned())));
        assert_eq!(input.optional(Reader::text), Ok(None));
        assert_eq!(input.list(2, Reader::u32), Ok(vec![1, 2]));
        assert_eq!(input.end(()), Ok(()));
    }

    #[test]
    fn what_is_cut_short_too_long_or_not_text_is_malformed() {
        let mut out = Writer::default();
        out.text("text");
        let bytes = out.into_bytes();
        for end in 0..bytes.len() {
            assert_eq!(Reader::new(&bytes[..end]).text(), Err(Malformed), "{end}");
        }
        let longer = [bytes.as_slice(), b"!"].concat();
        let mut input = Reader::new(&longer);
        assert!(input.text().is_ok());
        assert_eq!(input.end(()), Err(Malformed));
        assert_eq!(Reader::new(&[2]).flag(), Err(Malformed));
        assert_eq!(Reader::new(&[1, 0, 0, 0, 0xff]).text(), Err(Malformed));
        assert_eq!(Reader::new(&[1, 0, 0, 0, 0]).path(), Err(Malformed));
        assert_eq!(Reader::new(&[3, 0, 0, 0, 1, 2, 3]).list(2, Reader::u8), Err(Malformed));
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff]).bytes(), Err(Malformed));
    }
}

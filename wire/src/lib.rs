//! Messages of fixed layout, field by field, and their frames on a stream.
//!
//! Nothing is chosen by the bytes but how long a text is and whether an optional field is there. Numbers are little-endian; a text or bytes
//! have a `u32` length before them, a list has a `u32` count, an optional field begins with 0 or 1, a truth is 0 or 1. A reader believes nothing:
//! every length is held against what is left, a text must be UTF-8, and a byte too many is an error ([`Reader::end`]).

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod frame;
mod layout;
mod reader;
mod version;
mod writer;

pub use frame::{read_frame, write_frame};
pub use reader::{Malformed, Reader};
pub use version::{FORMAT_VERSION, FormatError, Version};
pub use writer::Writer;

/// A value that has a layout.
pub trait Message: Sized {
    /// Writes the fields in their order.
    fn write(&self, out: &mut Writer);

    /// Reads what [`Message::write`] wrote.
    ///
    /// # Errors
    /// [`Malformed`] for anything else.
    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed>;

    /// Writes a list of these: their count and each of them.
    fn write_list(items: &[Self], out: &mut Writer) {
        out.list(items, |out, item| item.write(out));
    }

    /// Reads what [`Message::write_list`] wrote.
    ///
    /// # Errors
    /// As [`Message::read`].
    fn read_list(input: &mut Reader<'_>) -> Result<Vec<Self>, Malformed> {
        input.list(usize::MAX, Self::read)
    }

    /// The message as bytes.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        self.write(&mut out);
        out.into_bytes()
    }

    /// Reads a whole message.
    ///
    /// # Errors
    /// [`Malformed`] for anything but exactly one message.
    fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader::new(bytes);
        let message = Self::read(&mut input)?;
        input.end(message)
    }
}

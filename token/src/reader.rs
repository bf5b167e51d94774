//! Reads a message of the worker byte by byte.

use crate::claims::is_plain;

/// The message is not one that an intact worker sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireError;

/// The rest of the message.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader(bytes)
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], WireError> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(WireError)?;
        self.0 = tail;
        Ok(head)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, WireError> {
        self.take(1)?.first().copied().ok_or(WireError)
    }

    pub(crate) fn short(&mut self) -> Result<u16, WireError> {
        let bytes = self.take(2)?.try_into().map_err(|_| WireError)?;
        Ok(u16::from_le_bytes(bytes))
    }

    pub(crate) fn word(&mut self) -> Result<u32, WireError> {
        let bytes = self.take(4)?.try_into().map_err(|_| WireError)?;
        Ok(u32::from_le_bytes(bytes))
    }

    pub(crate) fn number(&mut self) -> Result<u64, WireError> {
        let bytes = self.take(8)?.try_into().map_err(|_| WireError)?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub(crate) fn id(&mut self) -> Result<u64, WireError> {
        self.number().and_then(|n| if n == 0 { Err(WireError) } else { Ok(n) })
    }

    pub(crate) fn raw_text(&mut self) -> Result<&'a str, WireError> {
        let length = usize::from(self.short()?);
        std::str::from_utf8(self.take(length)?).map_err(|_| WireError)
    }

    pub(crate) fn text(&mut self) -> Result<String, WireError> {
        let text = self.raw_text()?;
        if is_plain(text) { Ok(text.to_owned()) } else { Err(WireError) }
    }

    pub(crate) fn required_text(&mut self) -> Result<String, WireError> {
        self.text().and_then(|text| if text.is_empty() { Err(WireError) } else { Ok(text) })
    }

    /// A count, and that many strings.
    pub(crate) fn texts(&mut self, most: usize) -> Result<Vec<String>, WireError> {
        let count = usize::from(self.byte()?);
        if count > most {
            return Err(WireError);
        }
        (0..count).map(|_| self.required_text()).collect()
    }

    /// The value, if nothing follows it.
    pub(crate) fn end<T>(self, value: T) -> Result<T, WireError> {
        if self.0.is_empty() { Ok(value) } else { Err(WireError) }
    }
}

//! The version that begins every message and every file.

use crate::{Malformed, Message, Reader, Writer};

/// The version of every message and of the job record. All programs come from one build; a difference is an error.
pub const FORMAT_VERSION: u32 = 5;

/// The version, as the first field of a message: written as [`FORMAT_VERSION`], and no other is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Version;

impl Message for Version {
    fn write(&self, out: &mut Writer) {
        out.u32(FORMAT_VERSION);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        if input.u32()? == FORMAT_VERSION { Ok(Version) } else { Err(Malformed) }
    }
}

/// Why a message or a file could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormatError {
    /// Not the layout that is expected.
    Malformed,
    /// Written by another version of Nunbird.
    Version,
}

impl FormatError {
    /// Reads a message that begins with [`Version`].
    ///
    /// # Errors
    /// [`FormatError::Version`] where another number begins it, [`FormatError::Malformed`] for everything else.
    pub fn read<M: Message>(bytes: &[u8]) -> Result<M, FormatError> {
        M::from_bytes(bytes).map_err(|_| match bytes.first_chunk() {
            Some(number) if u32::from_le_bytes(*number) != FORMAT_VERSION => FormatError::Version,
            _ => FormatError::Malformed,
        })
    }
}

impl std::fmt::Display for FormatError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FormatError::Malformed => f.write_str("malformed"),
            FormatError::Version => write!(f, "of another version; this one reads format {FORMAT_VERSION}"),
        }
    }
}

impl std::error::Error for FormatError {}

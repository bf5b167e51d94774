//! How much a pipeline may hold, in values and in bytes of text.
//!
//! A file of some lines can stand for gigabytes, by aliases, references and `extends`. One budget for all files of a pipeline counts
//! what each of them copies, before it is copied.

use crate::failure::{Failure, Place};

/// The most values of a pipeline: of all its files, with the copies that aliases, references and `extends` make.
pub const MOST_VALUES: usize = 400_000;
/// The most bytes of their texts.
pub const MOST_BYTES: usize = 32 << 20;

/// How large a part of the tree is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Nodes and keys.
    pub values: usize,
    /// Bytes of their texts.
    pub bytes: usize,
}

impl Size {
    /// Of a key or a text.
    pub fn of_text(text: &str) -> Size {
        Size { values: 1, bytes: text.len() }
    }

    /// More of it.
    pub fn add(&mut self, more: Size) {
        self.values = self.values.saturating_add(more.values);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }
}

/// What a pipeline may still hold. Everything that makes a part of the tree, or copies one, spends from it first.
#[derive(Debug, Default)]
pub struct Budget {
    spent: Size,
}

impl Budget {
    /// Takes the size of a part.
    ///
    /// # Errors
    /// When it is too large, with the place of what asks for it.
    pub fn spend(&mut self, size: Size, place: &Place) -> Result<(), Failure> {
        self.spent.add(size);
        let what = match () {
            () if self.spent.values > MOST_VALUES => format!("{MOST_VALUES} values"),
            () if self.spent.bytes > MOST_BYTES => format!("{MOST_BYTES} bytes of text"),
            () => return Ok(()),
        };
        Err(Failure::new(format!(
            "the pipeline has more than {what}, with the copies that aliases, `!reference` and `extends:` make"
        ))
        .at(place)
        .help("have fewer or smaller copies here, such as of what a job needs, and not of a whole job"))
    }
}

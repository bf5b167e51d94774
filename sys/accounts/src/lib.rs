//! The databases of accounts and groups, and what they answer. A crate of its own, so that only programs that look accounts up link it.
//!
//! Everything here is safe to call, as in `nunbird-sys`, and each `unsafe` block has the argument why it is sound.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod shadow;
pub mod users;

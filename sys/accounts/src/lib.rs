//! The databases of accounts and groups, and what they answer. A crate of its own, so that only programs that look accounts up link it.
//!
//! Everything here is safe to call, as in `nunbird-sys`, and each `unsafe` block has the argument why it is sound.

pub mod shadow;
pub mod users;

//! System calls that only the programs make which another one of Nunbird's has started: with descriptors of its choice, in a session of
//! modules, or to run a program that is not Nunbird's. They are a crate of their own, so that `nunbird-auth` does not link them.
//!
//! Everything here is safe to call, as in `nunbird-sys`, and each `unsafe` block has the argument why it is sound.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod attribute;
pub mod inherited;
pub mod process;
pub mod script;
pub mod session;

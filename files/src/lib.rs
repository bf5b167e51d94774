//! Files whose owner, mode and path are checked before they are believed, and the ids under which they are opened.
//!
//! Called with privilege and without. Nothing here follows a symbolic link that another account could have made, and what
//! has been checked is a descriptor that stays open, not a path.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod directory;
pub mod foreign;
pub mod identity;
pub mod lines;
pub mod provision;
pub mod trusted;

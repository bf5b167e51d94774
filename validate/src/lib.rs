//! `nunbird-validate`: the site's validation program, run as its own account for a bounded time, and nothing of it left behind.
//!
//! Started by `nunbird-auth` alone, for each call of the program. With privilege it has a uid that no account has, and two capabilities, for as
//! long as it takes to start the program in a child: before it reads a byte of what that says, it has none, and of the account's rights only
//! that of ending its processes. The program can neither signal nor trace it, nor change its limits. Without privilege both are one account's.
//!
//! Any error is a report of trouble, and so is the end without a report.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod foreign;
mod program;
mod supervisor;

pub use supervisor::serve;

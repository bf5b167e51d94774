//! From privilege to a job's launcher: the same steps, in the same order and with the same proof, in every program that
//! starts one. Called by `nunbird-auth`, and by `nunbird-session` where jobs get a PAM session; by `nunbird --sudo` where sudo has changed the user.
//!
//! Nothing is decided here. Every failure means that the process must end without doing anything else.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod isolation;
pub mod launch;

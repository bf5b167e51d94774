//! System calls that only programs without privilege make, `nunbird-decide` and the launcher among them. They are a crate of their own, so that
//! no program with privilege links them.
//!
//! Everything here is safe to call, as in `nunbird-sys`, and each `unsafe` block has the argument why it is sound.

pub mod job_command;
pub mod process;
pub mod waiting;

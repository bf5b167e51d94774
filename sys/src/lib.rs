//! System calls. The only crate with `unsafe` beside `pam/`, `sys/accounts/`, `sys/mounts/`, `sys/started/` and
//! `sys/unprivileged/`, each block with the argument why it is sound.
//!
//! Everything here is safe to call. The documentation names what needs privilege; nothing here decides anything.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod answer;
pub mod capabilities;
pub mod clock;
pub mod effective;
pub mod environment;
pub mod exec;
pub mod fork;
pub mod kernel;
pub mod memory;
pub mod offspring;
pub mod passing;
pub mod peer;
pub mod priority;
pub mod process;
pub mod random;
pub mod rlimits;
pub mod seccomp;
pub mod signals;
pub mod syscall;

//! The parts of the job record that `nunbird-machine` gets, and what it says about them. A crate of its own, so that it links neither the
//! record, orders for sessions, nor codes of refusals.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod account;
mod machine;

pub use account::{AccountIds, MachineAccount};
pub use machine::{MAX_MACHINE_ANSWER, MAX_MACHINE_REQUEST, MachineAnswer, MachineOrder, MachineRequest};

//! The parts of the job record that `nunbird-limits` and `nunbird-machine` get, and what these two say about them. A crate of its own, so that
//! neither links the record, orders for sessions, or codes of refusals.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod account;
mod group;
mod machine;

pub use account::AccountIds;
pub use group::Group;
pub use machine::{
    MAX_MACHINE_ANSWER, MAX_MACHINE_REQUEST, Machine, MachineAccount, MachineAnswer, MachineBind,
    MachineRequest,
};

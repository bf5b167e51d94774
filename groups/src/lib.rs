//! What `nunbird-auth` and `nunbird-session` ask of `nunbird-limits`, and how they start it.
//!
//! One process for each request: one message there, one back through a socket, and behind that open files, the [`Counter`]s. What a group is
//! made of is [`Order`], the decider's word; what was made comes back as bytes that nobody but `nunbird-limits` reads. All programs come from
//! one build; another [`Version`](nunbird_wire::Version) is an error.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod counter;
mod messages;
mod order;
mod start;

pub use counter::Counter;
pub use messages::{Answer, MAX_ANSWER, MAX_COUNTERS, MAX_REQUEST, Make, Request, Systemd};
pub use nunbird_parts::Group;
pub use order::{Disk, MAX_DISKS, Order};
pub use start::{As, PROGRAM, SOCKET_FD, ask};

#[cfg(test)]
mod tests;

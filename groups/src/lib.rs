//! What `nunbird-auth` and `nunbird-session` ask of `nunbird-limits`, which `groups/ask/` starts.
//!
//! One process for each request: one message there, one back through a socket, and behind that open files, the [`Counter`]s. What a group is
//! made of is the decider's word, in bytes (`nunbird_gauges::Order`); what was made comes back as bytes that only `nunbird-limits`
//! reads. All programs come from one build; another [`Version`](nunbird_wire::Version) is an error.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod counter;
mod messages;

pub use counter::Counter;
pub use messages::{Answer, MAX_ANSWER, MAX_COUNTERS, MAX_REQUEST, Make, Request, SOCKET_FD, Systemd};
pub use nunbird_group::Group;

#[cfg(test)]
mod tests;

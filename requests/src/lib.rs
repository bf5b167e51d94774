//! What `nunbird-decide` asks of `nunbird-auth`: one request at a time through a socket, each answered before the next.
//!
//! `nunbird-auth` begins with a [`Start`] and the open files that it names. What it is asked to do it judges by itself: a request is the word
//! of a process without privilege. Both programs come from one build; another
//! [`Version`](nunbird_messages::Version) is an error.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod reply;
mod request;
mod stage;
mod start;

pub use nunbird_messages::RefusedBy;
pub use reply::{Fetched, Reply};
pub use request::{Confine, Request, Slot};
pub use stage::{Counted, Launch, Stage, StageEnd, StageKind, Status, Tidying};
pub use start::{Privileges, Start, Task};

/// The number of the socket to `nunbird-auth` in the decider.
pub const MONITOR_FD: i32 = 3;
/// The number of the socket to the other of the two in decider and verifier.
pub const PEER_FD: i32 = 4;
/// The number of the job response in the verifier.
pub const RESPONSE_FD: i32 = 5;
/// The longest request, in bytes: a record, or the token for a server.
pub const MAX_REQUEST: usize = 256 << 10;
/// The longest reply, in bytes: the answer of a server about a job, or a keys file.
pub const MAX_REPLY: usize = 4 << 20;

#[cfg(test)]
mod tests;

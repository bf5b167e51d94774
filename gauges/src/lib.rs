//! What `nunbird-decide` and `nunbird-limits` say to each other about a job's control group, which `nunbird-auth` passes on unread and does not
//! link: what the group is to be ([`Order`]), and what each of its counters is.
//!
//! `nunbird-limits` opens and describes the counters, `nunbird-auth` passes on the description and what is in the files, both unread, and
//! `nunbird-decide` understands them (`nunbird_audit::usage`). So no program with privilege parses what the kernel counts.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod order;

use nunbird_wire::choice;
pub use order::{Disk, Order};

/// What is counted: a field of `nunbird_audit::Usage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields of Usage have them")]
pub enum Count {
    MemoryPeak,
    CpuTime,
    Throttled,
    PidsPeak,
    Read,
    Written,
    OomKills,
    ForksRefused,
}

/// How a file's content is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// Text with numbers: those behind the word, together, or with an empty word the first one; divided by this.
    Text(String, u32),
    /// An event of the kernel's: how often it has happened.
    Event,
    /// As a text, but 0 says nothing: it is counted where a process was, which may be in a group below this one.
    AboveZero(String),
}

choice!(Reading { 0 => Text(word, divisor), 1 => Event, 2 => AboveZero(word) });
choice!(Count {
    0 => MemoryPeak,
    1 => CpuTime,
    2 => Throttled,
    3 => PidsPeak,
    4 => Read,
    5 => Written,
    6 => OomKills,
    7 => ForksRefused,
});

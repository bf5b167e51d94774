//! A job's control group, as the record keeps it between stages. A crate of its own, so that `nunbird-limits`, which gets it, links no other
//! part of the record.

#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use nunbird_wire::layout;

/// A group that `nunbird-limits` has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The site's name of the limits, for messages.
    pub limits: String,
    /// Whether its directories are the runner's and not the keeper's.
    pub is_runners: bool,
    /// The uid that they have.
    pub owner: u32,
    /// GitLab's id of its job.
    pub job_id: u64,
    /// The first half of the decision's id.
    pub decision: u64,
    /// What only `nunbird-limits` reads, which may have made it with fewer rights than it is given to enter or to end the group: believed
    /// only for a group with the name and the owner that the fields before say.
    pub bytes: Vec<u8>,
}

layout!(Group { limits, is_runners, owner, job_id, decision, bytes });

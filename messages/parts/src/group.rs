//! A job's control group, as the record keeps it between stages.

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

//! A job's control group, as the record keeps it between stages.

use nunbird_wire::layout;

/// A group that `nunbird-limits` has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The site's name of the limits, for messages.
    pub limits: String,
    /// Whether its directories are the runner's and not the keeper's.
    pub is_runners: bool,
    /// What only `nunbird-limits` reads.
    pub bytes: Vec<u8>,
}

layout!(Group { limits, is_runners, bytes });

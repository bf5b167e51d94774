//! What a job asked for beside its script, and does not get.

use serde::{Deserialize, Serialize};

/// `image:`, `services:` and `run:` of a job. The user's words, for the job log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unserved {
    /// The name of the image.
    pub image: Option<String>,
    /// The names of the services, with `, ` between them.
    pub services: Option<String>,
    /// Whether the job has steps.
    pub steps: bool,
}

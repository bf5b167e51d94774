//! The script of a `run`, as events name it.

use serde::Serialize;

/// Which script it is.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Script {
    /// gitlab-runner's name of the stage: `build_script`, …
    #[serde(rename = "script")]
    pub(crate) name: String,
    /// SHA-256 of the bytes that are run, in hexadecimal.
    #[serde(rename = "script_sha256")]
    pub(crate) digest: String,
}

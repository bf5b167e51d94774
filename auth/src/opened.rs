//! What every way to the launcher begins with: the files that the runner named, which script is among them, and the refusal where a
//! step fails.

use crate::refusal::{Code, Refusal};
use serde::Serialize;
use std::fmt::Display;
use std::fs::File;

/// Files that the runner named, opened as the runner.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    pub(crate) script: Option<File>,
    pub(crate) exit_code: Option<File>,
}

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

pub(crate) fn could_not_start(step: &str, error: &dyn Display) -> Refusal {
    let message = "the job's launcher could not be started on this host";
    Refusal::system(Code::Launcher, message, format!("{step}: {error}"))
}

//! What every way to the launcher begins with: the files that the runner named, and the refusal where a step fails.

use crate::refusal::{Code, Refusal};
use std::fmt::Display;
use std::fs::File;

/// Files that the runner named, opened as the runner.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    pub(crate) script: Option<File>,
    pub(crate) exit_code: Option<File>,
}

pub(crate) fn could_not_start(step: &str, error: &dyn Display) -> Refusal {
    let message = "the job's launcher could not be started on this host";
    Refusal::system(Code::Launcher, message, format!("{step}: {error}"))
}

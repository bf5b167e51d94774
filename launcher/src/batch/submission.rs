//! What a submission needs, on disk before it happens.

use super::description::Description;
use super::stage::{Intent, Stage};
use super::{agent, log};
use crate::{Trouble, say};
use nunbird_handover::{Batch, Handover};
use nunbird_sys::random;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Writes down what is about to be submitted, with everything that the job needs.
pub(super) fn intend(
    handover: &Handover,
    batch: &Batch,
    name: &str,
    description: &Description,
    stage: &Stage,
    script: Option<File>,
) -> Result<Intent, Trouble> {
    let mut bytes = [0; 16];
    random::fill(&mut bytes)
        .map_err(|e| Trouble::new("cannot get random numbers", e, "run the job again"))?;
    let nonce: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let prefix = prefix(batch.job_prefix.as_deref().unwrap_or_default());
    let tag = format!("{prefix}nb{}-{}", handover.job_id, &nonce[..10]);
    let script = script.ok_or(io::ErrorKind::NotFound).map_err(io::Error::from);
    let script = script.and_then(|file| read_whole(&file));
    let script = script.map_err(|e| Trouble::new("cannot read the script", e, "run the job again"))?;
    stage.write("script", &[agent::BEGIN, &script])?;
    stage.write("agent", &[&agent::text(handover, name, stage.path(), &nonce, &description.agent)])?;
    for file in ["out", "err", "log"] {
        stage.touch(file)?;
    }
    let intent = Intent { tag, nonce, time: log::epoch() };
    stage.keep("intent", &intent)?;
    Ok(intent)
}

/// `SCHEDULER_JOB_PREFIX` as the beginning of a job's name.
fn prefix(wanted: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.".contains(c) || c == '-';
    if !wanted.chars().all(plain) || wanted.starts_with('-') {
        say("leaving SCHEDULER_JOB_PREFIX out: it may have letters, digits, `_`, `.` and `-` only");
        return String::new();
    }
    let prefix: String = wanted.chars().take(32).collect();
    if prefix.is_empty() { prefix } else { prefix + "-" }
}

/// From its beginning, whatever the descriptor's position.
fn read_whole(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

//! Writes to disk what a submission needs, before it happens.

use super::description::{Description, Submit};
use super::stage::{Intent, Stage};
use super::{agent, log};
use nunbird_container::{of_stage, write_for_allocation};
use nunbird_handover::{Batch, Handover};
use nunbird_stage::{StageError, print_message};
use nunbird_sys::random;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};

/// Records the submission to come, with everything that the job needs.
pub(super) fn intend(
    handover: &Handover,
    batch: &Batch,
    name: &str,
    description: &Description,
    stage: &Stage,
    script: Option<&File>,
) -> Result<Intent, StageError> {
    let mut bytes = [0; 16];
    random::fill(&mut bytes)
        .map_err(|e| StageError::new("cannot get random numbers", e, "run the job again"))?;
    let nonce: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let tag =
        tag(batch.job_prefix.as_deref().unwrap_or_default(), handover.job_id, &nonce, &description.submit);
    let script = script.ok_or(io::ErrorKind::NotFound).map_err(io::Error::from);
    let script = script.and_then(read_whole);
    let script = script.map_err(|e| StageError::new("cannot read the script", e, "run the job again"))?;
    let container = handover.container.as_ref().and_then(|container| of_stage(container, name));
    let contained = match container {
        Some(container) => {
            let grace = u64::from(batch.grace);
            Some(write_for_allocation(handover, &container, name, stage.path(), &nonce, grace)?)
        }
        None => None,
    };
    stage.write("script", &[if contained.is_some() { b"" } else { agent::BEGIN }, &script])?;
    let contained = contained.as_deref();
    let agent = agent::text(handover, batch, name, stage.path(), &nonce, &description.agent, contained);
    stage.write("agent", &[&agent])?;
    // Cobalt starts it as a program.
    let agent = stage.path().join("agent");
    fs::set_permissions(&agent, Permissions::from_mode(0o700)).map_err(|e| {
        StageError::at(
            "cannot change the mode of",
            &agent,
            e,
            "run the job again, or report it to the administrators",
        )
    })?;
    for file in ["out", "err", "log"] {
        stage.touch(file)?;
    }
    let intent = Intent { tag, nonce, time: log::epoch() };
    stage.store("intent", &intent)?;
    Ok(intent)
}

/// A name that no other job has, within the length that the scheduler accepts.
fn tag(wanted: &str, job: u64, nonce: &str, submit: &Submit) -> String {
    let longest = submit.longest_name.unwrap_or(usize::MAX);
    let mut prefix = prefix(wanted);
    let name = format!("nb{job}-{}", &nonce[..10]);
    if submit.letter_first && prefix.starts_with(|c: char| !c.is_ascii_alphabetic()) {
        print_message("leaving SCHEDULER_JOB_PREFIX out: here it must begin with a letter");
        prefix.clear();
    }
    if name.len() > longest {
        // Digits of the nonce take the place of the job's number.
        return format!("nb{nonce}").chars().take(longest).collect();
    }
    // The prefix is for humans; it is cut first.
    prefix.truncate(longest - name.len());
    prefix + &name
}

/// `SCHEDULER_JOB_PREFIX` as the beginning of a job's name.
fn prefix(wanted: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.".contains(c) || c == '-';
    if !wanted.chars().all(plain) || wanted.starts_with('-') {
        print_message("leaving SCHEDULER_JOB_PREFIX out: it may have letters, digits, `_`, `.` and `-` only");
        return String::new();
    }
    let prefix: String = wanted.chars().take(32).collect();
    if prefix.is_empty() { prefix } else { prefix + "-" }
}

/// Copied from its beginning, whatever the descriptor's offset.
fn read_whole(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::tag;
    use crate::description::named;

    #[test]
    fn a_tag_fits_the_scheduler_and_loses_its_prefix_before_its_digits() {
        let nonce = "0123456789abcdef0123456789abcdef";
        let mut submit = named("pbs").submit;
        assert_eq!(tag("sim", 7, nonce, &submit), "sim-nb7-0123456789");
        assert_eq!(tag("2026", 7, nonce, &submit), "nb7-0123456789");
        submit.longest_name = Some(15);
        assert_eq!(tag("sim", 7, nonce, &submit), "snb7-0123456789");
        assert_eq!(tag("sim", 123_456_789, nonce, &submit), "nb0123456789abc");
        assert_eq!(tag("2026", 7, nonce, &named("slurm").submit), "2026-nb7-0123456789");
    }
}

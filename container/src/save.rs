//! An image as one file, for allocations whose nodes have neither the registry nor this host's store.
//!
//! Written once for an image and account, into the account's cache, which the nodes see as they see
//! all of `data_dir`.

use crate::call::Called;
use crate::description::Save;
use crate::partial::Partial;
use crate::pull::{Puller, make_place, said};
use crate::resolved::Resolved;
use crate::runner::{STAGES, is_of_runner};
use crate::trouble::Failure;
use nunbird_handover::{Batch, Container, Handover};
use nunbird_stage::StageError;
use nunbird_stage::small_files;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The longest record of a saved image, in bytes.
const LONGEST: u64 = 16 << 10;

/// A saved image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedImage {
    /// The name that it has in the file, and so in the store that takes it.
    pub name: String,
    /// Where it is.
    pub file: PathBuf,
}

/// Whether a stage of the job runs in its container in an allocation.
pub(crate) fn is_needed(handover: &Handover, container: &Container) -> bool {
    if is_of_runner(container) {
        let submitted =
            |batch: &Batch| STAGES.iter().any(|stage| batch.submits(stage) && !container.holds(stage));
        return handover.batch.as_ref().is_some_and(submitted);
    }
    let submits = |batch: &Batch| {
        // Patterns on both sides: the user's script counts, which every container is for.
        ["build_script", "step_script", "after_script"]
            .iter()
            .any(|stage| batch.submits(stage) && container.holds(stage))
            || batch.stages.iter().any(|pattern| container.stages.contains(pattern))
    };
    handover.batch.as_ref().is_some_and(submits)
}

/// Where such files are.
pub(crate) fn directory(container: &Container) -> PathBuf {
    container.cache.join("saved")
}

/// Writes the image into the cache, unless it is there.
pub(crate) fn save(puller: &Puller<'_>, save: &Save, image: &Resolved) -> Result<SavedImage, Failure> {
    let key: String = image.for_create.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    let directory = directory(puller.container);
    let saved = SavedImage {
        name: format!("localhost/nunbird:{key}"),
        file: directory.join(format!("{key}.{}", save.extension)),
    };
    let deadline = Instant::now() + Duration::from_secs(puller.container.pull_timeout);
    let _lock = puller.lock(deadline)?;
    // What is in it runs as the account.
    make_place(&puller.container.cache)?;
    make_place(&directory)?;
    if saved.file.exists() {
        return Ok(saved);
    }
    let failed = |e: &dyn std::fmt::Display| {
        let help = "make sure that its file system has space and quota left, and run the job again";
        StageError::at("cannot write the image for compute nodes into", &saved.file, e, help)
    };
    let partial = Partial::make(&directory, "").map_err(|e| failed(&e))?;
    let mut values = puller.values.clone();
    values.insert("image", image.for_create.clone());
    values.insert("saved", saved.name.clone());
    values.insert("file", partial.image().display().to_string());
    (puller.say)("writing the image into a file for compute nodes …");
    for command in [&save.tag, &save.command] {
        let left = deadline.saturating_duration_since(Instant::now());
        match puller.engine(command, &values, &[], left)? {
            Called::Ended(output) if output.status.is_some_and(|status| status.success()) => {}
            Called::Ended(output) => return Err(failed(&said(&output)).into()),
            Called::Cancelled => return Err(Failure::Cancelled),
            Called::Late => return Err(failed(&"it took too long (`pull_timeout`)").into()),
        }
    }
    fs::rename(partial.image(), &saved.file).map_err(|e| failed(&e))?;
    Ok(saved)
}

/// Notes it for the job's later stages.
pub(crate) fn keep(directory: &Path, saved: &SavedImage) -> Result<(), StageError> {
    crate::stage::write(&directory.join("saved"), &serde_json::json!(saved).to_string())
}

/// What was noted.
pub(crate) fn kept(directory: &Path) -> Option<SavedImage> {
    serde_json::from_slice(&small_files::beginning(&directory.join("saved"), LONGEST).ok()?).ok()
}

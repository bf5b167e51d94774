//! A stage in a container in an allocation of a batch scheduler: the outer script for the scheduler's
//! agent, which brings the image, makes the container, runs the stage and removes the container.

use crate::given;
use crate::inner;
use crate::outer::{Allocation, Outer};
use crate::prepare::description;
use crate::save::kept;
use crate::services;
use crate::stage::{clear_records, image_of, write};
use nunbird_handover::{Container, Handover};
use nunbird_stage::StageError;
use nunbird_stage::small_files::directory;
use std::path::{Path, PathBuf};

/// Writes the scripts for one submitted stage; `place` is the stage's own directory, `nonce` the
/// submission's. Returns the script for the agent: `/bin/sh PATH once`, with the stage's script as
/// standard input and descriptor 4 as the script itself says.
///
/// # Errors
/// In words for the user.
pub fn write_for_allocation(
    handover: &Handover,
    container: &Container,
    stage: &str,
    place: &Path,
    nonce: &str,
    grace: u64,
) -> Result<PathBuf, StageError> {
    let description = description(container)?;
    directory(handover, &crate::binds::inside(container), true)?;
    let image = image_of(container)?;
    given::unchanged(image.as_ref())?;
    let services = services::kept(container)?;
    let allocation =
        Allocation { suffix: nonce.get(..8).unwrap_or(nonce).to_owned(), image: kept(&container.directory) };
    // What is optional may be on the nodes although it is not here, and the other way round; the nodes
    // of a site have what the policy names.
    let binds = crate::prepare::binds(handover, container)?;
    let outer = Outer {
        description: &description,
        handover,
        container,
        image: image.as_ref(),
        services: &services,
        binds: &binds,
        nonce,
        grace,
        allocation: Some(&allocation),
    };
    clear_records(container)?;
    services::write_variables(container, description.services.as_ref())?;
    let path = place.join("container");
    write(&path, &outer.text()?)?;
    write(&crate::binds::inside(container).join("inner"), &inner::text(handover, container, stage, nonce))?;
    Ok(path)
}

//! Containers that do less than they seem to.

use super::Lint;
use crate::{Job, Policy};

/// Looks at every container that some job uses.
pub(super) fn look(policy: &Policy, all: &mut Vec<Lint>) {
    let jobs = || std::iter::once(&policy.job).chain(policy.profiles.values().map(|profile| &profile.job));
    for (name, container) in &policy.containers {
        let uses = |job: &&Job| job.container.as_ref() == Some(name);
        let mut remark = |code, message: String, help: &str| {
            let place = container.place.clone();
            all.push(Lint { code, error: false, message, place, help: help.to_owned() });
        };
        if !jobs().any(|job| uses(&job)) {
            let message = format!("no job uses the container `{name}`");
            remark(
                "unused-container",
                message,
                "write `container` in `[job]` or in a profile, or remove the table",
            );
        }
        if container.is_by("podman") && jobs().filter(uses).any(|job| job.isolation.no_new_privileges) {
            let message = format!(
                "with `no_new_privileges`, jobs in `{name}` have a single user id: newuidmap has no effect there"
            );
            remark(
                "one-id",
                message,
                "images whose programs change to other users fail; nothing else is different",
            );
        }
        if container.is_by("podman") && container.store.as_ref().is_some_and(|store| store.contains("$HOME"))
        {
            let message = format!(
                "the store of `{name}` is in home directories, and Podman cannot keep images on a network file system"
            );
            remark(
                "store-at-home",
                message,
                "write a local directory, such as `store = \"/var/tmp/containers-$UID\"`",
            );
        }
        if container.allowed_images.is_none() && container.has_images() {
            let message = format!("jobs in `{name}` may name any image of any registry");
            remark("any-image", message, "write `allowed_images`, if that is not meant");
        }
    }
}

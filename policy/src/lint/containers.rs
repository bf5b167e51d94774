//! Containers that do less than they seem to.

use super::Lint;
use crate::{Job, MACHINES, Policy};

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
        let is_machine = container.is_by(MACHINES);
        let has_memory =
            |job: &&Job| job.limits.as_ref().is_some_and(|limits| limits.amounts.memory.is_some());
        if is_machine && jobs().filter(uses).any(|job| !has_memory(&job)) {
            let message = format!(
                "jobs in `{name}` have no limit of memory, and a machine's files are in memory: beside `layer_size`, what is below /run, /dev/shm and \
                 other tmpfs(5) file systems, which its root can mount"
            );
            remark("machine-memory", message, "name `limits` with `memory` where `container` is named");
        }
        if container.allowed_images.is_none() && container.has_images() && !is_machine {
            let message = format!("jobs in `{name}` may name any image of any registry");
            remark("any-image", message, "write `allowed_images`, if that is not meant");
        }
    }
}

//! The container for the runner's own stages: sources with the job's `hooks:`, caches and artifacts,
//! in an image that the site names (`runner_image`).
//!
//! It is a second container of the job with the same engine, account and binds. It lives beside the
//! job's own, in a control directory inside that one's, and has no services.

use nunbird_handover::Container;
use std::borrow::Cow;

/// The name of its control directory, in that of the job's container.
const DIRECTORY: &str = "runner";
/// gitlab-runner's names of its own stages.
pub(crate) const STAGES: [&str; 9] = [
    "prepare_script",
    "get_sources",
    "restore_cache",
    "download_artifacts",
    "archive_cache",
    "archive_cache_on_failure",
    "upload_artifacts_on_success",
    "upload_artifacts_on_failure",
    "cleanup_file_variables",
];

/// The container that a stage runs in; `None` for one that runs without.
pub fn of_stage<'c>(container: &'c Container, stage: &str) -> Option<Cow<'c, Container>> {
    match container.holds(stage) {
        true => Some(Cow::Borrowed(container)),
        false => of_runner(container).map(Cow::Owned),
    }
}

/// The container for the runner's own stages, where the site has an image for them.
pub(crate) fn of_runner(container: &Container) -> Option<Container> {
    let image = container.runner_image.clone()?;
    Some(Container {
        image: Some(image),
        runner_image: None,
        services: Vec::new(),
        directory: container.directory.join(DIRECTORY),
        gpu: None,
        // Sources, caches and artifacts come from servers, which not every engine's own network reaches.
        host_network: true,
        ..container.clone()
    })
}

/// Whether it is one of these.
pub(crate) fn is_of_runner(container: &Container) -> bool {
    container.directory.file_name().is_some_and(|name| name == DIRECTORY)
}

#[cfg(test)]
mod tests {
    use super::{of_runner, of_stage};
    use crate::outer::name;
    use crate::testing::{container, handover};

    #[test]
    fn the_runners_stages_have_the_sites_image_and_the_jobs_scripts_their_own() {
        let mut one = container();
        assert!(of_stage(&one, "get_sources").is_none());
        one.runner_image = one.image.clone();
        one.runner_image.as_mut().expect("an image").name = "r.example.org/runner:1".to_owned();
        one.host_network = false;
        let image = |stage| of_stage(&one, stage).and_then(|one| Some(one.image.as_ref()?.name.clone()));
        for stage in super::STAGES {
            assert_eq!(image(stage).as_deref(), Some("r.example.org/runner:1"), "{stage}");
        }
        for stage in ["build_script", "step_1", "after_script"] {
            assert_eq!(image(stage).as_deref(), Some("alpine"), "{stage}");
        }
        let runner = of_runner(&one).expect("a container");
        assert!(runner.host_network && runner.directory != one.directory);
        // Short enough for paths of Podman's, and neither is a part of the other.
        let [own, other] = [&one, &runner].map(|one| name(&handover(), one));
        assert!(own.len().max(other.len()) <= 35 && !own.contains(&other) && !other.contains(&own));
    }
}

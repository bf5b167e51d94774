//! One job of twelve stages, the same for each engine and each place: this host, and allocations of schedulers.

use super::registry::Registry;
use crate::scheduler::Ended;
use nunbird_handover::{CONTAINER_STAGES, CacheBounds, Container, Engine, Image, PullPolicy};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The name of its image, for engines that have images.
pub const IMAGE: &str = "lattice/whole:1";

/// In the place of an engine's name.
pub const NO_CONTAINER: &str = "none";

/// The stages between `prepare` and `cleanup`, as gitlab-runner names them, and whether each is in the container.
pub const STAGES: [(&str, bool); 10] = [
    ("prepare_script", false),
    ("get_sources", false),
    ("restore_cache", false),
    ("download_artifacts", false),
    ("build_script", true),
    ("step_release", true),
    ("after_script", true),
    ("archive_cache", false),
    ("upload_artifacts_on_success", false),
    ("cleanup_file_variables", false),
];

/// A container of the engine for scripts, with files below these directories and nothing else that a site can set.
pub fn plain_container(
    engine: Engine,
    image: Option<&str>,
    data_dir: &Path,
    directory: PathBuf,
) -> Container {
    Container {
        name: "plain".to_owned(),
        engine,
        program: None,
        image: image.map(|name| Image {
            name: name.to_owned(),
            entrypoint: None,
            user: None,
            platform: None,
            pull: vec![PullPolicy::IfNotPresent],
            digest_required: false,
        }),
        runner_image: None,
        services: Vec::new(),
        stages: CONTAINER_STAGES.map(str::to_owned).to_vec(),
        directory,
        store: None,
        cache: data_dir.join("images"),
        shared_cache: None,
        cache_bounds: CacheBounds::default(),
        binds: Vec::new(),
        home: false,
        gpu: None,
        root: false,
        host_network: true,
        options: Vec::new(),
        engine_environment: BTreeMap::new(),
        no_new_privileges: false,
        pull_timeout: 60,
        service_timeout: 30,
        service_required: false,
        service_logs: false,
        credential_helpers: nunbird_handover::CredentialHelpers::default(),
    }
}

/// A registry with the job's image, the same one for all who have it at once.
pub fn shared_registry() -> Arc<Registry> {
    static SHARED: Mutex<Weak<Registry>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let registry = Registry::open();
        registry.push(IMAGE, &super::samples::busybox());
        let registry = Arc::new(registry);
        *shared = Arc::downgrade(&registry);
        registry
    })
}

/// Runs the stages between `prepare` and `cleanup` of a job whose account has the file `mine` in its home directory. Each must find what those
/// before it have left, in the container or outside, and the container's stages must have the account's uid and none of its home.
///
/// # Panics
/// At the first stage that is not as it must be.
#[track_caller]
pub fn run_whole_job(uid: u32, engine: &str, stage: &dyn Fn(&str, &str) -> Ended) {
    let mut before = String::new();
    for (name, is_inside) in STAGES {
        let script = format!(
            "set -e; id -u; if [ -e \"$HOME/mine\" ]; then echo outside; else echo inside; fi; \
             if [ -e trail ]; then cat trail; fi; echo {name} >>trail; echo \"said by {name}\" >&2"
        );
        let ended = stage(name, &script);
        let place = if is_inside && engine != NO_CONTAINER { "inside" } else { "outside" };
        let said = String::from_utf8_lossy(&ended.out).into_owned();
        assert_eq!(ended.status, Some(0), "{engine}, {name}: {said}\n{}", ended.err);
        assert_eq!(said, format!("{uid}\n{place}\n{before}"), "{engine}, {name}: {}", ended.err);
        assert!(ended.err.contains(&format!("said by {name}")), "{engine}, {name}: {}", ended.err);
        before += &format!("{name}\n");
    }
}

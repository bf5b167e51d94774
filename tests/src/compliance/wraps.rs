//! A whole job whose scripts run in a container, in an allocation: each engine with each scheduler. The same job on this host is a test of
//! the containers' own (`tests/tests/containers/cases.rs`).

use super::support::{AnyJob, Case, case, job};
use crate::containers::whole::{IMAGE, NO_CONTAINER, plain_container, run_whole_job, shared_registry};
use crate::scheduler::{Cluster, Possible};
use nunbird_handover::{Container, Engine};
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

pub(super) const CASES: &[Case] = &[
    case("a whole job without containers", |cluster| whole(cluster, NO_CONTAINER)),
    case("a whole job in containers of Podman", |cluster| whole(cluster, "podman")),
    case("a whole job in containers of Charliecloud", |cluster| whole(cluster, "charliecloud")),
    case("a whole job in containers of Bubblewrap", |cluster| whole(cluster, "bwrap")),
    case("a whole job in containers of Apptainer", |cluster| whole(cluster, "apptainer")),
];

fn whole(cluster: &dyn Cluster, engine: &str) -> Possible<()> {
    let has_images = ![NO_CONTAINER, "bwrap"].contains(&engine);
    if engine != NO_CONTAINER && cluster.bed().is_of_a_site() {
        return Err("engines and registries are the site's: nunbirdctl check looks at them".to_owned());
    }
    if has_images && cluster.bed().has_own_network() {
        return Err(
            "its host has a network of its own, which does not reach the registry of the test".to_owned()
        );
    }
    // They run at once: one of its own for each engine with a store, and a directory of its own for each job.
    let user = match engine {
        "podman" => "nbt_ann",
        "charliecloud" => "nbt_bea",
        _ => "nbt_cyn",
    };
    let mut job = job(cluster, user);
    // Its beginning is part of the names of stages' directories on nodes.
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    job.handover.decision_id = format!("{:08x}{number:012x}{:012x}", std::process::id(), 0);
    let workspace = &mut job.handover.workspace;
    workspace.builds_dir = workspace.builds_dir.with_file_name(format!("whole-{engine}"));
    workspace.project_dir = workspace.builds_dir.join("group/project");
    job.write_home("mine");
    let registry = has_images.then(shared_registry);
    let image = registry.as_ref().map(|registry| registry.name(IMAGE));
    let mut container = container(&job, engine, image.as_deref());
    if let Some(registry) = &registry {
        let authority = job.home().join("authority.pem");
        fs::write(&authority, registry.ca_pem()).expect("a file");
        let authority = authority.display().to_string();
        for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"] {
            container.engine_environment.insert(name.to_owned(), authority.clone());
        }
    }
    job.handover.container = (engine != NO_CONTAINER).then_some(container);
    let prepared = job.try_prepare();
    if prepared.err.contains("is not installed on the host") {
        return Err(format!("the tree of this release has no {engine}"));
    }
    assert_eq!(prepared.status, Some(0), "{engine}: {}\n{}", prepared.text(), prepared.err);
    run_whole_job(job.handover.account.uid, engine, &|name, script| job.start_stage(name, script).finish());
    let trail =
        fs::read_to_string(job.handover.workspace.builds_dir.join("trail")).expect("a file of the job's");
    assert_eq!(trail.lines().count(), 10, "{trail}");
    assert_eq!(job.cleanup().status, Some(0));
    nothing_is_left(&job);
    Ok(())
}

fn container(job: &AnyJob<'_>, engine: &str, image: Option<&str>) -> Container {
    let data_dir = job.handover.workspace.data_dir.clone();
    let directory = data_dir.join("containers").join(&job.handover.decision_id);
    let mut container = plain_container(Engine::Named(engine.to_owned()), image, &data_dir, directory);
    container.store = Some(job.home().join("store"));
    container
}

fn nothing_is_left(job: &AnyJob<'_>) {
    let beginning = format!("nb-{}", &job.handover.decision_id[..20]);
    for place in ["/tmp".into(), "/var/tmp".into(), "/dev/shm".into(), job.home().join("store/jobs")] {
        let entries = fs::read_dir(&place).into_iter().flatten().flatten();
        let names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let left: Vec<&String> = names.iter().filter(|name| name.starts_with(&beginning)).collect();
        assert!(left.is_empty(), "{}: {left:?}", place.display());
    }
}

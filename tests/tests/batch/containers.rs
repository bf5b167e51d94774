//! A container around the script, in an allocation.
//!
//! The engine is Bubblewrap by a description as a site writes one, so that no image is needed: what
//! the place does is the same for all engines.

use nunbird_handover::Engine;
use nunbird_tests::containers::whole::plain_container;
use nunbird_tests::needs;
use nunbird_tests::scheduler::{Job, Slurm};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// `/mnt` is empty, and the job's directories are as outside.
const DESCRIPTION: &str = r#"
title = "Bubblewrap"
program = "bwrap"
[images]
kind = "none"
[enter]
command = ["{program}", "--ro-bind", "/", "/", "--dev", "/dev", "--tmpfs", "/mnt", "--tmpfs", "/home", "{binds}", "--"]
[words]
bind = ["--bind", "{source}", "{target}"]
bind_read_only = ["--ro-bind", "{source}", "{target}"]
"#;

fn contained<'s>(slurm: &'s Slurm, user: &str) -> Job<'s> {
    let mut job = slurm.job(user);
    let description = job.home().join("bwrap.toml");
    fs::write(&description, DESCRIPTION).expect("a description");
    fs::set_permissions(&description, fs::Permissions::from_mode(0o644)).expect("its mode");
    let data_dir = job.handover.workspace.data_dir.clone();
    let directory = data_dir.join("containers").join(&job.handover.decision_id);
    let mut container = plain_container(Engine::Described(description), None, &data_dir, directory);
    container.name = "view".to_owned();
    job.handover.container = Some(container);
    job.prepare();
    job
}

/// Ends the job, which takes along what `prepare` has made on the runner's host.
fn cleaned(job: &Job<'_>) {
    let runtime = format!("/tmp/nb-{}", job.handover.decision_id);
    assert!(Path::new(&runtime).exists(), "prepare has made it");
    job.cleanup().succeeded();
    assert!(!Path::new(&runtime).exists(), "{runtime}");
}

#[needs(root)]
fn the_script_runs_in_its_container_in_the_allocation_with_its_exit_code_and_leaves_nothing() {
    let slurm = Slurm::shared();
    let job = contained(&slurm, "nbt_ann");
    let ended = job.run(
        "set -e; id -un; echo \"$SLURM_JOB_ID\" >>\"$HOME/id\"; ls /mnt | wc -l; pwd; cat; echo \"leak:$LEAKED\"; \
         : >in_builds; echo error >&2; exit 3",
    );
    ended.failed(3, "ended with exit code 3");
    let builds = &job.handover.workspace.builds_dir;
    assert_eq!(ended.text(), format!("nbt_ann\n0\n{}\nleak:\n", builds.display()));
    assert!(ended.err.contains("error\n"), "{}", ended.err);
    assert!(builds.join("in_builds").exists(), "the build directory is the host's");
    assert!(!job.home().join("id").exists(), "the home directory is the container's own");
    assert!(!job.stage_directory().join("script").exists(), "the script holds secrets");
    // The container's name, as `nb-<job>-<submission>`: jobs of this test program begin alike.
    let intent = fs::read(job.stage_directory().join("intent")).expect("what was submitted");
    let intent: serde_json::Value = serde_json::from_slice(&intent).expect("JSON");
    let nonce = &intent["nonce"].as_str().expect("a nonce")[..8];
    let name = format!("nb-{}-{nonce}", &job.handover.decision_id[..20]);
    let left = |directory: &str| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&name)).count()
    };
    assert_eq!(
        left("/tmp") + left("/var/tmp") + left("/dev/shm"),
        0,
        "the runtime directory goes with the stage"
    );
    cleaned(&job);
}

#[needs(root)]
fn a_container_that_does_not_report_how_the_script_ended_is_a_failure_of_the_system() {
    let slurm = Slurm::shared();
    let job = contained(&slurm, "nbt_ann");
    // The inner script is the one that would tell.
    let ended = job.run("echo begun; kill -9 $PPID; sleep 1");
    ended.system_failed("not known how the script ended in its container");
    assert!(ended.text().starts_with("begun\n"), "{}", ended.text());
    assert!(ended.err.contains("without a result"), "{}", ended.err);
    cleaned(&job);
}

#[needs(root)]
fn an_engine_that_is_missing_on_the_node_is_a_failure_of_the_system_that_names_both() {
    let slurm = Slurm::shared();
    let mut job = contained(&slurm, "nbt_ann");
    // What `prepare` has found on the runner's host is not there.
    let program = job.home().join("engine");
    job.handover.container.as_mut().expect("a container").program = Some(program.clone());
    let ended = job.run("exit 0");
    assert!(ended.err.contains("Bubblewrap is not installed on the host"), "{}", ended.err);
    assert!(ended.err.contains(&program.display().to_string()), "{}", ended.err);
    ended.system_failed("not known how the script ended in its container");
    cleaned(&job);
}

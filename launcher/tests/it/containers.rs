//! Stages in a container of Podman, without a registry.

use crate::container_world::{AccountIds, EVERY, IMAGE, import, world};
use crate::world::{World, assert_code, err, out};
use nunbird_skip::needs;
use std::fs;
use std::os::unix::fs::MetadataExt;

fn prepared(ids: AccountIds) -> World {
    let mut world = world(ids);
    import(&mut world, IMAGE, &[], ":");
    let output = world.prepare();
    assert_code(&output, 0);
    world
}

#[needs(root, in_each = EVERY)]
fn a_job_runs_in_its_container_as_its_account_and_leaves_nothing(ids: AccountIds) {
    let mut world = prepared(ids);
    let uid = world.handover.account.uid;
    let builds = world.handover.workspace.builds_dir.clone();
    let output = world.run("id -u; id -g; pwd; touch made; echo $HOME $NUNBIRD_STAGE; ls /bin/busybox; ls /etc/debian_version; exit 0");
    assert_code(&output, 0);
    let shown = format!(
        "{uid}\n{uid}\n{}\n{} build_script\n/bin/busybox\n",
        builds.display(),
        world.home().display()
    );
    assert_eq!(out(&output), shown, "{}", err(&output));
    assert_eq!(fs::metadata(builds.join("made")).expect("a file").uid(), uid);
    assert_code(&world.cleanup(), 0);
}

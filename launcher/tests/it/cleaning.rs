//! What a job leaves behind.

use crate::world::{SYSTEM_FAILURE, World, assert_code, err};
use nix::sys::signal::Signal;
use nunbird_handover::Task;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

fn temporary(world: &World) -> PathBuf {
    world.handover.workspace.builds_dir.join("group/sub/project.tmp")
}

/// A world with file variables, and a file outside of it that must stay.
fn used() -> (World, PathBuf) {
    let world = World::new();
    let outside = world.path("outside");
    world.mkdir(&outside.join("project.tmp"), 0o700);
    world.write(&outside.join("project.tmp/precious"), "kept");
    world.mkdir(&temporary(&world).join("git-template/hooks"), 0o700);
    world.mkdir(&world.handover.workspace.project_dir.clone(), 0o755);
    world.write(&temporary(&world).join("CERT"), "secret");
    world.write(&temporary(&world).join(".gitlab-runner.ext.conf"), "token");
    world.write(&temporary(&world).join("git-template/hooks/x"), "");
    world.link(&outside, &temporary(&world).join("directory"));
    world.link(&outside.join("project.tmp/precious"), &temporary(&world).join("file"));
    (world, outside)
}

fn assert_kept(outside: &std::path::Path) {
    assert_eq!(fs::read_to_string(outside.join("project.tmp/precious")).expect("kept"), "kept");
}

#[test]
fn file_variables_and_credentials_go_and_nothing_else() {
    let (mut world, outside) = used();
    for _ in 0..2 {
        assert_code(&world.cleanup(), 0);
        assert!(!temporary(&world).exists());
        assert!(world.handover.workspace.project_dir.exists());
        assert_kept(&outside);
    }
}

#[test]
fn credentials_go_wherever_the_runner_put_them_in_the_slot_and_jobs_own_files_stay() {
    let (mut world, _) = used();
    let builds = world.handover.workspace.builds_dir.clone();
    // `GIT_STRATEGY: empty`, `GIT_CLONE_PATH`, and one that was cancelled when it contained only a
    // file variable.
    let secrets = [
        ("group/sub/project-empty.tmp", "KEY"),
        ("else/where.tmp", "gitlab_runner_env"),
        ("checkout.tmp", ".gitlab-runner.ext.conf"),
        ("a/b/c/d.tmp", "git-template/config"),
    ];
    for (directory, file) in secrets {
        world.mkdir(&builds.join(directory), 0o700);
        if let Some((folder, _)) = file.split_once('/') {
            world.mkdir(&builds.join(directory).join(folder), 0o700);
        }
        world.write(&builds.join(directory).join(file), "secret");
    }
    let own =
        ["group/sub/project/mine.tmp", "else/where/.git", "else/where/x.tmp", "notes.tmp", "data/y.tmp"];
    for directory in own {
        world.mkdir(&builds.join(directory), 0o700);
    }
    // Work trees are not searched, even for what looks like the runner's.
    world.write(&builds.join("else/where/x.tmp/gitlab_runner_env"), "kept");
    world.write(&builds.join("group/sub/project/mine.tmp/gitlab_runner_env"), "kept");
    assert_code(&world.cleanup(), 0);
    for (directory, _) in secrets {
        assert!(!builds.join(directory).exists(), "{directory}");
    }
    assert!(!temporary(&world).exists());
    for directory in own {
        assert!(builds.join(directory).exists(), "{directory}");
    }
}

#[test]
fn cleanup_is_fine_when_prepare_never_ran() {
    let mut world = World::new();
    assert_code(&world.cleanup(), 0);
    fs::remove_dir(world.home()).expect("removed");
    let output = world.cleanup();
    assert_code(&output, 0);
    assert_eq!(err(&output), "");
}

#[test]
fn cleanup_after_a_cancelled_job_removes_its_file_variables() {
    let mut world = World::impatient();
    assert_code(&world.prepare(), 0);
    let script =
        format!("mkdir -p {0}; echo secret >{0}/KEY; echo ready; sleep 30", temporary(&world).display());
    let running = world.start_stage("build_script", script).ready();
    assert!(temporary(&world).join("KEY").exists());
    running.signal(Signal::SIGTERM);
    running.finish();
    assert_code(&world.cleanup(), 0);
    assert!(!temporary(&world).exists());
}

#[test]
fn several_cleanups_at_once_do_not_disturb_each_other() {
    let (mut world, outside) = used();
    for n in 0..300 {
        world.write(&temporary(&world).join(format!("variable-{n}")), "secret");
        world.mkdir(&temporary(&world).join(format!("directory-{n}/below")), 0o700);
    }
    world.handover.task = Task::Cleanup;
    let running: Vec<_> = (0..6).map(|_| world.start("")).collect();
    for cleanup in running {
        assert_code(&cleanup.finish(), 0);
    }
    assert!(!temporary(&world).exists());
    assert_kept(&outside);
}

#[test]
fn a_link_in_place_of_the_directory_is_removed_and_not_followed() {
    let (mut world, outside) = used();
    fs::remove_dir_all(temporary(&world)).expect("removed");
    world.link(&outside, &temporary(&world));
    assert_code(&world.cleanup(), 0);
    assert!(fs::symlink_metadata(temporary(&world)).is_err());
    assert_kept(&outside);
}

#[test]
fn a_link_on_the_way_is_not_followed() {
    for name in ["builds/node01/0/group/sub", "builds/node01/0/group", "builds/node01/0", "builds"] {
        let (mut world, outside) = used();
        let place = world.handover.workspace.data_dir.join(name);
        // The same tree is outside, so that a cleanup that follows the link would find it.
        fs::rename(&place, outside.join("moved")).expect("moved");
        world.link(&outside.join("moved"), &place);
        assert!(temporary(&world).join("CERT").exists(), "the way through the link is there");
        let output = world.cleanup();
        assert_code(&output, SYSTEM_FAILURE);
        assert!(err(&output).contains("is a symbolic link"), "{}", err(&output));
        assert!(temporary(&world).join("CERT").exists(), "{name}: the link was followed");
    }
}

#[test]
fn cleanup_works_in_a_data_directory_behind_the_users_own_link() {
    let (mut world, _) = used();
    let data = world.handover.workspace.data_dir.clone();
    let scratch = world.path("scratch");
    fs::rename(&data, &scratch).expect("moved");
    world.link(&scratch, &data);
    assert!(temporary(&world).join("CERT").exists());
    assert_code(&world.cleanup(), 0);
    assert!(!temporary(&world).exists());
}

#[test]
fn directories_without_write_permission_go_too() {
    let (mut world, _) = used();
    for path in ["git-template/hooks", "git-template", ""] {
        fs::set_permissions(temporary(&world).join(path), Permissions::from_mode(0o500)).expect("mode");
    }
    assert_code(&world.cleanup(), 0);
    assert!(!temporary(&world).exists());
}

#[test]
fn directories_that_the_job_took_its_own_permission_from_go_too() {
    for mode in [0o000, 0o100, 0o300, 0o400] {
        let (mut world, outside) = used();
        fs::set_permissions(&outside, Permissions::from_mode(0o555)).expect("mode");
        let project = world.handover.workspace.project_dir.clone();
        let deepest = temporary(&world).join("git-template/hooks");
        for path in deepest.ancestors().take_while(|path| *path != world.home()) {
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("mode");
        }
        assert_code(&world.cleanup(), 0);
        assert!(!temporary(&world).exists(), "{mode:o}");
        assert!(project.exists());
        let mode = fs::metadata(&outside).expect("stat").permissions().mode();
        assert_eq!(mode & 0o777, 0o555, "behind a link in the job's directory");
        assert_kept(&outside);
        fs::set_permissions(&outside, Permissions::from_mode(0o755)).expect("mode");
    }
}

//! The job's directories.

use crate::world::{SYSTEM_FAILURE, World, assert_code, err, out};
use nunbird_skip::needs;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

#[track_caller]
fn assert_private(world: &World, path: &Path) {
    let metadata = fs::symlink_metadata(path).expect("directory");
    assert!(metadata.is_dir(), "{}", path.display());
    assert_eq!(metadata.mode() & 0o7777, 0o700, "{}", path.display());
    assert_eq!(metadata.uid(), world.handover.account.uid, "{}", path.display());
}

#[track_caller]
fn assert_refused(world: &mut World, why: &str) {
    let output = world.prepare();
    assert_code(&output, SYSTEM_FAILURE);
    assert!(err(&output).contains(why), "{}", err(&output));
    assert_eq!(out(&output), "");
}

#[test]
fn all_directories_are_made_private_and_a_second_time_does_no_harm() {
    let mut world = World::new();
    for _ in 0..2 {
        let output = world.prepare();
        assert_code(&output, 0);
        assert_eq!(err(&output), "");
        let data = world.handover.workspace.data_dir.clone();
        for path in ["", "builds", "builds/node01", "builds/node01/0", "cache"] {
            assert_private(&world, &data.join(path));
        }
        assert_eq!(
            fs::read_dir(data.join("builds/node01/0")).expect("builds").count(),
            0,
            "a trial file is left"
        );
    }
}

#[test]
fn the_greeting_names_the_job_the_account_and_the_decision_with_nothing_deceptive() {
    let mut world = World::new();
    world.handover.identity.project_path = "group/\u{202e}evil\r\u{1b}[2J".to_owned();
    let output = world.prepare();
    let text = out(&output);
    for part in
        ["4711", "alice", "42", "main", "nbt_alice", world.handover.decision_id.as_str(), "group/sub/project"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(text.contains("group/\\u{202e}evil\\u{d}\\u{1b}[2J"), "{text}");
}

#[test]
fn modes_that_let_others_in_are_taken_back_and_reported() {
    let mut world = World::new();
    let data = world.handover.workspace.data_dir.clone();
    world.mkdir(&data.join("builds"), 0o755);
    world.mkdir(&data.join("cache"), 0o770);
    fs::set_permissions(&data, Permissions::from_mode(0o711)).expect("mode");
    let output = world.prepare();
    assert_code(&output, 0);
    for (path, before) in [("", "0711"), ("builds", "0755"), ("cache", "0770")] {
        assert_private(&world, &data.join(path));
        assert!(err(&output).contains(&format!("from {before} to 0700")), "{}", err(&output));
    }
}

#[test]
fn a_data_directory_behind_a_link_of_the_users_own_works() {
    let mut world = World::new();
    let scratch = world.path("scratch/alice");
    world.mkdir(&scratch, 0o700);
    world.link(&scratch, &world.handover.workspace.data_dir);
    assert_code(&world.prepare(), 0);
    assert_private(&world, &scratch.join("builds/node01/0"));
}

#[test]
fn a_link_that_leads_nowhere_is_named() {
    let mut world = World::new();
    world.link(Path::new("/nonexistent/scratch"), &world.handover.workspace.data_dir);
    assert_refused(&mut world, "symbolic link to /nonexistent/scratch, which does not exist");
}

#[test]
fn a_link_to_a_directory_of_somebody_else_is_refused() {
    let mut world = World::new();
    world.link(Path::new("/usr"), &world.handover.workspace.data_dir);
    assert_refused(&mut world, "it belongs to uid 0");
}

#[needs(root)]
fn a_link_of_somebody_else_is_refused() {
    let mut world = World::new();
    let scratch = world.path("scratch");
    world.mkdir(&scratch, 0o700);
    std::os::unix::fs::symlink(&scratch, &world.handover.workspace.data_dir).expect("link");
    assert_refused(&mut world, "symbolic link that another user owns");
    assert_eq!(fs::read_dir(&scratch).expect("scratch").count(), 0);
}

#[test]
fn a_link_below_the_data_directory_is_refused() {
    for name in ["builds", "builds/node01", "builds/node01/0", "cache"] {
        let mut world = World::new();
        let outside = world.path("outside");
        world.mkdir(&outside, 0o700);
        let link = world.handover.workspace.data_dir.join(name);
        world.mkdir(link.parent().expect("parent"), 0o700);
        world.link(&outside, &link);
        assert_refused(&mut world, "is a symbolic link, and none is followed below the data directory");
        assert_eq!(fs::read_dir(&outside).expect("outside").count(), 0, "{name}");
    }
}

#[test]
fn a_file_in_place_of_a_directory_is_refused() {
    let mut world = World::new();
    let data = world.handover.workspace.data_dir.clone();
    world.mkdir(&data, 0o700);
    world.write(&data.join("builds"), "");
    assert_refused(&mut world, "is not a directory");
    fs::remove_dir_all(&data).expect("removed");
    world.write(&data, "");
    assert_refused(&mut world, "is not a directory");
}

#[needs(root)]
fn a_directory_of_somebody_else_is_refused() {
    for name in ["", "builds", "builds/node01", "cache"] {
        let mut world = World::new();
        let path = world.handover.workspace.data_dir.join(name);
        world.mkdir(&path, 0o755);
        std::os::unix::fs::chown(&path, Some(65531), Some(65531)).expect("chown");
        assert_refused(&mut world, "it belongs to uid 65531");
    }
}

#[test]
fn a_missing_home_directory_is_reported() {
    let mut world = World::new();
    fs::remove_dir(world.home()).expect("removed");
    assert_refused(&mut world, "the home directory is missing on this host");
}

#[test]
fn missing_parents_are_made_inside_directories_of_the_accounts_own_only() {
    let mut world = World::new();
    move_data_dir(&mut world, "home/a/b/.nunbird");
    assert_code(&world.prepare(), 0);
    assert_private(&world, &world.home().join("a"));
    assert_private(&world, &world.home().join("a/b/.nunbird/cache"));

    world.mkdir(&world.path("scratch"), 0o700);
    move_data_dir(&mut world, "scratch/more/.nunbird");
    assert_code(&world.prepare(), 0);
    assert_private(&world, &world.path("scratch/more"));
    // Owned by root: more likely a file system that is not mounted.
    move_data_dir(&mut world, "/nbt_missing/more/.nunbird");
    assert_refused(&mut world, "directories are created only inside those that you own");
    assert!(!Path::new("/nbt_missing").exists());
}

#[test]
fn a_home_directory_that_is_not_writable_is_reported() {
    let mut world = World::new();
    fs::set_permissions(world.home(), Permissions::from_mode(0o500)).expect("mode");
    assert_refused(&mut world, "EACCES: Permission denied");
}

#[needs(root)]
fn a_full_or_read_only_file_system_is_reported_before_the_job_begins() {
    let tmpfs = "mount -t tmpfs -o uid=65532,gid=65532,mode=700,size=4k nbt home";
    let fill = "head -c 4096 /dev/zero >home/fill";
    let freeze = "(umask 077; cd home; setpriv --reuid=65532 --regid=65532 --clear-groups \
        mkdir -p .nunbird/builds/node01/0 .nunbird/cache); mount -o remount,ro home";
    for (then, why) in [(fill, "No space left on device"), (freeze, "EROFS: Read-only file system")] {
        let mut world = World::new();
        world.mounts = Some(format!("{tmpfs}; {then}"));
        let output = world.prepare();
        assert_code(&output, SYSTEM_FAILURE);
        assert!(err(&output).contains("cannot write in ") && err(&output).contains(why), "{}", err(&output));
    }
}

#[test]
fn directories_that_do_not_lie_in_each_other_are_refused() {
    let mut world = World::new();
    world.handover.workspace.builds_dir = world.home().join("builds");
    assert_refused(&mut world, "it must lie below");
    assert!(!world.home().join("builds").exists());
}

#[test]
fn directories_that_the_job_before_took_its_own_permission_from_are_the_users_again() {
    let mut world = World::new();
    let project = world.handover.workspace.project_dir.clone();
    let outside = world.path("outside");
    world.mkdir(&outside, 0o555);
    world.mkdir(&project, 0o755);
    world.link(&outside, &project.with_extension("tmp"));
    for path in project.ancestors().take_while(|path| *path != world.home()) {
        fs::set_permissions(path, Permissions::from_mode(0o000)).expect("mode");
    }
    assert_code(&world.prepare(), 0);
    let mode = |path| fs::metadata(path).expect("stat").permissions().mode() & 0o777;
    assert_eq!(mode(&project), 0o700);
    assert_eq!(mode(&outside), 0o555, "behind a link");
}

fn move_data_dir(world: &mut World, data_dir: &str) {
    let data_dir = world.path(data_dir);
    let workspace = &mut world.handover.workspace;
    workspace.builds_dir = data_dir.join("builds/node01/0");
    workspace.cache_dir = data_dir.join("cache");
    workspace.project_dir = workspace.builds_dir.join("group/sub/project");
    workspace.builds_root.clone_from(&data_dir);
    workspace.data_dir = data_dir;
}

//! Where jobs work: directories that users name, that the site has created for them, and those that
//! are removed.

use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nunbird_tests::needs;
use nunbird_tests::runner::{Session, StageOutcome};
use nunbird_tests::world::{Exit, Privilege, World};
use nunbird_unprivileged::process::short_host_name;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

fn world_with(privilege: Privilege, directories: &str) -> World {
    let world = World::new(privilege);
    world.write_keys();
    world.reconfigure("[audit]", &format!("[directories]\n{directories}\n\n[audit]"));
    world
}

fn builds_dir(outcome: &StageOutcome) -> String {
    assert!(outcome.succeeded(), "{}", outcome.log);
    let answer: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    answer["builds_dir"].as_str().expect("a path").to_owned()
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap_or_else(|e| panic!("{}: {e}", path.display())).mode() & 0o7777
}

/// The directories of this host's builds, below alice's data directory.
fn builds(world: &World) -> PathBuf {
    world.host_path("/home/alice/.nunbird/builds").join(short_host_name())
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.ends_with(".job") && name != ".lock");
    names.sort();
    names
}

fn whole(session: &mut Session<'_>) -> StageOutcome {
    assert!(session.config().succeeded());
    assert!(session.prepare().succeeded());
    session.cleanup()
}

#[needs(root, in_each = Privilege::ALL)]
fn a_user_names_the_directory_for_builds_where_the_site_allows_it(privilege: Privilege) {
    let world = world_with(privilege, "user_builds_dir = true");
    for directory in ["$HOME/deep/ci", "$$HOME/deeper/ci", "/tmp"] {
        let job = world
            .job()
            .with_repository()
            .variable("CUSTOM_CI_BUILDS_DIR", directory)
            .script("echo in $PWD; touch \"$PWD.tmp/left\"");
        let outcome = job.run().expect_success();
        let root = format!(
            "{}/alice/{}/000",
            directory.replace("$$", "$").replace("$HOME", "/home/alice"),
            short_host_name()
        );
        assert!(
            outcome.log().contains(&format!("in {root}/physics/lattice")),
            "{privilege:?}: {}",
            outcome.log()
        );
        let top = world.host_path(&root);
        let top = top.ancestors().nth(2).expect("the account's own");
        assert_eq!((mode(top), top.metadata().expect("a directory").uid()), (0o700, 4101), "{directory}");
        assert!(!world.host_path(format!("{root}/physics/lattice.tmp")).exists(), "credentials are left");
    }
    let empty = world.job().variable("CUSTOM_CI_BUILDS_DIR", "").config();
    assert!(builds_dir(&empty).starts_with("/home/alice/.nunbird/builds/"), "an empty name is none");
}

#[needs(root)]
fn a_directory_that_jobs_cannot_work_in_is_refused_with_words_for_the_user() {
    let world = world_with(Privilege::Setuid, "user_builds_dir = true");
    for directory in ["relative/ci", "/tmp/$(id)", "$SCRATCH/ci", "/tmp/../etc", "/tmp/a b", "/tmp/\u{202e}x"]
    {
        let outcome = world.job().variable("CUSTOM_CI_BUILDS_DIR", directory).config();
        assert_eq!(outcome.exit, Exit::Code(1), "{directory}: {}", outcome.log);
        assert!(outcome.stderr.contains("[builds-dir]"), "{directory}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("CUSTOM_CI_BUILDS_DIR"), "{directory}: {}", outcome.stderr);
        assert!(world.records().is_empty());
    }
    // What only the user may see, `prepare` reports.
    fs::create_dir(world.host_path("/tmp/alice")).expect("a directory");
    chown(world.host_path("/tmp/alice"), Some(4102), Some(4102)).expect("an owner");
    symlink("/home/alice", world.host_path("/home/bob/alice")).expect("a link");
    fs::set_permissions(world.host_path("/home/bob"), Permissions::from_mode(0o755)).expect("a mode");
    for (directory, why) in [
        ("/tmp", "belongs to uid 4102"),
        ("/root/ci", "cannot"),
        ("/opt/missing/ci", "only inside those that you own"),
        ("/home/bob", "symbolic link that another user owns"),
    ] {
        let job = world.job().variable("CUSTOM_CI_BUILDS_DIR", directory);
        let mut session = job.begin();
        assert!(session.config().succeeded(), "{directory}");
        let outcome = session.prepare();
        assert_eq!(outcome.exit, Exit::Code(2), "{directory}: {}", outcome.log);
        assert!(outcome.log.contains(why), "{directory}: {}", outcome.log);
    }
    let world = world_with(Privilege::Setuid, "");
    let ignored = world.job().variable("CUSTOM_CI_BUILDS_DIR", "/tmp").config();
    assert!(builds_dir(&ignored).starts_with("/home/alice/.nunbird/"), "the site does not allow it");
}

#[needs(root)]
fn each_job_has_a_build_directory_of_its_own_where_the_site_says_so() {
    let world = world_with(Privilege::FileCaps, "per_job = true\nmax_dirs = 2\nremove_at_once = 9");
    for id in [8001, 8002, 8003] {
        let job = world.job().id(id);
        let mut session = job.begin();
        assert!(builds_dir(&session.config()).ends_with(&format!("/site-{id}")));
        assert!(session.prepare().succeeded());
        assert!(session.cleanup().succeeded());
    }
    assert_eq!(names(&builds(&world)), ["site-8002", "site-8003"]);
}

#[needs(root, in_each = Privilege::PRIVILEGED)]
fn a_directory_of_the_users_is_made_in_one_of_roots(privilege: Privilege) {
    let world = world_with(privilege, "data_dir = \"/opt/ecp/$USER/ci\"\ncreate = true");
    let ecp = world.host_path("/opt/ecp");
    fs::create_dir(&ecp).expect("a directory");
    let prepared = || {
        let job = world.job();
        let mut session = job.begin();
        assert!(session.config().succeeded());
        let outcome = session.prepare();
        assert!(session.cleanup().succeeded() || !outcome.succeeded());
        outcome
    };
    let shown = |outcome: &StageOutcome, why: &str| {
        assert_eq!(outcome.exit, Exit::Code(2), "{privilege:?}: {}", outcome.log);
        assert!(outcome.stderr.contains("[data-dir]"), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("/opt/ecp"), "the CI user reads of the site's file system");
        let audit = world.audit();
        let detail = audit.iter().rev().find_map(|line| line["detail"].as_str()).expect("a detail");
        assert!(detail.contains(why), "{detail}");
    };
    fs::set_permissions(&ecp, Permissions::from_mode(0o755)).expect("a mode");
    shown(&prepared(), "chmod g+w");
    fs::set_permissions(&ecp, Permissions::from_mode(0o777)).expect("a mode");
    shown(&prepared(), "writable by everybody");
    fs::set_permissions(&ecp, Permissions::from_mode(0o775)).expect("a mode");
    chown(&ecp, Some(4102), Some(0)).expect("an owner");
    shown(&prepared(), "belongs to uid 4102, not to root");
    chown(&ecp, Some(0), Some(0)).expect("an owner");
    symlink("/home/bob", ecp.join("alice")).expect("a link");
    shown(&prepared(), "symbolic link");
    fs::remove_file(ecp.join("alice")).expect("removed");
    let outcome = prepared();
    assert!(outcome.succeeded(), "{privilege:?}: {}", outcome.log);
    let made = ecp.join("alice");
    let meta = made.metadata().expect("the directory");
    assert_eq!((meta.uid(), meta.gid(), mode(&made)), (4101, 4101, 0o700), "{privilege:?}");
    assert_eq!(made.join("ci").metadata().expect("the launcher's").uid(), 4101);
    assert!(prepared().succeeded(), "it is there");
    // The directory above belongs to the site.
    fs::rename(&ecp, world.host_path("/opt/unmounted")).expect("renamed");
    let outcome = prepared();
    assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
    assert!(!ecp.exists(), "{privilege:?}: made in place of a file system");
}

#[needs(root)]
fn the_group_may_look_where_the_site_says_so_but_not_at_credentials() {
    let world = world_with(Privilege::Setuid, "group_access = true");
    let job = world.job().with_repository().file_variable("KEY", "the key\n");
    let mut session = job.begin();
    let top = builds_dir(&session.config());
    assert!(session.prepare().succeeded());
    assert!(session.stage("get_sources").succeeded());
    let project = world.host_path(&top).join("physics/lattice");
    for directory in project.ancestors().take(6).skip(1).chain([project.with_file_name("lattice").as_path()])
    {
        let group = mode(directory) & 0o070;
        assert_eq!(group, 0o050, "{}: {:04o}", directory.display(), mode(directory));
        assert_eq!(mode(directory) & 0o002, 0, "{}", directory.display());
    }
    let hidden = project.with_file_name("lattice.tmp");
    assert_eq!(mode(&hidden), 0o700, "credentials");
    let key = session.run_text("build_script", &format!("cat {top}/physics/lattice.tmp/KEY"));
    assert_eq!(key.stdout, "the key\n", "{}", key.log);
    assert!(session.cleanup().succeeded() && !hidden.exists());
}

#[needs(root)]
fn old_build_directories_go_one_a_job_and_never_one_in_use_or_behind_a_link() {
    let world = world_with(Privilege::Setuid, "max_dirs = 1");
    // Three concurrent jobs need three directories.
    let jobs: Vec<_> = (0..3).map(|n| world.job().id(8100 + n)).collect();
    let mut sessions: Vec<_> = jobs.iter().map(|job| job.begin()).collect();
    for session in &mut sessions {
        assert!(session.config().succeeded() && session.prepare().succeeded());
    }
    let place = builds(&world);
    fs::create_dir(world.host_path("/home/alice/precious")).expect("a directory");
    fs::write(world.host_path("/home/alice/precious/data"), "kept").expect("a file");
    symlink("/home/alice/precious", place.join("777")).expect("a link");
    symlink("/home/alice/precious", place.join("000/link")).expect("a link");
    fs::create_dir(place.join("000/locked")).expect("a directory");
    chown(place.join("000/locked"), Some(4101), Some(4101)).expect("an owner");
    fs::set_permissions(place.join("000/locked"), Permissions::from_mode(0o500)).expect("a mode");
    assert_eq!(names(&place), ["000", "001", "002", "777"]);
    let first = sessions[0].cleanup();
    assert!(first.succeeded() && first.log.contains("keeps no more of them"), "{}", first.log);
    assert_eq!(names(&place), ["001", "002", "777"], "its own is the only one that nobody uses");
    let busy = sessions[1].run_text("build_script", "pwd");
    assert!(busy.stdout.contains("/001"), "{}", busy.log);
    assert!(sessions[2].cleanup().succeeded());
    assert_eq!(names(&place), ["001", "777"], "001 still has its job");
    assert!(sessions[1].cleanup().succeeded());
    assert_eq!(names(&place), ["001", "777"], "one stays");
    assert_eq!(fs::read_to_string(world.host_path("/home/alice/precious/data")).expect("kept"), "kept");
}

#[needs(root)]
fn build_directories_go_by_age_and_by_lack_of_space() {
    let world = world_with(Privilege::Setuid, "max_age = \"2d\"\nremove_at_once = 0");
    let place = builds(&world);
    let job = world.job();
    assert!(whole(&mut job.begin()).succeeded());
    for (name, days) in [("007", 3), ("008", 1), ("009", 400)] {
        let directory = place.join(name);
        fs::create_dir_all(directory.join("a/b")).expect("directories");
        for path in [directory.join("a/b"), directory.join("a"), directory.clone()] {
            chown(&path, Some(4101), Some(4101)).expect("an owner");
        }
        let then = TimeSpec::new(nunbird_tests::issuer::now().cast_signed() - days * 86_400, 0);
        utimensat(nix::fcntl::AT_FDCWD, &directory, &then, &then, UtimensatFlags::NoFollowSymlink)
            .expect("a time");
    }
    let outcome = whole(&mut job.begin());
    assert_eq!(names(&place), ["000", "008"], "{}", outcome.log);
    assert_eq!(outcome.log.matches("not used for as long").count(), 2, "{}", outcome.log);
    // No file system has a thousand petabytes free.
    world.reconfigure("max_age = \"2d\"", "min_free = \"999999T\"");
    let outcome = whole(&mut job.begin());
    assert!(outcome.log.contains("short of space"), "{}", outcome.log);
    assert_eq!(names(&place), [] as [&str; 0], "{}", outcome.log);
}

#[needs(root)]
fn a_directory_that_cannot_be_removed_is_reported_and_keeps_nobody_else() {
    let world = world_with(Privilege::Setuid, "max_dirs = 1\nremove_at_once = 0");
    let place = builds(&world);
    let job = world.job();
    assert!(whole(&mut job.begin()).succeeded());
    for name in ["007", "008"] {
        fs::create_dir_all(place.join(name).join("sub")).expect("directories");
        chown(place.join(name), Some(4101), Some(4101)).expect("an owner");
        let long_ago = TimeSpec::new(1, 0);
        utimensat(
            nix::fcntl::AT_FDCWD,
            &place.join(name),
            &long_ago,
            &long_ago,
            UtimensatFlags::FollowSymlink,
        )
        .expect("a time");
    }
    chown(place.join("008/sub"), Some(4101), Some(4101)).expect("an owner");
    let outcome = whole(&mut job.begin());
    assert!(outcome.succeeded(), "the job's own things are gone: {}", outcome.log);
    assert!(outcome.log.contains("is not removed yet") && outcome.log.contains("uid 0"), "{}", outcome.log);
    let left = names(&place);
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left[0].starts_with(".gone-") && left[0].ends_with("-007") && left[1] == "000", "{left:?}");
    fs::remove_dir(place.join(&left[0]).join("sub")).expect("removed by its owner");
    assert!(whole(&mut job.begin()).succeeded());
    assert_eq!(names(&place), ["000"], "the next clean-up goes on");
}

#[needs(root)]
fn a_site_says_which_stages_run_what_the_user_reads_and_how_large_the_stack_is() {
    let world = World::new(Privilege::Setuid);
    world.write_keys();
    let more = "stages = [\"step_*\"]\nraise_stack_limit = true\nmessage = \"\"\"\nMaintenance on Tuesday.\n\\u001b[31mBring cake.\"\"\"\n";
    world.reconfigure("[job]\n", &format!("[job]\n{more}"));
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let prepared = session.prepare();
    assert!(prepared.stdout.contains("\nMaintenance on Tuesday.\n"), "{}", prepared.log);
    assert!(prepared.stdout.contains("[31mBring cake.\n") && !prepared.stdout.contains('\u{1b}'));
    let skipped = session.run_text("after_script", "echo it ran");
    assert_eq!((skipped.exit, skipped.stdout.as_str()), (Exit::Code(0), ""), "{}", skipped.log);
    assert!(skipped.stderr.contains("the stage after_script does not run"), "{}", skipped.stderr);
    let ran = session.run_text("build_script", "echo it ran");
    assert_eq!(ran.stdout, "it ran\n", "{}", ran.log);
    let file = session.directory().join("stack");
    session.write(&file, b"ulimit -S -s; ulimit -H -s\n", 0o700);
    let mut spec = session.spec_of_run(&file, "step_script");
    let program = std::mem::replace(&mut spec.program, "/bin/sh".into());
    let limits = "ulimit -H -s 16384; ulimit -S -s 1024; exec \"$0\" \"$@\"";
    let arguments = std::mem::take(&mut spec.arguments);
    spec.arguments = ["-c".into(), limits.into(), program].into_iter().chain(arguments).collect();
    let stack = session.call_spec("step_script", &spec);
    assert_eq!(stack.stdout, "16384\n16384\n", "{}", stack.log);
    world.reconfigure("raise_stack_limit = true", "raise_stack_limit = false");
    assert!(session.config().succeeded());
    assert_eq!(session.call_spec("step_script", &spec).stdout, "1024\n16384\n");
}

//! The test bed itself: how the double of gitlab-runner handles drivers other than Nunbird.

use nunbird_tests::{Cancel, Exit, Privilege, Reason, RunnerVersion, Status, World, needs};
use std::time::Duration;

/// A driver in shell. `config` answers with a builds directory, `run` executes the script; `$1` is the call.
fn driver(world: &World, body: &str) -> String {
    let path = "/opt/driver";
    let script = format!(
        "#!/bin/bash\ncase $1 in config) echo '{{\"builds_dir\":\"/tmp/builds\",\"cache_dir\":\"/tmp/cache\",\
         \"job_env\":{{\"FROM_CONFIG\":\"yes\"}}}}';; run) ;; esac\n{body}\n"
    );
    world.write_file(path, script, "root", 0o755);
    path.to_owned()
}

#[needs(root)]
fn a_whole_job_clones_builds_uploads_and_removes_its_file_variables() {
    let world = World::new(Privilege::Setuid);
    let driver = driver(&world, "case $1 in run) bash \"$2\";; esac");
    for version in RunnerVersion::ALL {
        let outcome = world
            .job()
            .version(version)
            .commands(|c| c.program = driver.clone().into())
            .script("cat data/lattice.txt \"$KEY\"; printf '<%s>' \"$TEXT\"; stat -c %a . ; cp \"$KEY\" out.txt; test \"$CI_PROJECT_DIR\" = \"$PWD\"")
            .variable("TEXT", "a 'b' \"c\" $CI_JOB_ID ü")
            .file_variable("KEY", "the key\n")
            .after_script("echo after=$CI_JOB_STATUS")
            .artifact("out.txt")
            .run()
            .expect_success();
        assert_eq!(outcome.project_dir, "/tmp/builds/physics/lattice");
        let log = outcome.log();
        for words in ["4 4 4 8\nthe key\n<a 'b' \"c\" 7001 ü>", "after=success\n", "201 Created  id=7001"] {
            assert!(log.contains(words), "{version:?}: no {words:?} in\n{log}");
        }
        let key = world.host_path("/tmp/builds/physics/lattice.tmp/KEY");
        assert!(key.parent().is_some_and(std::path::Path::exists) && !key.exists());
        let artifacts = world.issuer().artifacts();
        assert!(
            artifacts.last().is_some_and(|artifact| artifact.job_id == 7001 && artifact.archive.len() > 40)
        );
        world.shell("nbt_runner", "rm -rf /tmp/builds").success();
    }
}

#[needs(root)]
fn the_driver_gets_the_four_groups_of_variables_and_the_last_of_two_wins() {
    let world = World::new(Privilege::Setuid);
    let driver = driver(
        &world,
        "env >&2; id >&2; readlink /proc/self/fd/0 >&2; pwd >&2; stat -c %a . response.json >&2",
    );
    let job = world
        .job()
        .commands(|c| c.program = driver.into())
        .environment("FROM_RUNNER", "yes")
        .environment("FROM_CONFIG", "no")
        .variable("SITE_ID_TOKEN", "shadow")
        .variable("PATH", "/evil");
    let mut session = job.begin();
    let config = session.config();
    let prepare = session.prepare();
    let has = |text: &str, line: &str| text.lines().any(|l| l == line);
    assert!(has(&config.stderr, "FROM_CONFIG=no"), "{}", config.stderr);
    let directory = session.directory().display().to_string();
    for line in [
        "FROM_RUNNER=yes",
        "FROM_CONFIG=yes",
        "CUSTOM_ENV_SITE_ID_TOKEN=shadow",
        "CUSTOM_ENV_PATH=/evil",
        "PATH=/usr/local/bin:/usr/bin:/bin",
        "uid=4001(nbt_runner) gid=4001(gitlab-runner) groups=4001(gitlab-runner)",
        "/dev/null",
        "700",
        "600",
        &format!("TMPDIR={directory}"),
        &format!("BUILD_EXIT_CODE_FILE={directory}/build_exit_code"),
        &directory,
    ] {
        assert!(has(&prepare.stderr, line), "no {line:?} in\n{}", prepare.stderr);
    }
}

#[needs(root)]
fn exit_codes_mean_what_they_mean_to_gitlab_runner() {
    let world = World::new(Privilege::Setuid);
    let run = |version, body: &str| {
        let driver = driver(&world, &format!("test \"$3\" != build_script || {{ {body}; }}"));
        world.job().version(version).commands(|c| c.program = driver.into()).run()
    };
    let new = RunnerVersion::V19_3;
    run(new, "exit 1").expect(&Status::script_failure(1));
    run(new, "echo 42 > $BUILD_EXIT_CODE_FILE; exit 1").expect(&Status::script_failure(42));
    for system in [
        "exit 2",
        "exit 3",
        "kill -9 $$",
        ": > $BUILD_EXIT_CODE_FILE; exit 1",
        "echo ' 4' > $BUILD_EXIT_CODE_FILE; exit 1",
    ] {
        run(new, system).expect(&Status::failed(Reason::SystemFailure));
    }
    run(RunnerVersion::V16_11, "test -z \"$BUILD_EXIT_CODE_FILE\" && exit 1")
        .expect(&Status::script_failure(1));
}

#[needs(root)]
fn a_system_failure_of_config_is_tried_three_times_and_a_build_failure_once() {
    let world = World::new(Privilege::Setuid);
    for (code, times, status) in
        [(2, 3, Status::failed(Reason::SystemFailure)), (1, 1, Status::script_failure(1))]
    {
        let driver = driver(&world, &format!("test $1 != prepare || exit {code}"));
        let outcome = world.job().commands(|c| c.program = driver.into()).run().expect(&status);
        assert_eq!(outcome.names(), ["config", "prepare", "cleanup"].repeat(times));
    }
}

#[needs(root)]
fn a_cancelled_script_is_signalled_by_the_runners_account_first_softly() {
    let world = World::new(Privilege::Setuid);
    let body = "if [ \"$3\" = build_script ]; then trap 'echo term; exit 0' TERM; echo go; while :; do sleep 0.05; done; fi";
    let soft = driver(&world, body);
    let job = || world.job().after_script("true").cancel_when("build_script", "go", Cancel::Gracefully);
    let outcome = job().commands(|c| c.program = soft.into()).run().expect(&Status::failed(Reason::Canceled));
    assert!(outcome.stage("build_script").log.contains("term"));
    assert!(outcome.names().ends_with(&[
        "build_script",
        "after_script",
        "cleanup_file_variables",
        "cleanup"
    ]));
    let stubborn = driver(&world, &body.replace("'echo term; exit 0'", "''"));
    let outcome = job()
        .commands(|c| c.program = stubborn.into())
        .kill_timeouts(Duration::from_millis(200), Duration::from_secs(3))
        .run();
    assert_eq!(outcome.stage("build_script").exit, Exit::Signal(9));
}

#[needs(root)]
fn a_process_of_another_user_cannot_be_killed_by_the_runners_account() {
    let world = World::new(Privilege::Setuid);
    let job = world.job().kill_timeouts(Duration::from_millis(100), Duration::from_millis(100)).cancel_when(
        "stray",
        "go",
        Cancel::AtOnce,
    );
    let mut session = job.begin();
    let spec = world.program("bob", "/bin/sh", &["-c", "echo go; sleep 30"]);
    let outcome = session.call_spec("stray", &spec);
    assert_eq!((outcome.exit, outcome.unkillable), (Exit::Abandoned, true));
}

#[needs(root)]
fn nothing_of_the_machine_is_left_on_the_host() {
    let world = World::new(Privilege::FileCaps);
    let root = world.root().to_path_buf();
    let seen = world.shell("alice", "id; ls -ld /home/alice; ls /etc/nunbird; touch /tmp/here").success();
    assert!(seen.contains("uid=4101(alice) gid=4101(alice) groups=4101(alice),4200(lattice)"), "{seen}");
    assert!(world.host_path("/tmp/here").exists());
    assert!(!std::path::Path::new("/etc/nunbird").exists() && !std::path::Path::new("/tmp/here").exists());
    // mountinfo has the sources of bind mounts, too.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    assert!(!mounts.contains(&root.display().to_string()), "{mounts}");
    drop(world);
    assert!(!root.exists());
}

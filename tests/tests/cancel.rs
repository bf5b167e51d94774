//! What is left when a job is ended from outside: no process, no file variable, and the stages that
//! GitLab guarantees.

use nunbird_tests::{Cancel, Exit, Job, Outcome, Privilege, Reason, RunnerVersion, Status, World, needs};
use std::fs;
use std::time::{Duration, Instant};

/// A script with a child in its process group and one in a group of its own, both with `mark` as their name.
fn sleepers(mark: &str) -> String {
    format!(
        "(exec -a {mark} sleep 300) & set -m; (exec -a {mark} sleep 300) & set +m\n\
         while [ $(pgrep -cf '^{mark} 300$') -lt 2 ]; do sleep 0.05; done; echo go''ing; wait"
    )
}

/// Processes of this host whose first argument is `mark`.
fn alive(mark: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let marked = entries
        .filter(|e| fs::read(e.path().join("cmdline")).is_ok_and(|line| line.starts_with(mark.as_bytes())));
    marked.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn assert_gone(mark: &str) {
    let began = Instant::now();
    while !alive(mark).is_empty() && began.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(alive(mark).is_empty(), "processes of {mark} live on: {:?}", alive(mark));
}

fn cancel<'w>(world: &'w World, mark: &str, how: Cancel) -> Job<'w> {
    world.write_keys();
    world.job().script(&sleepers(mark)).file_variable("KEY", "the key\n").cancel_when(
        "build_script",
        "going",
        how,
    )
}

fn assert_no_file_variables(world: &World, outcome: &Outcome) {
    assert!(!outcome.project_dir.is_empty(), "{}", outcome.log());
    let left = world.host_path(format!("{}.tmp", outcome.project_dir));
    assert!(!left.exists(), "{} is left", left.display());
    assert!(world.records().is_empty());
}

#[needs(root)]
fn a_cancelled_script_ends_with_all_its_processes_and_after_script_follows_in_every_mode() {
    for (n, privilege) in Privilege::ALL.into_iter().enumerate() {
        let (world, mark) = (World::new(privilege), format!("nbt-graceful-{n}-{}", std::process::id()));
        let outcome = cancel(&world, &mark, Cancel::Gracefully)
            .after_script("echo the file says $(cat \"$KEY\")")
            .run()
            .expect(&Status::failed(Reason::Canceled));
        let script = outcome.stage("build_script");
        assert!(script.signalled && !script.unkillable, "{privilege:?}");
        assert!(script.elapsed < Duration::from_secs(15), "{privilege:?}: {:?}", script.elapsed);
        assert_ne!(script.exit, Exit::Code(0), "{privilege:?}: a cancelled script did not succeed");
        assert!(outcome.log().contains("the file says the key"), "{privilege:?}: {}", outcome.log());
        assert!(outcome.names().ends_with(&["after_script", "cleanup_file_variables", "cleanup"]));
        assert_gone(&mark);
        assert_no_file_variables(&world, &outcome);
    }
}

#[needs(root)]
fn a_job_cancelled_at_once_leaves_no_file_variables_although_their_stage_never_runs() {
    for (n, privilege) in Privilege::PRIVILEGED.into_iter().enumerate() {
        let (world, mark) = (World::new(privilege), format!("nbt-at-once-{n}-{}", std::process::id()));
        let outcome = cancel(&world, &mark, Cancel::AtOnce).run().expect(&Status::failed(Reason::Canceled));
        assert!(outcome.names().ends_with(&["get_sources", "build_script", "cleanup"]));
        assert_gone(&mark);
        assert_no_file_variables(&world, &outcome);
    }
}

#[needs(root)]
fn an_old_runner_whose_scripts_end_with_0_after_a_signal_does_not_see_success() {
    let (world, mark) = (World::new(Privilege::Setuid), format!("nbt-old-{}", std::process::id()));
    let outcome = cancel(&world, &mark, Cancel::Gracefully).version(RunnerVersion::V17_11).run();
    assert_ne!(outcome.stage("build_script").exit, Exit::Code(0), "{}", outcome.log());
    assert_gone(&mark);
}

#[needs(root)]
fn a_script_that_ignores_the_signal_is_killed_with_its_processes() {
    // Half a minute each, which is the launcher's grace period.
    std::thread::scope(|scope| {
        for (n, privilege) in Privilege::PRIVILEGED.into_iter().enumerate() {
            scope.spawn(move || {
                let (world, mark) =
                    (World::new(privilege), format!("nbt-stubborn-{n}-{}", std::process::id()));
                let script = format!(
                    "trap '' TERM; (exec -a {mark} sleep 300) & echo go''ing; while :; do sleep 0.1; done"
                );
                let outcome = cancel(&world, &mark, Cancel::Timeout)
                    .script(&script)
                    .kill_timeouts(Duration::from_secs(60), Duration::from_secs(5))
                    .limit(Duration::from_secs(90))
                    .run()
                    .expect(&Status::failed(Reason::Timeout));
                let call = outcome.stage("build_script");
                assert!(matches!(call.exit, Exit::Code(1 | 2)), "{privilege:?}: {call:?}");
                assert_gone(&mark);
                assert_no_file_variables(&world, &outcome);
            });
        }
    });
}

#[needs(root)]
fn a_daemon_of_the_script_does_not_keep_the_job_running() {
    let (world, mark) = (World::new(Privilege::Setuid), format!("nbt-daemon-{}", std::process::id()));
    world.write_keys();
    let script = format!("setsid bash -c 'exec -a {mark} sleep 20' & sleep 0.2; echo done");
    let outcome = world.job().script(&script).run().expect_success();
    let elapsed = outcome.stage("build_script").elapsed;
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
}

#[needs(root)]
fn no_script_starts_after_cleanup_and_cleanup_may_come_twice() {
    let world = World::new(Privilege::Setuid);
    world.write_keys();
    let job = world.job();
    let mut session = job.begin();
    for call in [session.config(), session.prepare()] {
        assert!(call.succeeded(), "{}", call.log);
    }
    let first = session.cleanup();
    assert!(first.succeeded(), "{}", first.log);
    let late = session.run_text("build_script", "echo run''ning");
    assert!(!late.succeeded() && !late.log.contains("running"), "{}", late.log);
    assert!(session.cleanup().succeeded(), "cleanup may come again");
}

//! The cleanup of a job after any history: a refusal, a stage that still runs, a restart of the
//! host, another job.

use nunbird_tests::needs;
use nunbird_tests::process::runs;
use nunbird_tests::records;
use nunbird_tests::world::{Exit, Privilege, World};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

fn ready(privilege: Privilege) -> World {
    let world = World::new(privilege);
    world.write_keys();
    world
}

/// A daemon in its own session, whose pid is in this file when the script ends.
fn daemon(file: &str) -> String {
    format!(
        "setsid sh -c 'echo $$ >{file}.new; mv {file}.new {file}; exec sleep 300' </dev/null >/dev/null 2>&1 &\n\
         while [ ! -s {file} ]; do sleep 0.02; done"
    )
}

fn pid(world: &World, file: &str) -> String {
    fs::read_to_string(world.host_path(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn builds_dir(world: &World, user: &str) -> PathBuf {
    let builds = world.host_path(format!("/home/{user}/.nunbird/builds"));
    fs::read_dir(builds).expect("builds").flatten().next().expect("this host's").path()
}

#[needs(root, in_each = Privilege::ALL)]
fn a_job_that_was_refused_has_nothing_to_clean_up(privilege: Privilege) {
    let world = ready(privilege);
    let job = world.job().user("nobody");
    let mut session = job.begin();
    assert_ne!(session.config().exit, Exit::Code(0));
    for _ in 0..2 {
        let outcome = session.cleanup();
        assert_eq!(outcome.exit, Exit::Code(0), "{privilege:?}: {}", outcome.log);
        assert!(outcome.stdout.contains("nothing to clean up"), "{}", outcome.log);
        assert_eq!(outcome.stderr, "", "gitlab-runner would warn of it");
    }
    assert!(world.records().is_empty());
}

#[needs(root, in_each = Privilege::ALL)]
fn a_job_leaves_no_process_wherever_it_went(privilege: Privilege) {
    let world = ready(privilege);
    let job = world.job().with_repository();
    let mut session = job.prepared();
    assert!(session.run_text("build_script", &daemon("~/daemon")).succeeded());
    let daemon = pid(&world, "/home/alice/daemon");
    assert!(runs(&daemon), "{privilege:?}: a daemon outlives its stage");
    let outcome = session.cleanup();
    assert!(outcome.log.contains("ended 1 processes that the job left"), "{privilege:?}: {}", outcome.log);
    assert!(!runs(&daemon), "{privilege:?}");
}

#[needs(root, in_each = [Privilege::Setuid, Privilege::None])]
fn a_clean_up_ends_a_stage_that_still_runs(privilege: Privilege) {
    let world = ready(privilege);
    let job = world.job().with_repository().file_variable("KEY", "the key\n");
    let mut session = job.prepared();
    assert!(session.stage("get_sources").succeeded());
    let file = session.directory().join("slow");
    session.write(&file, format!("{}\necho going; sleep 300", daemon("~/daemon")).as_bytes(), 0o700);
    let run = session.spec_of_run(&file, "build_script");
    let mut cleanup = session.spec_of_config();
    cleanup.arguments = vec!["cleanup".into()];
    let (ran, cleaned) = std::thread::scope(|scope| {
        let running = scope.spawn(|| world.run(&run));
        let began = Instant::now();
        while !world.host_path("/home/alice/daemon").exists() {
            assert!(began.elapsed() < Duration::from_secs(20), "the stage does not begin");
            std::thread::sleep(Duration::from_millis(20));
        }
        let cleaned = world.run(&cleanup);
        (running.join().expect("a stage"), cleaned)
    });
    assert!(cleaned.succeeded(), "{privilege:?}: {}", cleaned.stderr);
    assert_eq!(ran.exit, Exit::Code(1), "{privilege:?}: a stage that was ended has failed: {}", ran.stderr);
    assert!(!runs(&pid(&world, "/home/alice/daemon")), "{privilege:?}");
    assert!(!builds_dir(&world, "alice").join("000/physics/lattice.tmp").exists(), "{privilege:?}");
    assert!(world.records().is_empty(), "{privilege:?}");
    let late = session.run_text("after_script", "id");
    assert!(late.stderr.contains("[no-record]"), "{}", late.stderr);
}

#[needs(root)]
fn a_clean_up_leaves_a_second_job_of_the_same_user_alone() {
    let world = ready(Privilege::Setuid);
    let first = world.job().with_repository().file_variable("KEY", "first\n");
    let second = world.job().id(7002).with_repository().file_variable("KEY", "second\n");
    let (mut a, mut b) = (first.begin(), second.begin());
    for (session, file) in [(&mut a, "~/a"), (&mut b, "~/b")] {
        assert!(session.config().succeeded() && session.prepare().succeeded());
        assert!(session.stage("get_sources").succeeded());
        assert!(session.run_text("build_script", &daemon(file)).succeeded());
    }
    for _ in 0..2 {
        assert!(a.cleanup().succeeded());
        assert!(!runs(&pid(&world, "/home/alice/a")));
        assert!(runs(&pid(&world, "/home/alice/b")), "the other job's process");
    }
    let key = b.run_text("after_script", "cat ~/.nunbird/builds/*/001/physics/lattice.tmp/KEY");
    assert_eq!(key.stdout, "second\n", "{}", key.log);
    assert!(b.cleanup().succeeded());
    assert!(!runs(&pid(&world, "/home/alice/b")));
    assert!(world.records().is_empty());
}

#[needs(root)]
fn clean_ups_of_one_job_at_the_same_time_all_succeed() {
    let world = ready(Privilege::FileCaps);
    let job = world.job().with_repository().file_variable("KEY", "the key\n");
    let mut session = job.prepared();
    assert!(session.stage("get_sources").succeeded());
    let mut spec = session.spec_of_config();
    spec.arguments = vec!["cleanup".into()];
    let all: Vec<_> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..6).map(|_| scope.spawn(|| world.run(&spec))).collect();
        calls.into_iter().map(|call| call.join().expect("a call")).collect()
    });
    for outcome in all {
        assert!(outcome.succeeded(), "{}", outcome.stderr);
    }
    assert!(world.records().is_empty());
    assert!(!builds_dir(&world, "alice").join("000/physics/lattice.tmp").exists());
}

#[needs(root, in_each = [Privilege::Setuid, Privilege::FileCaps])]
fn a_clean_up_whose_launcher_fails_keeps_the_record_for_the_next(privilege: Privilege) {
    let world = ready(privilege);
    let job = world.job();
    let mut session = job.prepared();
    let launcher = world.paths().bin.join("nunbird");
    let genuine = fs::read(world.host_path(&launcher)).expect("the launcher");
    let replace = |with: &[u8]| {
        fs::remove_file(world.host_path(&launcher)).expect("removed");
        world.write_file(launcher.to_str().expect("a path"), with, "root", 0o755);
    };
    replace(&fs::read("/bin/false").expect("a program"));
    let failed = session.cleanup();
    assert!(!failed.succeeded(), "{privilege:?}: {}", failed.log);
    assert_eq!(world.records().len(), 1, "{privilege:?}: {}", failed.log);
    replace(&genuine);
    let cleaned = session.cleanup();
    assert!(cleaned.succeeded() && world.records().is_empty(), "{privilege:?}: {}", cleaned.log);
}

#[needs(root, in_each = [Privilege::Setuid, Privilege::None])]
fn after_a_restart_of_the_host_a_job_is_over_and_its_place_is_free(privilege: Privilege) {
    let world = ready(privilege);
    let job = world.job().with_repository().file_variable("KEY", "the key\n");
    let mut session = job.prepared();
    assert!(session.stage("get_sources").succeeded());
    let record = world.records().pop().expect("a record");
    // As if the host had restarted since.
    records::change(&record, |record| record.boot_id = "00000000-0000-4000-8000-000000000000".to_owned());
    let late = session.run_text("build_script", "echo it ran");
    assert_eq!(late.exit, Exit::Code(2), "{privilege:?}: {}", late.log);
    assert!(late.stderr.contains("[host-restarted]"), "{}", late.stderr);
    assert!(session.cleanup().succeeded());
    assert!(!builds_dir(&world, "alice").join("000/physics/lattice.tmp").exists(), "{privilege:?}");
    assert!(world.records().is_empty());
    assert!(session.config().succeeded());
    records::change(&record, |record| record.boot_id = "00000000-0000-4000-8000-000000000000".to_owned());
    let next = world.job().id(7002);
    let mut new = next.begin();
    let answer = new.config();
    assert!(answer.stdout.contains("/000\""), "{privilege:?}: the slot is free: {}", answer.log);
    let old = session.cleanup();
    assert!(old.succeeded() && old.log.contains("left alone"), "{privilege:?}: {}", old.log);
    assert!(new.prepare().succeeded() && new.cleanup().succeeded());
}

#[needs(root)]
fn the_clean_up_of_a_job_whose_place_another_has_ends_its_processes_alone() {
    let world = ready(Privilege::Setuid);
    let (old, new) = (world.job().with_repository(), world.job().id(7002).with_repository());
    let (mut a, mut b) = (old.begin(), new.begin());
    assert!(a.config().succeeded() && a.prepare().succeeded());
    assert!(a.run_text("build_script", &daemon("~/a")).succeeded());
    let another_boot = "00000000-0000-4000-8000-000000000000".to_owned();
    records::change(&world.records().pop().expect("a record"), |record| record.boot_id = another_boot);
    assert!(b.config().stdout.contains("/000\"") && b.prepare().succeeded());
    assert!(b.run_text("build_script", &daemon("~/b")).succeeded());
    let outcome = a.cleanup();
    assert!(outcome.succeeded() && outcome.log.contains("left alone"), "{}", outcome.log);
    assert!(!runs(&pid(&world, "/home/alice/a")), "{}", outcome.log);
    assert!(runs(&pid(&world, "/home/alice/b")));
    assert!(b.cleanup().succeeded() && world.records().is_empty());
    assert!(!runs(&pid(&world, "/home/alice/b")));
}

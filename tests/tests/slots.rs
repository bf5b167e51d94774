//! Concurrency slots: concurrent jobs never share a directory, and a path stays the same from run
//! to run.

use nunbird_tests::records;
use nunbird_tests::runner::StageOutcome;
use nunbird_tests::{Privilege, World, needs};

const ANOTHER_BOOT: &str = "00000000-0000-4000-8000-000000000000";

fn builds_dir(outcome: &StageOutcome) -> String {
    let answer: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    answer["builds_dir"].as_str().expect("a path").to_owned()
}

#[needs(root, in_each = Privilege::ALL)]
fn jobs_at_the_same_time_get_directories_of_their_own_and_later_ones_the_same_again(privilege: Privilege) {
    let world = World::new(privilege);
    world.write_keys();
    let (one, two, three) = (world.job(), world.job().id(7002), world.job().id(7003));
    let (mut a, mut b, mut c) = (one.begin(), two.begin(), three.begin());
    let (first, second) = (builds_dir(&a.config()), builds_dir(&b.config()));
    assert!(first.ends_with("/000") && second.ends_with("/001"), "{first} {second}");
    assert!(a.cleanup().succeeded());
    assert_eq!(builds_dir(&c.config()), first, "{privilege:?}: the slot is free again");
    assert!(b.cleanup().succeeded() && c.cleanup().succeeded());
    assert!(world.records().is_empty());
}

#[needs(root)]
fn jobs_of_different_users_need_no_different_slots() {
    let world = World::new(Privilege::Setuid);
    world.write_keys();
    let (one, two) = (world.job(), world.job().id(7002).user("bob"));
    let (mut a, mut b) = (one.begin(), two.begin());
    assert!(builds_dir(&a.config()).starts_with("/home/alice/") && builds_dir(&b.config()).ends_with("/000"));
}

#[needs(root)]
fn many_jobs_admitted_at_once_all_get_a_slot_of_their_own() {
    let world = World::new(Privilege::FileCaps);
    world.write_keys();
    let jobs: Vec<_> = (0..12).map(|n| world.job().id(8000 + n)).collect();
    let mut sessions: Vec<_> = jobs.iter().map(|job| job.begin()).collect();
    let mut paths: Vec<String> = std::thread::scope(|scope| {
        let calls: Vec<_> = sessions.iter_mut().map(|s| scope.spawn(|| builds_dir(&s.config()))).collect();
        calls.into_iter().map(|call| call.join().expect("a call")).collect()
    });
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 12, "{paths:?}");
}

#[needs(root)]
fn one_job_cannot_take_every_slot() {
    let world = World::new(Privilege::Setuid);
    world.write_keys();
    let job = world.job();
    let mut sessions: Vec<_> = (0..5).map(|_| job.begin()).collect();
    let outcomes: Vec<StageOutcome> = sessions.iter_mut().map(|session| session.config()).collect();
    assert!(outcomes[..4].iter().all(StageOutcome::succeeded), "three attempts and one to spare");
    assert!(outcomes[4].stderr.contains("[admitted-too-often]"), "{}", outcomes[4].stderr);
    assert!(world.job().id(7002).config().succeeded(), "another job is admitted");
}

#[needs(root)]
fn a_job_of_before_a_restart_does_not_clean_another_jobs_directories() {
    let world = World::new(Privilege::Setuid);
    world.write_keys();
    let (old, new) = (world.job(), world.job().id(7002).with_repository().file_variable("KEY", "the key\n"));
    let (mut first, mut second) = (old.begin(), new.begin());
    assert!(first.config().succeeded());
    records::change(&world.records().pop().expect("a record"), |record| {
        record.boot_id = ANOTHER_BOOT.to_owned();
    });
    assert!(builds_dir(&second.config()).ends_with("/000"), "the slot is free");
    assert!(second.prepare().succeeded());
    assert!(second.stage("get_sources").succeeded());
    let late = first.cleanup();
    assert!(late.succeeded() && late.log.contains("left alone"), "{}", late.log);
    let stage = second.run_text("build_script", "cat ~/.nunbird/builds/*/000/physics/lattice.tmp/KEY");
    assert_eq!(stage.stdout, "the key\n", "{}", stage.log);
    assert!(second.cleanup().succeeded());
    assert!(world.records().is_empty());
}

#[needs(root)]
fn a_refused_second_config_does_not_free_the_slot_of_a_running_job() {
    let world = World::new(Privilege::Setuid);
    world.write_keys();
    let (one, two) = (world.job(), world.job().id(7002));
    let (mut a, mut b) = (one.begin(), two.begin());
    let first = builds_dir(&a.config());
    let mut spec = a.spec_of_config();
    spec.environment.retain(|(name, _)| name != "JOB_RESPONSE_FILE");
    spec.environment.push(("JOB_RESPONSE_FILE".into(), a.directory().join("none").into()));
    assert!(!a.call_spec("config", &spec).succeeded());
    assert_ne!(builds_dir(&b.config()), first);
}

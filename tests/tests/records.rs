//! The record of a job, which every stage after `config` uses.

use nunbird_messages::Record;
use nunbird_tests::needs;
use nunbird_tests::records;
use nunbird_tests::world::{Exit, Privilege, World};
use serde_json::json;
use std::fs;

fn ready(privilege: Privilege) -> World {
    let world = World::new(privilege);
    world.write_keys();
    world
}

#[needs(root, in_each = Privilege::ALL)]
fn a_stage_without_a_record_of_its_job_does_not_run(privilege: Privilege) {
    let world = ready(privilege);
    let (admitted, stranger) = (world.job(), world.job().id(7002));
    let mut first = admitted.begin();
    assert!(first.config().succeeded());
    let mut second = stranger.begin();
    for outcome in [second.prepare(), second.run_text("build_script", "id")] {
        assert_eq!(outcome.exit, Exit::Code(1), "{}", outcome.log);
        assert!(outcome.stderr.contains("[no-record]"), "{}", outcome.stderr);
    }
    assert_eq!(second.cleanup().exit, Exit::Code(0), "there is nothing to clean up");
    assert!(first.prepare().succeeded());
    assert_eq!(first.cleanup().exit, Exit::Code(0));
    let late = first.run_text("build_script", "id");
    assert!(late.stderr.contains("[no-record]"), "after cleanup: {}", late.log);
    assert_eq!(first.cleanup().exit, Exit::Code(0), "twice is fine");
    assert!(world.records().is_empty());
}

/// Only a record that is not there means that there is nothing to clean up.
#[needs(root)]
fn a_record_that_cannot_be_read_is_a_system_failure_in_each_stage_and_stays() {
    let world = ready(Privilege::Setuid);
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let record = world.records().pop().expect("a record");
    let genuine = fs::read(&record).expect("a record");
    let mut version = genuine.clone();
    version[0] += 1;
    let cases = [
        (genuine[..20].to_vec(), "record-format"),
        (Vec::new(), "record-format"),
        ([&genuine[..], b"x"].concat(), "record-format"),
        (vec![genuine[0]; (64 << 10) + 1], "record-store"),
        (version, "record-format"),
    ];
    for (contents, code) in cases {
        fs::write(&record, &contents).expect("a record");
        for outcome in [session.prepare(), session.run_text("build_script", "id"), session.cleanup()] {
            assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
            assert!(outcome.stderr.contains(&format!("[{code}]")), "{code}: {}", outcome.stderr);
        }
        assert_eq!(fs::read(&record).expect("the record stays"), contents);
    }
    fs::remove_file(&record).expect("removed");
    fs::create_dir(&record).expect("a directory in its place");
    let outcome = session.cleanup();
    assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
    assert!(outcome.stderr.contains("[record-store]"), "{}", outcome.stderr);
    fs::remove_dir(&record).expect("removed");
    fs::write(&record, &genuine).expect("a record");
    assert!(session.prepare().succeeded() && session.cleanup().succeeded());
}

/// A file system gives the inode of a removed directory to the next one, and the name of a record is made of numbers.
#[needs(root)]
fn a_record_of_another_path_or_runner_account_is_not_this_jobs() {
    let world = ready(Privilege::Setuid);
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let record = world.records().pop().expect("a record");
    let genuine = fs::read(&record).expect("a record");
    type Change = fn(&mut Record);
    let changes: [Change; 2] =
        [|record| record.job_directory.path = "/runner/another".into(), |record| record.runner_uid = 4999];
    for change in changes {
        fs::write(&record, &genuine).expect("a record");
        records::change(&record, change);
        for outcome in [session.prepare(), session.run_text("build_script", "id")] {
            assert_eq!(outcome.exit, Exit::Code(1), "{}", outcome.log);
            assert!(outcome.stderr.contains("[no-record]"), "{}", outcome.stderr);
        }
    }
    fs::write(&record, &genuine).expect("a record");
    assert!(session.prepare().succeeded() && session.cleanup().succeeded());
}

#[needs(root)]
fn a_record_that_no_later_stage_would_read_is_refused_at_once() {
    let world = ready(Privilege::Setuid);
    let long = format!("[job.environment]\nSITE_LIST = \"{}\"\n", "x".repeat(70 << 10));
    world.configure(&format!("{}\n{long}", world.configuration()));
    let outcome = world.job().config();
    assert_eq!(outcome.exit, Exit::Code(2), "{}", outcome.log);
    assert!(outcome.stderr.contains("[record-store]"), "{}", outcome.stderr);
    assert!(world.audit().last().is_some_and(|line| line.to_string().contains("shorten [job.environment]")));
    assert!(world.records().is_empty());
}

#[needs(root)]
fn a_record_whose_time_is_up_runs_nothing_but_cleanup() {
    let world = ready(Privilege::Setuid);
    let job = world.job();
    let mut session = job.begin();
    assert!(session.config().succeeded());
    let record = world.records().pop().expect("a record");
    let genuine = fs::read(&record).expect("a record");
    type Change = fn(&mut Record);
    let clocks: [(&str, Change); 2] = [
        ("expires_at", |record| record.expires_at = 1),
        ("expires_at_boottime", |record| record.expires_at_boottime = 1),
    ];
    for (clock, change) in clocks {
        fs::write(&record, &genuine).expect("a record");
        records::change(&record, change);
        let outcome = session.run_text("build_script", "id");
        assert_eq!(outcome.exit, Exit::Code(1), "{clock}: {}", outcome.log);
        assert!(outcome.stderr.contains("[record-expired]"), "{}", outcome.stderr);
    }
    assert_eq!(session.cleanup().exit, Exit::Code(0));
    assert!(world.records().is_empty());
}

#[needs(root)]
fn late_stages_run_after_the_token_has_expired() {
    let world = ready(Privilege::Setuid);
    let now = nunbird_tests::issuer::now();
    let job = world.job().claim("exp", json!(now - 30));
    let mut session = job.begin();
    assert!(session.config().succeeded());
    assert!(session.prepare().succeeded());
    assert_eq!(session.run_text("after_script", "id -un").stdout, "alice\n");
}

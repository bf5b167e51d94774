//! Records of ended jobs, and what those jobs left behind.

use super::{action, age, crashed, credentials, expire, items, ready, runs, sweep};
use nunbird_tests::world::{Exit, Privilege, World};
use nunbird_tests::{needs, records};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

#[needs(root)]
fn a_job_whose_runner_crashed_is_cleaned_up_as_its_user_when_it_is_over() {
    let restart = |record: &Path| records::change(record, |record| record.boot_id = "x".to_owned());
    type Change<'c> = &'c dyn Fn(&Path);
    let changes: [(Privilege, Change<'_>); 4] = [
        (Privilege::Setuid, &restart),
        (Privilege::FileCaps, &expire),
        (Privilege::RootRunner, &expire),
        (Privilege::None, &restart),
    ];
    for (privilege, change) in changes {
        let world = ready(privilege);
        let keeper = if privilege == Privilege::None { "alice" } else { "root" };
        let job = world.job().with_repository().file_variable("KEY", "the key\n");
        let mut session = job.begin();
        crashed(&mut session);
        let daemon = fs::read_to_string(world.host_path("/home/alice/daemon")).expect("a daemon");
        let record = world.records().pop().expect("a record");
        let name = record.file_name().expect("a name").to_string_lossy().into_owned();
        let kept = sweep(&world, keeper, &[]);
        assert_eq!(action(&items(&kept), &name), "kept", "{privilege:?}: {}", kept.stdout);
        change(&record);
        let dry = sweep(&world, keeper, &["--dry-run"]);
        assert_eq!(action(&items(&dry), &name), "would remove", "{}", dry.stdout);
        assert!(record.exists() && runs(&daemon) && credentials(&world).exists(), "nothing is done");
        let done = sweep(&world, keeper, &[]);
        assert_eq!(done.exit, Exit::Code(0), "{privilege:?}: {}{}", done.stdout, done.stderr);
        assert_eq!(action(&items(&done), &name), "removed", "{}", done.stdout);
        assert!(done.stdout.contains("ended 1 processes"), "{privilege:?}: {}", done.stdout);
        assert!(!runs(&daemon), "{privilege:?}: the daemon lives on");
        assert!(!credentials(&world).exists() && world.records().is_empty(), "{privilege:?}");
        let last = world.audit().pop().expect("an event");
        assert_eq!((&last["outcome"], &last["stage"]), (&json!("stage-ended"), &json!("cleanup")), "{last}");
        assert!(items(&sweep(&world, keeper, &[])).is_empty(), "the second time there is nothing");
    }
}

#[needs(root)]
fn jobs_of_a_user_whose_clean_up_fails_wait_for_those_of_others() {
    let world = ready(Privilege::Setuid);
    let jobs = [("alice", 7001, "a1.record"), ("alice", 7002, "a2.record"), ("bob", 7003, "b1.record")];
    for (user, id, name) in jobs {
        let known = world.records();
        let job = world.job().id(id).user(user).with_repository();
        let mut session = job.prepared();
        assert!(session.stage("get_sources").succeeded());
        let record = world.records().into_iter().find(|record| !known.contains(record)).expect("a record");
        expire(&record);
        // By its name it stands where the test wants it.
        fs::rename(&record, record.with_file_name(name)).expect("a name");
        if user == "alice" {
            // Owned by root, so that the account cannot remove it: its cleanup fails.
            let tmp = credentials(&world).to_string_lossy().replace("/000/", &format!("/{:03}/", id - 7001));
            fs::create_dir_all(format!("{tmp}/roots/own")).expect("directories");
        }
    }
    let done = sweep(&world, "root", &[]);
    let value: Value = serde_json::from_str(&done.stdout).expect("JSON");
    let shown = value["items"].as_array().expect("items").iter();
    let shown: Vec<_> = shown.filter(|item| item["kind"] == "record").collect();
    let order: Vec<_> = shown
        .iter()
        .map(|item| (item["path"].as_str().and_then(|path| path.rsplit('/').next()), item["action"].as_str()))
        .collect();
    let expected = [("a1.record", "failed"), ("b1.record", "removed"), ("a2.record", "failed")];
    assert_eq!(order, expected.map(|(name, action)| (Some(name), Some(action))), "{}", done.stdout);
}

#[needs(root, in_each = Privilege::OF_FILE)]
fn only_the_keeper_of_the_records_has_a_job_reaped_and_only_one_that_is_over(privilege: Privilege) {
    let world = ready(privilege);
    let job = world.job();
    let _session = job.prepared();
    let record = world.records().pop().expect("a record");
    let name = record.file_name().expect("a name").to_str().expect("text");
    let reap = |account: &str, name: &str| {
        world.run(&world.program(account, world.paths().bin.join("nunbird-auth"), &["-u", "reap", name]))
    };
    let live = reap("root", name);
    assert!(live.exit == Exit::Code(1) && live.stderr.contains("[still-live]"), "{}", live.stderr);
    expire(&record);
    let audited = world.audit().len();
    let runner = reap("nbt_runner", name);
    assert!(runner.exit == Exit::Code(1) && runner.stderr.contains("[no-record]"), "{}", runner.stderr);
    assert!(record.exists() && world.audit().len() == audited, "the runner fills the audit file");
    for name in ["../keys/site.record", ".lock", "0-0-0.record"] {
        assert_ne!(reap("root", name).exit, Exit::Code(0), "{name}");
    }
    assert_eq!(reap("root", name).exit, Exit::Code(0));
    assert!(world.records().is_empty());
}

#[needs(root)]
fn a_record_of_an_account_that_is_gone_goes_as_well() {
    let mut world = World::new(Privilege::Setuid);
    world.write_keys();
    {
        let job = world.job();
        let _session = job.prepared();
    }
    let record = world.records().pop().expect("a record");
    expire(&record);
    world.remove_account("alice");
    let done = sweep(&world, "root", &[]);
    assert!(world.records().is_empty(), "{}", done.stdout);
    assert!(done.stdout.contains("not in the user database"), "{}", done.stdout);
    fs::write(&record, "{\"version\":1}").expect("a record");
    let kept = sweep(&world, "root", &[]);
    assert!(record.exists() && kept.stdout.contains("cannot be read"), "{}", kept.stdout);
    age(&record, 40);
    assert!(sweep(&world, "root", &[]).succeeded() && !record.exists(), "no job lasts 40 days");
}

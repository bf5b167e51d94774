//! Records of ended jobs, and what those jobs left behind.

use super::{action, age, change_record, crashed, credentials, items, ready, runs, sweep};
use nunbird_tests::needs;
use nunbird_tests::world::{Exit, Privilege, World};
use serde_json::{Value, json};
use std::fs;

#[needs(root)]
fn a_job_whose_runner_crashed_is_cleaned_up_as_its_user_when_it_is_over() {
    for (privilege, key, value) in [
        (Privilege::Setuid, "boot_id", json!("00000000-0000-4000-8000-000000000000")),
        (Privilege::FileCaps, "expires_at", json!(1)),
        (Privilege::RootRunner, "expires_at", json!(1)),
        (Privilege::None, "boot_id", json!("x")),
    ] {
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
        change_record(&record, key, value);
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
    let jobs = [("alice", 7001, "a1.json"), ("alice", 7002, "a2.json"), ("bob", 7003, "b1.json")];
    for (user, id, name) in jobs {
        let known = world.records();
        let job = world.job().id(id).user(user).with_repository();
        let mut session = job.prepared();
        assert!(session.stage("get_sources").succeeded());
        let record = world.records().into_iter().find(|record| !known.contains(record)).expect("a record");
        change_record(&record, "expires_at", json!(1));
        // Its name puts it where the test wants it in the order.
        fs::rename(&record, record.with_file_name(name)).expect("a name");
        if user == "alice" {
            // Owned by root, so that the account cannot remove it: its cleanup fails.
            let tmp = credentials(&world).to_string_lossy().replace("/000/", &format!("/{:03}/", id - 7001));
            fs::create_dir_all(format!("{tmp}/roots/own")).expect("directories");
        }
    }
    let done = sweep(&world, "root", &[]);
    let value: Value = serde_json::from_str(&done.stdout).expect("JSON");
    let told = value["items"].as_array().expect("items").iter();
    let told: Vec<_> = told.filter(|item| item["kind"] == "record").collect();
    let order: Vec<_> = told
        .iter()
        .map(|item| (item["path"].as_str().and_then(|path| path.rsplit('/').next()), item["action"].as_str()))
        .collect();
    let expected = [("a1.json", "failed"), ("b1.json", "removed"), ("a2.json", "failed")];
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
    change_record(&record, "expires_at", json!(1));
    let audited = world.audit().len();
    let runner = reap("nbt_runner", name);
    assert!(runner.exit == Exit::Code(1) && runner.stderr.contains("[no-record]"), "{}", runner.stderr);
    assert!(record.exists() && world.audit().len() == audited, "the runner fills the audit file");
    for name in ["../keys/site.json", ".lock", "0-0-0.json"] {
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
    change_record(&record, "expires_at", json!(1));
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

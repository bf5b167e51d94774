//! What a crashed gitlab-runner left, and `nunbirdctl sweep`, which removes it.

#![forbid(unsafe_code)]

use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nunbird_tests::require_root;
use nunbird_tests::runner::Session;
use nunbird_tests::world::{Exit, Finished, Privilege, World};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::{chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

fn ready(privilege: Privilege) -> World {
    let world = World::new(privilege);
    world.write_keys();
    world
}

fn sweep(world: &World, account: &str, arguments: &[&str]) -> Finished {
    let program = world.paths().bin.join("nunbirdctl");
    let runner = world.runner().name.as_str();
    let all = [&["sweep", "--format", "json", "--runner-user", runner], arguments].concat();
    world.run(&world.program(account, program, &all))
}

/// Kind, action and the whole item of each path's last component.
fn items(finished: &Finished) -> Vec<(String, String, String)> {
    let value: Value = serde_json::from_str(&finished.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}{}", finished.stdout, finished.stderr));
    let text = |item: &Value, key: &str| item[key].as_str().expect("a text").to_owned();
    let mut items: Vec<_> = value["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| {
            let path = PathBuf::from(text(item, "path"));
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, text(item, "action"), format!("{} {}", text(item, "reason"), item["said"]))
        })
        .collect();
    items.sort();
    items
}

fn action<'i>(items: &'i [(String, String, String)], name: &str) -> &'i str {
    let found = items.iter().find(|item| item.0 == name);
    found.map_or("not looked at", |item| item.1.as_str())
}

fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()).is_some_and(|state| state != 'Z')
}

/// A job whose runner is gone: a daemon, a file variable, a record.
fn crashed(session: &mut Session<'_>) {
    assert!(session.config().succeeded() && session.prepare().succeeded());
    assert!(session.stage("get_sources").succeeded());
    let daemon = "setsid sh -c 'echo $$ >~/new; mv ~/new ~/daemon; exec sleep 300' </dev/null >/dev/null 2>&1 &\n\
                  while [ ! -s ~/daemon ]; do sleep 0.02; done";
    assert!(session.run_text("build_script", daemon).succeeded());
}

fn change_record(record: &Path, key: &str, to: Value) {
    let mut value: Value = serde_json::from_slice(&fs::read(record).expect("a record")).expect("JSON");
    value[key] = to;
    fs::write(record, value.to_string()).expect("a record");
}

fn credentials(world: &World) -> PathBuf {
    let builds = world.host_path("/home/alice/.nunbird/builds");
    let host = fs::read_dir(builds).expect("builds").flatten().next().expect("this host's").path();
    host.join("000/physics/lattice.tmp")
}

#[test]
fn a_job_whose_runner_crashed_is_cleaned_up_as_its_user_when_it_is_over() {
    if !require_root() {
        return;
    }
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

#[test]
fn jobs_of_a_user_whose_clean_up_fails_wait_for_those_of_others() {
    if !require_root() {
        return;
    }
    let world = ready(Privilege::Setuid);
    let jobs = [("alice", 7001, "a1.json"), ("alice", 7002, "a2.json"), ("bob", 7003, "b1.json")];
    for (user, id, name) in jobs {
        let known = world.records();
        let job = world.job().id(id).user(user).with_repository();
        let mut session = job.prepared();
        assert!(session.stage("get_sources").succeeded());
        let record = world.records().into_iter().find(|record| !known.contains(record)).expect("a record");
        change_record(&record, "expires_at", json!(1));
        // By its name it stands where the test wants it.
        fs::rename(&record, record.with_file_name(name)).expect("a name");
        if user == "alice" {
            // Root's, so that the account cannot remove it: its clean-up fails.
            let tmp = credentials(&world);
            fs::create_dir_all(tmp.join("roots/own")).expect("directories");
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

#[test]
fn only_the_keeper_of_the_records_has_a_job_reaped_and_only_one_that_is_over() {
    if !require_root() {
        return;
    }
    for privilege in [Privilege::Setuid, Privilege::FileCaps] {
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
}

#[test]
fn a_record_of_an_account_that_is_gone_goes_as_well() {
    if !require_root() {
        return;
    }
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

/// Makes it look as if it had been changed so many days ago.
fn age(path: &Path, days: i64) {
    let inside = if path.is_symlink() { None } else { fs::read_dir(path).ok() };
    for entry in inside.into_iter().flatten().flatten() {
        age(&entry.path(), days);
    }
    let then = TimeSpec::new(nunbird_tests::issuer::now().cast_signed() - days * 86_400, 0);
    utimensat(nix::fcntl::AT_FDCWD, path, &then, &then, UtimensatFlags::NoFollowSymlink).expect("a time");
}

/// A directory of gitlab-runner's with a job response in it, and a link to a file that must stay.
fn job_directory(world: &World, name: &str, owner: u32, days: i64) -> PathBuf {
    let path = world.host_path("/tmp").join(name);
    fs::create_dir_all(path.join("script1")).expect("directories");
    fs::write(path.join("response.json"), "{\"token\":\"secret\"}").expect("a file");
    symlink("/home/alice/precious", path.join("link")).expect("a link");
    symlink("/home/alice", path.join("directory")).expect("a link");
    for one in [&path.join("script1"), &path.join("response.json"), &path] {
        chown(one, Some(owner), Some(owner)).expect("an owner");
    }
    age(&path, days);
    path
}

fn trace(world: &World, name: &str, owner: u32, days: i64) -> PathBuf {
    let path = world.host_path("/tmp").join(name);
    fs::write(&path, "a job's log\n").expect("a file");
    chown(&path, Some(owner), Some(owner)).expect("an owner");
    age(&path, days);
    path
}

#[test]
fn old_temporary_files_of_the_runner_go_and_nothing_else() {
    if !require_root() {
        return;
    }
    const RUNNER: u32 = 4001;
    for account in ["root", "nbt_runner"] {
        let world = ready(Privilege::Setuid);
        world.write_file("/home/alice/precious", "kept", "alice", 0o600);
        let old = job_directory(&world, "custom-executor101", RUNNER, 3);
        let old_trace = trace(&world, "trace102", RUNNER, 3);
        let stay = [
            job_directory(&world, "custom-executor103", RUNNER, 0),
            job_directory(&world, "custom-executor104", 4101, 9),
            job_directory(&world, "custom-executors105", RUNNER, 9),
            trace(&world, "trace106", 4101, 9),
            trace(&world, "trace107.log", RUNNER, 9),
            trace(&world, "custom-executor108", RUNNER, 9),
        ];
        let link = world.host_path("/tmp/custom-executor109");
        symlink("/home/alice", &link).expect("a link");
        // A stage has made a directory for its script just now.
        let busy = job_directory(&world, "custom-executor110", RUNNER, 9);
        age(&busy.join("response.json"), 0);
        let used = trace(&world, "trace111", RUNNER, 9);
        let open = File::open(&used).expect("a file");
        let dry = sweep(&world, account, &["--dry-run"]);
        assert_eq!(action(&items(&dry), "custom-executor101"), "would remove", "{}", dry.stdout);
        assert!(old.exists() && old_trace.exists());
        let done = sweep(&world, account, &[]);
        assert_eq!(done.exit, Exit::Code(0), "{}{}", done.stdout, done.stderr);
        let all = items(&done);
        for (name, expected) in [
            ("custom-executor101", "removed"),
            ("trace102", "removed"),
            ("custom-executor103", "kept"),
            ("custom-executor104", "not looked at"),
            ("custom-executors105", "not looked at"),
            ("trace106", "not looked at"),
            ("trace107.log", "not looked at"),
            ("custom-executor108", "not looked at"),
            ("custom-executor109", "not looked at"),
            ("custom-executor110", "kept"),
        ] {
            assert_eq!(action(&all, name), expected, "{account}: {name}");
        }
        assert!(!old.exists() && !old_trace.exists());
        assert!(stay.iter().all(|path| path.exists()) && link.is_symlink() && busy.exists());
        if account == "root" {
            assert!(used.exists() && all.iter().any(|item| item.2.contains("uses it")), "{all:?}");
        }
        drop(open);
        let precious = fs::read_to_string(world.host_path("/home/alice/precious"));
        assert_eq!(precious.expect("a link was followed"), "kept");
    }
}

#[test]
fn a_user_cannot_keep_the_runners_files_by_naming_them() {
    if !require_root() {
        return;
    }
    let world = ready(Privilege::Setuid);
    let old = job_directory(&world, "custom-executor301", 4001, 9);
    let mut sleeper = Command::new("/bin/sleep");
    sleeper.arg0("/tmp/custom-executor301").arg("300").env_clear().uid(4101).gid(4101);
    let mut sleeper = sleeper.spawn().expect("a process");
    let done = sweep(&world, "root", &[]);
    sleeper.kill().and_then(|()| sleeper.wait()).expect("its end");
    assert_eq!(action(&items(&done), "custom-executor301"), "removed", "{}", done.stdout);
    assert!(!old.exists());
}

#[test]
fn the_directory_of_a_job_that_is_not_over_stays_however_old_it_is() {
    if !require_root() {
        return;
    }
    let world = ready(Privilege::Setuid);
    let job = world.job();
    let session = job.prepared();
    let directory = session.directory().to_owned();
    age(&directory, 9);
    let place = directory.parent().expect("a parent").to_str().expect("text").to_owned();
    let name = directory.file_name().expect("a name").to_string_lossy().into_owned();
    let kept = sweep(&world, "root", &["--tmpdir", &place]);
    assert_eq!(action(&items(&kept), &name), "kept", "{}", kept.stdout);
    assert!(kept.stdout.contains("its job is not over"), "{}", kept.stdout);
    change_record(&world.records().pop().expect("a record"), "expires_at", json!(1));
    let done = sweep(&world, "root", &["--tmpdir", &place]);
    assert_eq!(action(&items(&done), &name), "removed", "{}", done.stdout);
    assert!(!directory.exists() && world.records().is_empty());
}

#[test]
fn a_sweep_by_anybody_else_is_refused() {
    if !require_root() {
        return;
    }
    let world = ready(Privilege::Setuid);
    let old = job_directory(&world, "custom-executor201", 4001, 9);
    let refused = sweep(&world, "alice", &[]);
    assert!(
        refused.exit == Exit::Code(1) && refused.stderr.contains("run this as root"),
        "{}",
        refused.stderr
    );
    assert!(old.exists());
    let text = world.run(&world.program(
        "root",
        world.paths().bin.join("nunbirdctl"),
        &["sweep", "--runner-user", "nbt_runner"],
    ));
    assert_eq!(text.success().lines().last(), Some("1 removed, 0 kept, 0 failed"));
    let none = world.run(&world.program(
        "root",
        world.paths().bin.join("nunbirdctl"),
        &["sweep", "--runner-user", "nobody-of-that-name"],
    ));
    assert!(none.exit == Exit::Code(1) && none.stdout.contains("--runner-user"), "{}", none.stdout);
}

#[test]
fn old_build_directories_of_people_who_start_no_jobs_go_as_themselves() {
    if !require_root() {
        return;
    }
    for privilege in [Privilege::Setuid, Privilege::FileCaps, Privilege::None] {
        let world = ready(privilege);
        let keeper = if privilege == Privilege::None { "alice" } else { "root" };
        let (old, live) = (world.job(), world.job().id(7002));
        let (mut first, mut second) = (old.begin(), live.begin());
        for session in [&mut first, &mut second] {
            assert!(session.config().succeeded() && session.prepare().succeeded());
        }
        assert!(first.cleanup().succeeded());
        let place = credentials(&world).ancestors().nth(3).expect("this host's").to_owned();
        let builds = || ["000", "001"].map(|name| place.join(name).exists());
        assert_eq!(builds(), [true, true]);
        assert!(
            items(&sweep(&world, keeper, &[])).iter().all(|item| item.0 != "~alice"),
            "the site has no rules"
        );
        world.reconfigure("[audit]", "[directories]\nmax_age = \"1h\"\n\n[audit]");
        let young = sweep(&world, keeper, &[]);
        assert_eq!(
            (action(&items(&young), "~alice"), builds()),
            ("not looked at", [true, true]),
            "{}",
            young.stdout
        );
        for name in [".000.job", ".001.job", "000", "001"] {
            age(&place.join(name), 3);
        }
        let dry = sweep(&world, keeper, &["--dry-run"]);
        assert_eq!((action(&items(&dry), "~alice"), builds()), ("kept", [true, true]), "{}", dry.stdout);
        let done = sweep(&world, keeper, &["--account", "alice"]);
        assert_eq!(done.exit, Exit::Code(0), "{privilege:?}: {}{}", done.stdout, done.stderr);
        assert_eq!(action(&items(&done), "~alice"), "removed", "{}", done.stdout);
        assert_eq!(builds(), [false, true], "{privilege:?}: 001 has a job");
        assert!(second.cleanup().succeeded());
        for account in ["nbt_runner", "bob"] {
            let program = world.paths().bin.join("nunbird-auth");
            let refused = world.run(&world.program(account, program, &["tidy", "alice"]));
            assert_ne!(refused.exit, Exit::Code(0), "{privilege:?}: {account}: {}", refused.stdout);
        }
    }
    let world = ready(Privilege::Setuid);
    world.reconfigure("[audit]", "[directories]\nmax_age = \"1h\"\n\n[audit]");
    let system = sweep(&world, "root", &["--account", "queue"]);
    assert_eq!(action(&items(&system), "~queue"), "kept", "{}", system.stdout);
    assert_eq!(system.exit, Exit::Code(0), "the audit file remembers accounts for ever");
}

//! The runner's own temporary files.

use super::{action, age, expire, items, ready, sweep};
use nunbird_tests::needs;
use nunbird_tests::world::enter::Mount;
use nunbird_tests::world::{Exit, Privilege, World};
use std::fs::{self, File};
use std::os::unix::fs::{chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

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

#[needs(root)]
fn old_temporary_files_of_the_runner_go_and_nothing_else() {
    const RUNNER: u32 = 4001;
    for account in ["root", "nbt_runner"] {
        let world = ready(Privilege::Setuid);
        world.write_file("/home/alice/precious", "kept", "alice", 0o600);
        // Ids that no job of another test has: what they use is kept.
        let old = job_directory(&world, "custom-executor999101", RUNNER, 3);
        let old_trace = trace(&world, "trace999102", RUNNER, 3);
        let stay = [
            job_directory(&world, "custom-executor999103", RUNNER, 0),
            job_directory(&world, "custom-executor999104", 4101, 9),
            job_directory(&world, "custom-executors999105", RUNNER, 9),
            trace(&world, "trace999106", 4101, 9),
            trace(&world, "trace999107.log", RUNNER, 9),
            trace(&world, "custom-executor999108", RUNNER, 9),
        ];
        let link = world.host_path("/tmp/custom-executor999109");
        symlink("/home/alice", &link).expect("a link");
        // A stage has just created a directory for its script.
        let busy = job_directory(&world, "custom-executor999110", RUNNER, 9);
        age(&busy.join("response.json"), 0);
        let used = trace(&world, "trace999111", RUNNER, 9);
        let open = File::open(&used).expect("a file");
        let dry = sweep(&world, account, &["--dry-run"]);
        assert_eq!(action(&items(&dry), "custom-executor999101"), "would remove", "{}", dry.stdout);
        assert!(old.exists() && old_trace.exists());
        let done = sweep(&world, account, &[]);
        assert_eq!(done.exit, Exit::Code(0), "{}{}", done.stdout, done.stderr);
        let all = items(&done);
        for (name, expected) in [
            ("custom-executor999101", "removed"),
            ("trace999102", "removed"),
            ("custom-executor999103", "kept"),
            ("custom-executor999104", "not looked at"),
            ("custom-executors999105", "not looked at"),
            ("trace999106", "not looked at"),
            ("trace999107.log", "not looked at"),
            ("custom-executor999108", "not looked at"),
            ("custom-executor999109", "not looked at"),
            ("custom-executor999110", "kept"),
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

#[needs(root)]
fn a_user_cannot_keep_the_runners_files_by_naming_them() {
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

#[needs(root)]
fn the_directory_of_a_job_that_is_not_over_stays_however_old_it_is() {
    let world = ready(Privilege::Setuid);
    let job = world.job();
    let session = job.prepared();
    let directory = session.directory().to_owned();
    age(&directory, 9);
    let place = directory.parent().expect("a parent").to_str().expect("text").to_owned();
    let name = directory.file_name().expect("a name").to_string_lossy().into_owned();
    let kept = sweep(&world, "root", &["--tmpdir", &place]);
    assert_eq!(action(&items(&kept), &name), "kept", "{}", kept.stdout);
    assert!(kept.stdout.contains("its job has not ended"), "{}", kept.stdout);
    expire(&world.records().pop().expect("a record"));
    let done = sweep(&world, "root", &["--tmpdir", &place]);
    assert_eq!(action(&items(&done), &name), "removed", "{}", done.stdout);
    assert!(!directory.exists() && world.records().is_empty());
}

#[needs(root)]
fn a_sweep_by_anybody_else_is_refused() {
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

/// A FIFO over `/proc/PID/cmdline` stands in for a process that holds its mmap_lock, which takes a
/// FUSE file system that does not respond: a process that opens it waits forever.
#[needs(root)]
fn a_process_of_the_runners_that_blocks_who_reads_its_memory_does_not_stop_the_sweep() {
    let world = ready(Privilege::Setuid);
    let job = world.job();
    let _session = job.prepared();
    expire(&world.records().pop().expect("a record"));
    let old = job_directory(&world, "custom-executor401", 4001, 9);
    let pipe = world.root().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
    let mut sleeper = Command::new("/bin/sleep");
    let mut sleeper = sleeper.arg("300").env_clear().uid(4001).gid(4001).spawn().expect("a process");
    let target = PathBuf::from(format!("/proc/{}/cmdline", sleeper.id()));
    let program = world.paths().bin.join("nunbirdctl");
    let words = ["-s", "KILL", "60", program.to_str().expect("text"), "sweep", "--format", "json"];
    let all = [words.as_slice(), &["--runner-user", "nbt_runner"]].concat();
    let mut spec = world.program("root", "/usr/bin/timeout", &all);
    spec.mounts.as_mut().expect("a namespace").push(Mount::Bind { source: pipe, target });
    let begun = Instant::now();
    let done = world.run(&spec);
    sleeper.kill().and_then(|()| sleeper.wait().map(drop)).expect("its end");
    assert!(done.succeeded(), "{:?} {}{}", done.exit, done.stdout, done.stderr);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert!(world.records().is_empty(), "the record of a job that is over stays: {}", done.stdout);
    // What that process names is unknown, and it could be this file.
    assert!(old.exists() && done.stdout.contains("its arguments cannot be read"), "{}", done.stdout);
    let next = sweep(&world, "root", &[]);
    assert_eq!(action(&items(&next), "custom-executor401"), "removed", "{}", next.stdout);
}
